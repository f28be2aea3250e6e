"""What every connector keeps, and what only one of them can get wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from client.data.connectors.duck import _CONFIG
from client.data.connectors.interface import BATCH_ROWS
from client.data.connectors.open import connector_of
from client.data.reading import Reading, read, read_source
from client.data.report import DataError, Unreadable
from protos.contract import Contract
from protos.documents import DocumentError
from protos.site_data import DataSource
from strategies.features import Scaling
from tests.contracts import sources_for_tests as places
from tests.contracts.sources_for_tests import CONTRACT, FEATURES, TODAY, arrow, rows

SCALING = Scaling(mean=(0.3, 0.5, 0.4, 0.2), std=(0.2, 0.3, 0.1, 0.4))


@pytest.fixture
def server() -> Iterator[URL]:
    with places.postgres() as url:
        yield url


@pytest.fixture(
    params=[each.kind for each in places.FILES]
    + [pytest.param(each, marks=pytest.mark.postgres) for each in places.DATABASES]
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> DataSource:
    """The same 200 rows, in every kind of place."""
    for each in places.FILES:
        if each.kind == request.param:
            return each.put(rows(), tmp_path)
    return places.in_postgres(request.getfixturevalue("server"), rows(), driver=request.param)


def taken(source: DataSource, contract: Contract = CONTRACT, spool: Path | None = None) -> Reading:
    return read_source(source, contract, today=TODAY, spool=spool)


def digest(reading: Reading) -> str:
    """Of all that a model, a hold-out and a unit depend on."""
    table = reading.accepted()
    found = hashlib.sha256(CONTRACT.feature_spec(FEATURES).encode(table.columns, SCALING).tobytes())
    found.update(table.target.tobytes())
    found.update(repr((list(table.keys), list(table.customers or ()))).encode())
    return found.hexdigest()


def test_the_same_rows_are_the_same_table_through_every_connector(source: DataSource) -> None:
    table = taken(source).accepted()
    assert list(table.columns) == [*FEATURES]  # neither protected attributes nor dates are kept
    assert list(table.keys) == sorted((each["account"] for each in rows()), key=lambda key: (len(key), key))
    in_memory = read(places_in_memory(), CONTRACT, renamed={}, today=TODAY, spool=None)
    assert digest(taken(source)) == digest(in_memory)


def places_in_memory() -> object:
    from client.data.connectors.memory import InMemory

    return InMemory(arrow(rows()), "cards")


def test_columns_come_as_asked_in_bounded_batches(source: DataSource) -> None:
    batches = list(connector_of(source).batches(["months", "client"]))
    assert sum(each.num_rows for each in batches) == 200
    assert all(each.num_rows <= BATCH_ROWS for each in batches)
    assert {tuple(each.schema.names) for each in batches} == {("months", "client")}


def test_a_column_that_is_not_there_is_named_with_the_nearest(source: DataSource) -> None:
    odd = source.model_copy(update={"columns": {"amount": "amout"}})
    report = taken(odd).report
    assert not report.accepted
    assert report.sentence.endswith("is missing; the nearest is 'amount'")
    assert report.rows == 0


def test_what_is_not_there_is_unreadable_in_one_line(source: DataSource) -> None:
    gone = {"file": source.file.with_name("gone")} if source.file else {"table": "risk.gone"}
    format_ = {} if source.file is None else {"format": source.kind}
    with pytest.raises(Unreadable) as caught:
        taken(source.model_copy(update=gone | format_))
    assert "\n" not in str(caught.value)


def test_a_table_is_spooled_and_sorted_to_the_same_bits(source: DataSource, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    spooled = read(connector_of(source), CONTRACT, renamed={}, today=TODAY, spool=tmp_path, most=1000)
    assert sorted(tmp_path.iterdir()) == before  # a file without a name
    assert digest(spooled) == digest(taken(source))


# --- more rows than a batch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow file", "fixed-width", "sqlite", "duckdb"])
def test_batches_are_bounded_however_rows_are_stored(kind: str, tmp_path: Path) -> None:
    many = [{**each, "account": str(place)} for place, each in enumerate(rows(1000) * 70)]
    put = next(each.put for each in places.FILES if each.kind == kind)
    sizes = [each.num_rows for each in connector_of(put(many, tmp_path)).batches(["account"])]
    assert sum(sizes) == 70_000
    assert max(sizes) <= BATCH_ROWS


# --- databases ----------------------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("driver", places.DATABASES)


@pytest.mark.postgres
@BOTH
def test_a_view_that_would_write_is_refused_by_the_server(server: URL, driver: str) -> None:
    places.execute(
        server,
        "CREATE TABLE seen (n int)",
        "CREATE FUNCTION look() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO seen VALUES (1) RETURNING n'",
        "CREATE VIEW sly AS SELECT look() AS n",
    )
    sly = places.source(url=places.named(server, driver), table="sly")
    with pytest.raises(Unreadable, match="sly cannot be read"):
        list(connector_of(sly).batches(["n"]))
    with create_engine(server).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM seen")).scalar() == 0


@pytest.mark.postgres
@BOTH
def test_names_are_quoted_and_never_statements(server: URL, driver: str) -> None:
    places.execute(
        server,
        """CREATE TABLE odd ("select" int, "a""; DROP TABLE odd; --" int)""",
        "INSERT INTO odd VALUES (1, 2)",
    )
    odd = connector_of(places.source(url=places.named(server, driver), table="odd"))
    assert odd.columns() == ["select", 'a"; DROP TABLE odd; --']
    (batch,) = odd.batches(odd.columns())
    assert [each.to_pylist() for each in batch.columns] == [[1], [2]]


@pytest.mark.postgres
@BOTH
def test_a_database_that_goes_away_in_the_middle_gives_no_rows(server: URL, driver: str) -> None:
    places.execute(
        server,
        "CREATE TABLE long AS SELECT n AS account, repeat('x', 200) AS client, 1.5 AS amount, 'bad' AS outcome"
        " FROM generate_series(1, 150000) n",
    )
    asked = connector_of(places.source(url=places.named(server, driver), table="long"))
    batches = asked.batches(["account", "client"])
    next(batches)
    with create_engine(server).connect() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert ended.scalars().all() == [True]
    with pytest.raises(Unreadable, match="long cannot be read") as caught:
        list(batches)
    assert "xxx" not in str(caught.value)


@pytest.mark.postgres
def test_what_the_server_says_is_not_repeated(server: URL) -> None:
    """PostgreSQL quotes the value that it cannot read."""
    places.execute(
        server,
        "CREATE TABLE raw AS SELECT 'canary-4711'::text AS t",
        "CREATE VIEW broken AS SELECT t::int AS n FROM raw",
    )
    broken = connector_of(places.source(url=places.named(server, "postgresql"), table="broken"))
    with pytest.raises(Unreadable) as caught:
        list(broken.batches(["n"]))
    assert "canary" not in str(caught.value)


def test_a_server_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(places.SECRET)
    (tmp_path / "password").chmod(0o600)
    for driver in places.DATABASES:
        away = places.source(
            url=f"{driver}://reader@127.0.0.1:1/loans",
            table="cards",
            password={"file": tmp_path / "password"},
        )
        with pytest.raises(Unreadable, match="cards cannot be read") as caught:
            taken(away)
        connector = connector_of(away)
        assert places.SECRET not in f"{caught.value} {connector!r} {away!r}"


def test_a_password_is_read_again_each_time_and_its_absence_is_no_end(tmp_path: Path) -> None:
    away = places.source(
        url="postgresql://reader@127.0.0.1:1/loans", table="cards", password={"file": tmp_path / "none"}
    )
    with pytest.raises(Unreadable, match="the password of the database of cards is not to be had"):
        taken(away)


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(DataError, match="asks for oracle"):
        taken(places.source(url="oracle+oracledb://reader@db.example:1521/loans", table="cards"))


def test_the_environment_and_files_of_libpq_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    given = connector_of(
        places.source(url="postgresql://reader@db.example/loans?sslrootcert=/etc/ca.pem", table="cards")
    )
    said = given._conninfo()  # type: ignore[attr-defined]
    assert "sslmode='verify-full'" in said
    assert "passfile='/dev/null/none'" in said
    assert "default_transaction_read_only=on" in said
    for name in ("hostaddr", "password", "sslcert", "sslkey"):  # of PGHOSTADDR and so on
        assert f"{name}=''" in said
    assert "sslrootcert='/etc/ca.pem'" in said
    with pytest.raises(DataError, match="has an option options"):
        connector_of(
            places.source(url="postgresql://reader@db.example/loans?options=-c", table="c")
        )._conninfo()  # type: ignore[attr-defined]


def test_a_sqlite_files_name_is_a_name_and_not_a_part_of_a_url(tmp_path: Path) -> None:
    made = places.sqlite(rows(), tmp_path)
    assert made.file is not None
    odd = made.file.rename(tmp_path / "cards?mode=rwc#1%41.sqlite")
    assert taken(made.model_copy(update={"file": odd})).report.accepted
    assert list(tmp_path.iterdir()) == [odd]


def test_a_sqlite_file_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="does not exist"):
        taken(places.source(file=tmp_path / "none.sqlite", table="cards"))
    assert not (tmp_path / "none.sqlite").exists()


# --- fixed-width ----------------------------------------------------------------------------------------------------------


def in_duckdb(folder: Path, *statements: str) -> DataSource:
    with duckdb.connect(str(folder / "cards.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)
    return places.source(file=folder / "cards.duckdb", table="cards")


def test_a_value_that_a_view_of_duckdb_cannot_take_is_unreadable_and_not_repeated(tmp_path: Path) -> None:
    """It comes as an OSError of pyarrow in the middle of the rows, which is nobody's refusal."""
    view = "CREATE VIEW cards AS SELECT n, CAST(IF(n = 250000, '{}', '1') AS INTEGER) AS m FROM range(300000) r(n)"
    place = in_duckdb(tmp_path, view.format(places.SECRET))
    with pytest.raises(Unreadable) as caught:
        list(connector_of(place).batches(["n", "m"]))
    assert places.SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_duckdb_leaves_no_rows_beside_its_file(tmp_path: Path) -> None:
    """A view that sorts more than fits would spill rows into files that all may read: it is out of memory."""
    rows_ = "SELECT md5(n::varchar) || md5((n + 1)::varchar) AS word FROM range(6000000) r(n)"
    place = in_duckdb(tmp_path, f"CREATE VIEW cards AS {rows_} ORDER BY word DESC, md5(word)")
    with pytest.raises(MemoryError):
        list(connector_of(place).batches(["word"]))
    with duckdb.connect(str(place.file), read_only=True, config=dict(_CONFIG)) as connection:
        assert connection.sql("SELECT current_setting('temp_directory')").fetchall() == [("",)]
    assert [each.name for each in tmp_path.iterdir()] == ["cards.duckdb"]


