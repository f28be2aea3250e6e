"""A site's rows while its agent runs: judged before anything is computed, read again when they may have changed, and a refusal that tells nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from structlog.testing import capture_logs

from client.data.connectors.files import CsvFile
from client.data.report import DataError, Unreadable
from client.data.rows import DATABASE_STAYS, SiteRows
from protos.frames import Refusal, RefusalCode
from protos.secure_codec import decode_answer, encode_secure_request
from tests.client import loans_for_tests as loans
from tests.client.secure_for_tests import VICTIM, SecureBank, Sum, secure_bank
from tests.contracts import sources_for_tests as places

CANARY = "canary-4711"


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def with_column(name: str, values: object) -> pa.Table:
    data = loans.loans(200)
    return data.set_column(data.column_names.index(name), name, pa.array(values))


def written(data: pa.Table) -> Callable[[Path], None]:
    return lambda path: pq.write_table(data, path)


CAUSES: dict[str, Callable[[Path], None]] = {
    "no file": lambda path: path.unlink(),
    "no Parquet file": lambda path: path.write_text(CANARY) and None,
    "no rows": written(loans.loans(200).slice(0, 0)),
    "no column": written(loans.loans(200).drop_columns(["term"])),
    "another type": written(with_column("amount", [CANARY] * 200)),
    "an infinite value": written(with_column("amount", [float("inf")] + [1.0] * 199)),
    "a value that is missing": written(with_column("amount", [float("nan")] + [1.0] * 199)),
    "keys that two rows have": written(with_column("loan_id", [1] * 200)),
    "a third class": written(with_column("status", [CANARY] + ["bad", "good"] * 99 + ["bad"])),
    "words of another code": written(with_column("term", [CANARY] * 200)),
}


def test_memory_that_runs_out_while_rows_are_read_is_no_trouble_of_the_rows(
    bank: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow's own error: the centre hears that something failed, and the next request reads again."""
    frame = encode_secure_request(Sum(bank).advertise_request())
    bank.start(VICTIM)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: [pa.allocate_buffer(1 << 62)])
    with capture_logs() as told:
        said = decode_answer(bank.participant(VICTIM).answer(frame)).body
    assert isinstance(said, Refusal)
    assert said.code is RefusalCode.FAILED
    assert any(str(each.get("reason")).startswith("an allocation failed") for each in told)
    monkeypatch.undo()
    assert not isinstance(decode_answer(bank.participant(VICTIM).answer(frame)).body, Refusal)


def test_every_cause_gives_the_same_signed_bytes(bank: SecureBank) -> None:
    """`contract`, whatever it was and however far the checks had come: the centre cannot ask for a record by what is refused."""
    frame = encode_secure_request(Sum(bank).advertise_request())
    path = bank.folder / VICTIM / "rows.parquet"
    replies, logs = {}, ""
    for cause, spoil in CAUSES.items():
        written(loans.loans(200))(path)
        spoil(path)
        bank.start(VICTIM)
        with capture_logs() as told:
            replies[cause] = bank.participant(VICTIM).answer(frame)
        logs += json.dumps(told, default=str)
        assert any(each.get("code") == "CONTRACT" for each in told), cause
    assert len(set(replies.values())) == 1
    body = decode_answer(replies["no file"]).body
    assert isinstance(body, Refusal)
    assert (body.code, body.reason) == (RefusalCode.CONTRACT, "")
    assert body.signature
    assert CANARY not in logs


def test_rows_that_were_mended_are_taken_at_the_next_question(bank: SecureBank) -> None:
    path = bank.folder / VICTIM / "rows.parquet"
    good = path.read_bytes()
    CAUSES["an infinite value"](path)
    asked = Sum(bank)
    assert bank.refusal(VICTIM, asked.advertise_request()).code is RefusalCode.CONTRACT
    path.write_bytes(good)
    assert bank.steps(VICTIM, asked.advertise_request())


# --- when rows are read ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(tmp_path: Path, clock: Clock) -> SiteRows:
    return SiteRows(tmp_path, clock)


def test_a_file_is_read_again_only_when_it_was_written(held: SiteRows, tmp_path: Path) -> None:
    source = places.parquet(places.rows(), tmp_path)
    first = held.table(source, places.CONTRACT)
    assert held.table(source, places.CONTRACT) is first
    places.parquet(places.rows(150), tmp_path)
    assert len(held.table(source, places.CONTRACT).keys) == 150


def test_rows_become_stale_overnight(held: SiteRows, clock: Clock, tmp_path: Path) -> None:
    source = places.parquet(places.rows(), tmp_path)
    held.table(source, places.CONTRACT)
    clock.now += timedelta(days=61)
    with pytest.raises(DataError, match="has no date of the last 60 days"):
        held.table(source, places.CONTRACT)


