"""Rows of any table as lines of JSON, and back: the same bytes and numbers in whatever kind of database.

1. Tables are taken as the database has them, not as this version's models say: a table that a later version adds is in its backups by itself.
2. A line holds the values of a row in the order of the first line's columns. Bytes, instants and JSON are marked, so that nothing is guessed.
3. Floats are written by Python's shortest form that reads back to the same bits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, Final

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    func,
    insert,
    select,
    text,
    tuple_,
)
from sqlalchemy.types import TypeEngine

from coordinator.db.types import UtcDateTime
from strategies.errors import Refused

VERSION_TABLE: Final = "alembic_version"
_PAGE: Final = 500
_LONGEST_LINE: Final = 1 << 30
Row = Mapping[str, Any]


def tables_of(connection: Connection) -> list[Table]:
    """All tables of a database, each after those that it refers to."""
    found = MetaData()
    found.reflect(connection)
    for table in found.tables.values():
        for column in table.columns:
            column.type = _portable(column.type)
    return [each for each in found.sorted_tables if each.name != VERSION_TABLE]


def read_rows(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """All rows of a table by its primary key, read piece by piece."""
    key = list(table.primary_key.columns)
    query = select(table).order_by(*key).limit(_PAGE)
    places = [list(table.columns).index(column) for column in key]
    rows = connection.execute(query).all()
    while rows:
        yield from rows
        if len(rows) < _PAGE:
            return
        last = tuple_(*(rows[-1][place] for place in places))
        rows = connection.execute(query.where(tuple_(*key) > last)).all()


def header_of(table: Table) -> bytes:
    """The first line of a table's file."""
    return _dump({"table": table.name, "columns": [column.name for column in table.columns]})


def line_of(row: Iterable[Any], table: Table) -> bytes:
    """One row as a line, its end included."""
    return _dump([_marked(value, column.type) for value, column in zip(row, table.columns, strict=True)])


def parse_header(line: bytes) -> tuple[str, list[str]]:
    """The table's name, and its columns. Raises Refused."""
    try:
        found = json.loads(line)
        return str(found["table"]), [str(each) for each in found["columns"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("this is no table of a backup: its first line names no columns") from error


def parse_line(line: bytes, columns: Sequence[str]) -> Row:
    """A row by column. Raises Refused."""
    try:
        values = json.loads(line)
        return {name: _unmarked(value) for name, value in zip(columns, values, strict=True)}
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(f"a row of this backup cannot be read: {line[:60]!r}") from error


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a table's file. Raises Refused for one without an end."""
    while line := file.readline(_LONGEST_LINE):
        if not line.endswith(b"\n"):
            raise Refused(f"the last line of {file.name} has no end: the file was cut short")
        yield line[:-1]


def write_rows(connection: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Insert rows that `parse_line` gave; returns how many."""
    written, left = 0, iter(rows)
    while page := list(islice(left, _PAGE)):
        connection.execute(insert(table), page)
        written += len(page)
    return written


def set_sequences(connection: Connection, tables: Iterable[Table]) -> None:
    """Have numbering go on after the rows that were loaded. SQLite's does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            names = {"table": table.name, "column": column.name}
            sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), names)
            last = None if sequence is None else connection.scalar(select(func.max(column)))
            if last is not None:
                connection.execute(
                    text("SELECT setval(CAST(:name AS regclass), :last)"), {"name": sequence, "last": last}
                )


def _portable(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    if isinstance(kind, DateTime):
        return UtcDateTime()
    if isinstance(kind, JSON):
        return JSON(none_as_null=True)
    return kind


def _marked(value: Any, kind: TypeEngine[Any]) -> Any:  # noqa: ANN401  (of the column's type)
    if value is None:
        return None
    if isinstance(kind, JSON):
        return {"json": value}
    if isinstance(kind, LargeBinary):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    return value


def _unmarked(value: Any) -> Any:  # noqa: ANN401  (as `_marked`)
    match value:
        case {"json": found}:
            return found
        case {"bytes": found}:
            return base64.b64decode(found, validate=True)
        case {"at": found}:
            return datetime.fromisoformat(found)
        case dict() | list():
            raise ValueError("a value is marked as nothing")
    return value


def _dump(value: object) -> bytes:
    return (
        json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        + b"\n"
    )
