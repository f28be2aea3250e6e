"""The same rows in every place that a connector reads: each maker writes them in an order of its own, and says how site.yaml names them."""

from __future__ import annotations

import csv
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from protos.contract import Contract
from protos.documents import read_document
from protos.site_data import DataSource

CONTRACT = read_document(
    """\
covenant: contract/v1
name: cards
version: 2
key: account
customer: client
target: {column: outcome, positive: bad, negative: good, definition: ninety days past due within a year}
columns:
  amount: {type: number, unit: EUR, range: [-1000, 5000]}
  income: {type: number, unit: EUR, range: [0, 100000], transform: log1p, missing: indicator}
  months: {type: integer, unit: month, range: [0, 600], outside: refuse}
  married: {type: boolean, missing: indicator}
  product: {type: category, vocabulary: [gold, blue, "7"], unknown: refuse}
  sex: {type: category, vocabulary: [f, m]}
  opened: {type: date}
protected: [sex]
freshness: {column: opened, newest_within: 60d}
minimum_rows: 10
""",
    Contract,
    "cards.yaml",
)
TODAY = date(2026, 7, 1)
FEATURES = ("amount", "income", "months", "married", "product")
COLUMNS = (
    "account",
    "client",
    "amount",
    "income",
    "months",
    "married",
    "product",
    "sex",
    "opened",
    "outcome",
)
SECRET = "swordfish-4711"

Row = dict[str, Any]


def rows(number: int = 200) -> list[Row]:
    """Rows that keep the contract; keys have different lengths, and money two decimals."""
    return [
        {
            "account": f"{place * 37 % 1009}",
            "client": f"c{place % 61}",
            "amount": round((place * 7919 % 600_000) / 100 - 1000, 2),
            "income": None if place % 7 == 0 else round((place * 104_729 % 9_000_000) / 100, 2),
            "months": place % 600,
            "married": None if place % 11 == 0 else place % 3 == 0,
            "product": ("gold", "blue", "7")[place % 3],
            "sex": "fm"[place % 2],
            "opened": TODAY - timedelta(days=place % 2000),
            "outcome": "bad" if place % 5 == 0 else "good",
        }
        for place in range(number)
    ]


def arrow(of: Sequence[Row]) -> pa.Table:
    names = COLUMNS if not of or set(COLUMNS) == set(of[0]) else tuple(of[0])
    return pa.table({name: [each[name] for each in of] for name in names})


@dataclass(frozen=True)
class Place:
    """A kind of place; `put` writes rows there and gives the source."""

    kind: str
    put: Callable[[Sequence[Row], Path], DataSource]
    typed: bool = True
    """Whether columns have types there, so that text in a number column is a wrong type as a whole."""


def source(**facts: Any) -> DataSource:
    return DataSource(contract="cards@2", contract_file=Path("cards.yaml"), **facts)


def parquet(of: Sequence[Row], folder: Path) -> DataSource:
    pq.write_table(arrow(of), folder / "cards.parquet", row_group_size=50)
    return source(file=folder / "cards.parquet")


def arrow_file(of: Sequence[Row], folder: Path) -> DataSource:
    data = arrow(of)
    with pa.ipc.new_file(folder / "cards.arrow", data.schema) as sink:
        sink.write_table(data, max_chunksize=70)
    return source(file=folder / "cards.arrow")


def arrow_stream(of: Sequence[Row], folder: Path) -> DataSource:
    data = arrow(of[::-1])
    with pa.ipc.new_stream(folder / "cards.ipc", data.schema) as sink:
        sink.write_table(data)
    return source(file=folder / "cards.ipc")


def _written(value: object, decimal: str) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".replace(".", decimal)
    return "" if value is None else str(value)