def test_long_records_come_in_smaller_batches(tmp_path: Path) -> None:
    layout = (
        "covenant: layout/v1\ncode_page: cp037\nrecord_bytes: 100000\nfields:\n  account: {at: 1, bytes: 4}\n"
    )
    (tmp_path / "cards.layout.yaml").write_text(layout)
    with (tmp_path / "cards.dat").open("wb") as file:
        file.truncate(100_000 * 400)
    place = places.source(
        file=tmp_path / "cards.dat", format="fixed-width", layout=tmp_path / "cards.layout.yaml"
    )
    sizes = [each.num_rows for each in connector_of(place).batches(["account"])]
    assert (sum(sizes), max(sizes)) == (400, 167)


def test_a_field_that_is_no_number_is_counted_and_not_shown(tmp_path: Path) -> None:
    given = places.fixed(rows(), tmp_path)
    data = bytearray((tmp_path / "cards.dat").read_bytes())
    data[18:24] = b"\xab\xcd\xef\xab\xcd\xef"
    data[60 + 18 : 60 + 24] = b"\xff" * 6
    (tmp_path / "cards.dat").write_bytes(data)
    with pytest.raises(DataError) as caught:
        taken(given)
    assert str(caught.value) == (
        "column 'income' of cards.dat has 2 records that hold no packed number; compare the layout with the copybook"
    )


