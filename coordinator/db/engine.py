"""Opening the coordinator's database so that what was committed stays committed.

1. SQLite: a commit survives a power cut. Before 3.51.3 that takes the rollback journal with `synchronous=EXTRA`, because a WAL that is reset
   could corrupt the file; from then on the WAL with `synchronous=FULL`. Foreign keys are enforced.
2. A writing transaction on SQLite takes its lock at the start: one that upgraded from reading could not wait its turn.
3. PostgreSQL: READ COMMITTED; whoever changes a run locks its row first.
4. Every session is one transaction, and its failures become one sentence (`coordinator.db.errors`).
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from coordinator.db.errors import clear_errors
from strategies.errors import UsageError

_LOCK_TIMEOUT_S: Final = 10.0
_SOCKET_TIMEOUT_S: Final = 60.0
_BEGIN: Final = "covenant_sqlite_begin"
_WAL_IS_SAFE_FROM: Final = (3, 51, 3)
_LARGE: Final = "covenant_large"
_LARGE_BYTES: Final = 1 << 20


def open_database(
    url: str,
    *,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
    sqlite_connection: type[sqlite3.Connection] = sqlite3.Connection,
) -> Engine:
    """Prepare an engine for `sqlite:///file` or `postgresql+pg8000://...`; nothing is contacted yet.

    `lock_timeout_s` bounds the wait for another transaction; `sqlite_connection` is where a simulation lets disks fail. Raises
    UsageError for another kind of URL.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed,
            json_serializer=_json,
            connect_args={"timeout": lock_timeout_s, "factory": sqlite_connection},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        _close_what_is_large(engine)
        return engine
    engine = create_engine(
        parsed,
        json_serializer=_json,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        connect_args={"timeout": max(_SOCKET_TIMEOUT_S, 2 * lock_timeout_s)},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: ConnectionPoolEntry) -> None:  # noqa: ANN401  (pg8000 has no types)
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {int(lock_timeout_s * 1000)}")
        connection.commit()
        cursor.close()

    return engine


@contextmanager
def writing(engine: Engine, doing: str) -> Iterator[Session]:
    """One transaction that may write, committed at the end of the block or not at all.

    `doing` opens the sentence when it fails ("committing round 3 of run-..."). Raises CovenantError or Unreachable.
    """
    with clear_errors(engine, doing), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine, doing: str) -> Iterator[Session]:
    """One transaction that only reads, so that on SQLite it does not wait for a writer's turn. Raises as `writing`."""
    shared = engine.execution_options(**{_BEGIN: "BEGIN DEFERRED"})
    with clear_errors(engine, doing), Session(shared, expire_on_commit=False) as session, session.begin():
        yield session


def _parse(url: str) -> URL:
    """The URL with its driver settled. Raises UsageError without repeating the text, which may hold a password."""
    accepted = "use sqlite:///path/to/covenant.db or postgresql+pg8000://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError(f"the database URL cannot be read; {accepted}") from error
    if "password" in parsed.query:
        raise UsageError(
            "the database URL has a password after its `?`, where nothing would hide it from messages; write it before the host, as in"
            " postgresql+pg8000://user:password@host/database"
        )
    match parsed.drivername:
        case "sqlite" | "postgresql+pg8000":
            return parsed
        case "postgresql":
            return parsed.set(drivername="postgresql+pg8000")
        case other:
            raise UsageError(f"the database URL begins with {other}; {accepted}")


def _json(value: object) -> str:
    """Compact JSON with sorted keys; numbers come back to the bit. NaN has no JSON form and is refused."""
    return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Set what SQLite keeps per connection."""
    # Python's sqlite3 would begin transactions on its own, and only at the first change.
    connection.isolation_level = None
    for pragma in (*_durable(sqlite3.sqlite_version_info), "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _close_what_is_large(engine: Engine) -> None:
    """Have a connection that was given megabytes close when its transaction is over: a prepared statement that is cached holds a copy of what was bound
    to it last, a third of a model for what opens a large sum. A database in memory has no other connection, and is left alone."""
    if not isinstance(engine.pool, QueuePool):
        return
    # Before: a statement that fails has been given them too.
    event.listen(engine, "before_cursor_execute", _note_large)
    event.listen(engine, "checkin", _close_noted)


def _note_large(connection: Connection, _: object, __: str, given: object, *___: object) -> None:
    if _has_large(given):
        connection.info[_LARGE] = True


def _has_large(given: object) -> bool:
    """Whether a value, a row of them or rows have megabytes in one value. SQLAlchemy makes a view of what a column of bytes is to hold, and does not say
    whether it gives a row or rows."""
    match given:
        case memoryview():
            return given.nbytes > _LARGE_BYTES
        case bytes() | bytearray() | str():
            return len(given) > _LARGE_BYTES
        case dict():
            return any(map(_has_large, given.values()))
        case tuple() | list():
            return any(map(_has_large, given))
        case _:
            return False


def _close_noted(_: object, record: ConnectionPoolEntry) -> None:
    if record.info.pop(_LARGE, False):
        record.invalidate()


def _durable(version: tuple[int, int, int]) -> tuple[str, str]:
    """How this SQLite keeps a commit through a power cut."""
    if version >= _WAL_IS_SAFE_FROM:
        return "journal_mode = WAL", "synchronous = FULL"
    return "journal_mode = DELETE", "synchronous = EXTRA"


def _begin_sqlite(connection: Connection) -> None:
    """Begin with the write lock unless the session said that it only reads."""
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