def comma(of: Sequence[Row], folder: Path) -> DataSource:
    with (folder / "cards.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([_written(each[name], ".") for name in COLUMNS] for each in of)
    return source(file=folder / "cards.csv")


def european(of: Sequence[Row], folder: Path) -> DataSource:
    with (folder / "cards.csv").open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(COLUMNS)
        writer.writerows([_written(each[name], ",") for name in COLUMNS] for each in reversed(of))
    return source(file=folder / "cards.csv", csv={"delimiter": ";", "encoding": "cp1252", "decimal": ","})


def duck(of: Sequence[Row], folder: Path) -> DataSource:
    with duckdb.connect(str(folder / "cards.duckdb")) as connection:
        data = arrow(of)
        connection.register("given", data)
        connection.execute("CREATE SCHEMA risk; CREATE TABLE risk.cards AS SELECT * FROM given")
    return source(file=folder / "cards.duckdb", table="risk.cards")


def sqlite(of: Sequence[Row], folder: Path) -> DataSource:
    with sqlite3.connect(folder / "cards.sqlite") as connection:
        connection.execute(f"CREATE TABLE cards ({', '.join(COLUMNS)})")
        marks = ", ".join("?" * len(COLUMNS))
        connection.executemany(
            f"INSERT INTO cards VALUES ({marks})",
            [[each[name].isoformat() if name == "opened" else each[name] for name in COLUMNS] for each in of],
        )
    connection.close()
    return source(file=folder / "cards.sqlite", table="cards")


LAYOUT = """\
covenant: layout/v1
code_page: cp037
record_bytes: 60
fields:
  account: {at: 1, bytes: 4, type: packed}
  client: {at: 5, bytes: 6}
  amount: {at: 11, bytes: 8, type: zoned, decimals: 2}
  income: {at: 19, bytes: 6, type: packed, decimals: 2}
  months: {at: 25, bytes: 2, type: binary}
  married: {at: 27, bytes: 5}
  product: {at: 32, bytes: 4}
  sex: {at: 36, bytes: 1}
  opened: {at: 37, bytes: 8, type: zoned}
  outcome: {at: 45, bytes: 4}
"""


def packed(value: int, size: int) -> bytes:
    digits = f"{abs(value):0{2 * size - 1}d}{'D' if value < 0 else 'C'}"
    return bytes.fromhex(digits)


def zoned(value: int, size: int) -> bytes:
    digits = bytearray(0xF0 | int(each) for each in f"{abs(value):0{size}d}")
    digits[-1] = (0xD0 if value < 0 else 0xC0) | (digits[-1] & 0xF)
    return bytes(digits)


def record(row: Row) -> bytes:
    """As a COBOL program writes it. Where there is no income, its field holds blanks."""
    words = [str(row["client"]).ljust(6), ("" if row["married"] is None else str(row["married"])).ljust(5)]
    words += [row["product"].ljust(4), row["sex"], row["outcome"].ljust(4)]
    client, married, product, sex, outcome = (each.encode("cp037") for each in words)
    income = b"\x40" * 6 if row["income"] is None else packed(round(row["income"] * 100), 6)
    parts = [packed(int(row["account"]), 4), client, zoned(round(row["amount"] * 100), 8), income]
    parts += [
        row["months"].to_bytes(2, "big"),
        married,
        product,
        sex,
        zoned(int(f"{row['opened']:%Y%m%d}"), 8),
        outcome,
    ]
    return b"".join(parts).ljust(60, b"\x40")


def fixed(of: Sequence[Row], folder: Path) -> DataSource:
    (folder / "cards.layout.yaml").write_text(LAYOUT)
    (folder / "cards.dat").write_bytes(b"".join(map(record, of)))
    return source(file=folder / "cards.dat", format="fixed-width", layout=folder / "cards.layout.yaml")


@contextmanager
def postgres() -> Iterator[URL]:
    """A database of a real server, made for one test."""
    url = make_url(
        os.environ.get("COVENANT_TEST_POSTGRES", "postgresql+pg8000://postgres@127.0.0.1:5432/test")
    )
    server = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10})
    name = f"covenant_{secrets.token_hex(8)}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except DBAPIError as error:
        reason = f"no PostgreSQL at {url.render_as_string()}: {type(error.orig).__name__}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    try:
        yield url.set(database=name)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def execute(url: URL, *statements: str, rows: Sequence[Row] = ()) -> None:
    """Run statements as the database's administrator; `rows` are for the last."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements[: len(statements) - bool(rows)]:
            connection.exec_driver_sql(statement)
        if rows:
            connection.execute(text(statements[-1]), list(rows))
    engine.dispose()


def in_postgres(url: URL, of: Sequence[Row], *, driver: str) -> DataSource:
    execute(
        url,
        "CREATE SCHEMA risk",
        """CREATE TABLE risk.cards (account numeric(12,0), client char(8), amount numeric(12,2), income money, months smallint,
        married boolean, product varchar(10), sex text, opened date, outcome text)"""
        if driver == "postgresql"
        else """CREATE TABLE risk.cards (account bigint, client text, amount numeric(12,2), income double precision, months int,
        married boolean, product varchar(10), sex text, opened date, outcome text)""",
        f"INSERT INTO risk.cards VALUES ({', '.join(f':{name}' for name in COLUMNS)})",
        rows=[
            {
                **each,
                "account": int(each["account"]),
                "income": None if each["income"] is None else each["income"],
            }
            for each in of[::-1]
        ],
    )
    return source(url=named(url, driver), table="risk.cards")


def named(url: URL, driver: str) -> str:
    return url.set(drivername=driver, password=None).render_as_string()


FILES = (
    Place("parquet", parquet),
    Place("arrow file", arrow_file),
    Place("arrow stream", arrow_stream),
    Place("csv", comma, typed=False),
    Place("european csv", european, typed=False),
    Place("duckdb", duck),
    Place("sqlite", sqlite, typed=False),
    Place("fixed-width", fixed, typed=False),
)
DATABASES = ("postgresql", "postgresql+pg8000")