def test_an_export_that_ends_within_a_record_is_refused(tmp_path: Path) -> None:
    given = places.fixed(rows(), tmp_path)
    (tmp_path / "cards.dat").write_bytes((tmp_path / "cards.dat").read_bytes()[:-1])
    with pytest.raises(Unreadable, match="ends within a record"):
        taken(given)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("record_bytes: 60", "record_bytes: 40", "opened ends at byte 44; a record has 40"),
        ("cp037", "utf-16", "has characters of several bytes"),
        ("cp037", "cp-037-x", "is not known to Python"),
        ("bytes: 2, type: binary", "bytes: 3, type: binary", "a binary field has 2, 4 or 8 bytes"),
        ("bytes: 6}", "bytes: 6, decimals: 2}", "text has no implied decimals"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    given = places.fixed(rows(), tmp_path)
    (tmp_path / "cards.layout.yaml").write_text(places.LAYOUT.replace(old, new))
    with pytest.raises(DataError) as caught:
        taken(given)
    assert sentence in str(caught.value)


def test_signs_of_zoned_and_packed_numbers_in_ebcdic_and_ascii() -> None:
    from client.data.connectors.fixed_width import LayoutField, _decoded

    def decoded(kind: str, page: str, *values: bytes) -> list[float | None]:
        raw = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(values), -1)
        rule = LayoutField(at=1, bytes=raw.shape[1], type=kind, decimals=1)  # type: ignore[arg-type]
        found, bad = _decoded(rule, raw, page)
        assert bad == 0
        return list(found.to_pylist())

    assert decoded("packed", "cp037", b"\x12\x3c", b"\x12\x3d", b"\x12\x3f", b"\x00\x00", b"\x40\x40") == [
        12.3,
        -12.3,
        12.3,
        None,
        None,
    ]
    assert decoded("zoned", "cp500", b"\xf1\xf2\xc3", b"\xf1\xf2\xd3", b"\xf1\xf2\xf3", b"\x40\x40\x40") == [
        12.3,
        -12.3,
        12.3,
        None,
    ]
    assert decoded("zoned", "latin-1", b"123", b"12s", b"   ") == [12.3, -12.3, None]
    assert decoded("binary", "cp037", (1230).to_bytes(4, "big"), (-1230).to_bytes(4, "big", signed=True)) == [
        123.0,
        -123.0,
    ]