def test_a_failure_is_tried_again_later_and_later(held: SiteRows, clock: Clock, tmp_path: Path) -> None:
    source = places.source(file=tmp_path / "cards.sqlite", table="cards")
    tries = 0
    for _ in range(200):
        with capture_logs() as told, pytest.raises(Unreadable, match="does not exist"):
            held.table(source, places.CONTRACT)
        tries += sum(each["event"] == "data could not be read" for each in told)
        clock.now += timedelta(seconds=1)
    assert tries == 9  # after 0, 1, 3, 7, 15, 31, 63, 123 and 183 s: a minute at most
    places.sqlite(places.rows(), tmp_path)
    clock.now += timedelta(minutes=1)
    assert held.table(source, places.CONTRACT)


@pytest.mark.postgres
def test_a_database_is_read_again_after_a_while_and_half_a_table_is_none(
    held: SiteRows, clock: Clock
) -> None:
    with places.postgres() as url:
        source = places.in_postgres(url, places.rows(), driver="postgresql")
        first = held.table(source, places.CONTRACT)
        places.execute(url, "DELETE FROM risk.cards WHERE months > 100")
        assert held.table(source, places.CONTRACT) is first
        clock.now += DATABASE_STAYS
        second = held.table(source, places.CONTRACT)
        assert len(second.keys) < len(first.keys)
        # Rows stay with whoever took them, although the place has others now.
        assert first.target.shape == (200,)
        assert np.isfinite(first.columns["amount"]).all()  # type: ignore[arg-type]
        _break_in_the_middle(url)
        clock.now += DATABASE_STAYS
        with pytest.raises(Unreadable):
            held.table(source, places.CONTRACT)
        places.execute(url, "DROP VIEW risk.cards", "ALTER TABLE risk.kept RENAME TO cards")
        clock.now += timedelta(seconds=2)
        assert len(held.table(source, places.CONTRACT).keys) == len(second.keys)


def _break_in_the_middle(url: URL) -> None:
    """The table's last row ends the connection that reads it."""
    with create_engine(url).begin() as connection:
        connection.execute(text("ALTER TABLE risk.cards RENAME TO kept"))
        connection.execute(
            text(
                "CREATE VIEW risk.cards AS SELECT * FROM risk.kept WHERE account < (SELECT max(account) FROM risk.kept)"
                " UNION ALL SELECT * FROM risk.kept WHERE pg_terminate_backend(pg_backend_pid())"
            )
        )


def test_a_source_that_cannot_be_used_is_not_read_at_every_question(
    held: SiteRows, clock: Clock, tmp_path: Path
) -> None:
    """All its records are read to count those that are no numbers: a question a second would be the machine's whole day."""
    source = places.fixed(places.rows(), tmp_path)
    assert source.file is not None
    source.file.write_bytes(source.file.read_bytes().replace(b"\xf0", b"\x5c"))
    tries = 0
    for _ in range(20):
        with capture_logs() as told, pytest.raises(DataError, match="hold no zoned number"):
            held.table(source, places.CONTRACT)
        tries += sum(each["event"] == "data could not be read" for each in told)
    assert tries == 1
    places.fixed(places.rows(), tmp_path)
    clock.now += timedelta(seconds=1)
    assert held.table(source, places.CONTRACT)


def test_a_file_that_is_written_while_it_is_read_is_no_table(
    held: SiteRows, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has no snapshot: what was read would be the one half of the old rows, and the other of the new."""
    source, file = places.comma(places.rows(), tmp_path), tmp_path / "cards.csv"
    read = CsvFile.batches

    def written_meanwhile(self: CsvFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from read(self, columns)
        if self.path == file:
            with file.open("a") as more:
                more.write("\n")

    monkeypatch.setattr(CsvFile, "batches", written_meanwhile)
    with pytest.raises(Unreadable, match="was written while it was read"):
        held.table(source, places.CONTRACT)
    monkeypatch.undo()
    clock.now += timedelta(seconds=1)
    assert held.table(source, places.CONTRACT)


def test_what_sqlite_has_committed_beside_its_file_is_seen(held: SiteRows, tmp_path: Path) -> None:
    source = places.sqlite(places.rows(), tmp_path)
    with closing(sqlite3.connect(tmp_path / "cards.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        first = held.table(source, places.CONTRACT)
        database.execute("DELETE FROM cards WHERE months > 100")
        assert len(held.table(source, places.CONTRACT).keys) < len(first.keys)


def test_a_layout_that_was_mended_is_used(held: SiteRows, tmp_path: Path) -> None:
    source = places.fixed(places.rows(), tmp_path)
    assert source.layout is not None
    good = source.layout.read_text()
    source.layout.write_text(good.replace("months: {at: 25", "months: {at: 26"))
    with pytest.raises(DataError):
        held.table(source, places.CONTRACT)
    source.layout.write_text(good)
    assert held.table(source, places.CONTRACT)
