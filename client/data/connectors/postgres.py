"""Tables of PostgreSQL through Arrow's own driver (ADBC): rows come as binary COPY, straight into Arrow batches.

1. The session is read-only and repeatable-read before its first statement: the server refuses whatever would change something.
2. Nothing of the process's environment or of libpq's files says who is asked, as whom, or how TLS is checked: all of it is given by name.
3. What the server says about a failure is not repeated; it may quote a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from client.data.connectors.interface import quoted, quoted_path, sliced
from client.data.report import DataError, Unreadable
from protos.passphrases import Passphrase

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

_BATCH_BYTES: Final = 4 << 20
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_TAKEN: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "gssencmode")
"""Of what libpq can be told in a URL: how to be sure of the server."""
_OPTIONS: Final = "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read -c lock_timeout=30s -c TimeZone=UTC"
_FIXED: Final = {
    "application_name": "covenant-agent",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "passfile": "/dev/null/none",
    "options": _OPTIONS,
    # Empty: libpq would ask the environment for what is not given.
    "hostaddr": "",
    "password": "",
    "sslrootcert": "",
    "sslcert": "",
    "sslkey": "",
}
_COLUMNS: Final = """\
SELECT attname::text, format_type(atttypid, atttypmod)
FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_AS_THEY_ARE: Final = re.compile(
    r"smallint|integer|bigint|real|double precision|boolean|date|text|character varying(\(\d+\))?|timestamp(\(\d\))? (with|without) time zone"
)
_NUMERIC: Final = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
_INT64_DIGITS: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTable:
    """A table or view at `url`, which holds no password."""

    url: str
    table: str
    password: Passphrase | None = None

    textual = False
    damaged = "holds text that is not UTF-8"

    @property
    def named(self) -> str:
        """The table's name."""
        return self.table

    def columns(self) -> list[str]:
        """Of the table. Raises `Unreadable` where there is none."""
        with self._connected() as connection:
            return list(self._types(connection))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows, from one snapshot."""
        with self._connected() as connection, connection.cursor() as cursor:
            types = self._types(connection)
            if missing := [name for name in columns if name not in types]:
                raise Unreadable(f"column {missing[0]!r} of {self.named} has gone while it was read")
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
            listed = ", ".join(_selected(name, types[name]) for name in columns)
            cursor.execute(f"SELECT {listed} FROM {quoted_path(self.table)}")  # noqa: S608
            for batch in cursor.fetch_record_batch():
                yield from sliced(batch)

    def _types(self, connection: Connection) -> dict[str, str]:
        with connection.cursor() as cursor:
            cursor.execute(_COLUMNS, (quoted_path(self.table),))
            found = {str(name): str(kind) for name, kind in cursor.fetchall()}
        if not found:
            raise Unreadable(
                f"there is no table {self.table}; `table` must name a table or view that the database's user may read"
            )
        return found

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            from adbc_driver_manager import Error
            from adbc_driver_postgresql import dbapi
        except ImportError as missing:
            raise DataError(
                f"{self.named} is in PostgreSQL, whose driver is not installed here; run: pip install 'covenant-fl[postgresql]'"
            ) from missing
        try:
            with dbapi.connect(self._conninfo()) as connection:
                yield connection
        except MemoryError:  # Arrow's is an ArrowException too
            raise
        except (Error, pa.ArrowException, OSError) as trouble:
            raise Unreadable(
                f"{self.named} cannot be read ({_class_of(trouble)}); check that PostgreSQL is up, and that its user may read the table"
            ) from None  # whose text may quote a row

    def _conninfo(self) -> str:
        """What libpq takes: every part by name and quoted, TLS with the server's name checked unless it is this machine."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        asked = dict(parse_qsl(parts.query))
        if unknown := sorted(set(asked) - set(_TAKEN)):
            raise DataError(
                f"`url` of {self.named} has an option {unknown[0]}; here is known: {', '.join(_TAKEN)}"
            )
        said = {
            "host": host,
            "port": str(parts.port or 5432),
            "user": unquote(parts.username or ""),
            "dbname": unquote(parts.path.removeprefix("/")),
            "sslmode": "prefer" if host in _LOOPBACK else "verify-full",
            **_FIXED,
            **asked,
        }
        if self.password is not None:
            said["password"] = self.password.reveal().decode(errors="replace")
        return " ".join(
            f"{name}='{_escaped(value)}'" for name, value in said.items() if value or name in _FIXED
        )


def _selected(name: str, kind: str) -> str:
    """A column as the driver has a plain type for it. Of exact decimals, whole ones stay exact: they may be keys."""
    if _AS_THEY_ARE.fullmatch(kind):
        return quoted(name)
    if found := _NUMERIC.fullmatch(kind):
        whole = found[2] == "0"
        cast = "float8" if not whole else "bigint" if int(found[1]) <= _INT64_DIGITS else "text"
        return f"{quoted(name)}::{cast}"
    return f"{quoted(name)}::{'numeric::float8' if kind == 'money' else 'text'}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _class_of(trouble: Any) -> str:  # noqa: ANN401
    """The driver's class, and the SQLSTATE if there is one."""
    state = getattr(trouble, "sqlstate", None)
    return f"{type(trouble).__name__} {state}" if state else type(trouble).__name__