# --- site.yaml ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({}, "name the file or the url"),
        ({"file": Path("a.parquet"), "url": "postgresql://r@h/d", "table": "t"}, "and not both"),
        ({"file": Path("a.duckdb")}, "rows in duckdb are found by their table"),
        ({"file": Path("a.dat"), "format": "fixed-width"}, "are found by their layout"),
        ({"file": Path("a.parquet"), "table": "t"}, "does not belong to rows in parquet"),
        ({"file": Path("a.parquet"), "password": {"credential": "x"}}, "does not belong to rows in parquet"),
        ({"url": f"postgresql://r:{places.SECRET}@h/d", "table": "t"}, "a password is never written here"),
        (
            {"url": f"postgresql://r@h/d?password={places.SECRET}", "table": "t"},
            "a password is never written here",
        ),
        ({"url": f"mssql+pyodbc://r:{places.SECRET}#1@h/d", "table": "t"}, "has an @ or # after its host"),
        ({"url": f"oracle://r:{places.SECRET}/1@h/d", "table": "t"}, "has an @ or # after its host"),
        ({"url": f"oracle://r:{places.SECRET}?1@h/d", "table": "t"}, "has an @ or # after its host"),
        (
            {"url": f"mssql+pyodbc://h/d?odbc_connect=UID%3Dr%3BPWD%3D{places.SECRET}", "table": "t"},
            "a password is never written here",
        ),
        ({"url": "sqlite:///x.db", "table": "t"}, "a SQLite database is a file"),
        ({"url": "loans", "table": "t"}, "names no database and host"),
    ],
)
def test_a_source_that_cannot_be_is_refused_without_its_secret(
    facts: dict[str, object], sentence: str
) -> None:
    from protos.documents import make_document

    with pytest.raises(DocumentError) as caught:
        make_document(DataSource, "site.yaml", contract="cards@2", contract_file=Path("c"), **facts)
    assert sentence in str(caught.value)
    assert places.SECRET not in str(caught.value)


def test_a_parquet_file_is_read_without_its_other_columns(tmp_path: Path) -> None:
    pq.write_table(arrow(rows()).append_column("diary", pa.array(["x"] * 200)), tmp_path / "c.parquet")
    with closing(connector_of(places.source(file=tmp_path / "c.parquet")).batches(["sex"])) as found:  # type: ignore[type-var]
        assert next(found).schema.names == ["sex"]
