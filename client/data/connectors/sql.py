"""Tables of SQL databases through SQLAlchemy: a read-only transaction, a cursor on the server, quoted names.

Tested on SQLite, and on PostgreSQL with pg8000 (`postgres.PostgresTable` is some ten times as fast). Oracle, DB2 and SQL Server are reached by their
URL and are untested (`docs/site-it/data.md`): what they do not have of the above, the database user's own rights must give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pyarrow as pa

from client.data.report import DataError, Unreadable
from protos.passphrases import Passphrase

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select, TableClause
    from sqlalchemy.engine import URL

_SMALL_BATCH: Final = 1 << 14
"""Rows, fewer than in other connectors' batches: here they are Python's objects, each of them large."""
_READ_ONLY: Final = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA trusted_schema = OFF", "BEGIN"),
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",),
    "oracle": ("SET TRANSACTION READ ONLY",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlTable:
    """A table or view at `url`, which holds no password."""

    url: URL
    table: str
    named: str
    password: Passphrase | None = None

    damaged = "holds text that is not UTF-8"

    @property
    def textual(self) -> bool:
        """SQLite has no type for dates and decimals."""
        return self.url.get_backend_name() == "sqlite"

    def columns(self) -> list[str]:
        """Of the table."""
        from sqlalchemy import literal_column, select

        with self._connected() as connection:
            # A condition that no row meets, because not every dialect has a limit of 0.
            nothing: Select[*tuple[Any, ...]] = (
                select(literal_column("*"))
                .select_from(self._from)
                .where(literal_column("1") == literal_column("0"))
            )
            return list(connection.execute(nothing).keys())

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows, from one transaction."""
        with self._connected() as connection:
            found = connection.execution_options(stream_results=True, yield_per=_SMALL_BATCH).execute(
                self._select(columns)
            )
            for rows in found.partitions(_SMALL_BATCH):
                values = list(zip(*rows, strict=True))
                yield pa.record_batch([self._array(each) for each in values], names=list(columns))

    def _array(self, values: tuple[Any, ...]) -> pa.Array:
        """As Arrow infers it; values of several kinds, which SQLite allows, as text."""
        try:
            return pa.array(values)
        except MemoryError:  # Arrow's is an ArrowException too
            raise
        except (pa.ArrowException, OverflowError):
            return pa.array([None if value is None else str(value) for value in values], pa.string())

    @property
    def _from(self) -> TableClause:
        from sqlalchemy import table

        *schema, name = self.table.split(".")
        return table(name, schema=".".join(schema) or None)

    def _select(self, columns: Sequence[str]) -> Select[*tuple[Any, ...]]:
        from sqlalchemy import column, select

        return select(*(column(name) for name in columns)).select_from(self._from)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy import create_engine, exc
        from sqlalchemy.pool import NullPool

        secret = None if self.password is None else self.password.reveal().decode(errors="replace")
        try:
            engine = create_engine(
                self.url if secret is None else self.url.set(password=secret),
                poolclass=NullPool,
                hide_parameters=True,
            )
        except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
            backend = self.url.drivername
            raise DataError(
                f"`url` of {self.named} asks for {backend}, whose driver is not installed at this site; see docs/site-it/data.md"
            ) from error
        try:
            with engine.connect() as connection:
                for statement in _READ_ONLY.get(self.url.get_backend_name(), ()):
                    connection.exec_driver_sql(statement)
                yield connection
        except (exc.SQLAlchemyError, OSError, UnicodeError) as error:
            raise Unreadable(
                f"{self.named} cannot be read ({_class_of(error)}); check that the database is up, and that its user may read the table"
            ) from error
        finally:
            engine.dispose()


def sqlite_url(path: Path) -> URL:
    """Opens an existing file, and only to read."""
    from sqlalchemy.engine import URL

    if not path.is_file():
        raise Unreadable(f"{path} does not exist; `file` must name the SQLite file with this site's rows")
    return URL.create(
        "sqlite+pysqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"}
    )


def _class_of(error: BaseException) -> str:
    """The driver's own class: what it says may quote a row."""
    return type(getattr(error, "orig", None) or error).__name__
