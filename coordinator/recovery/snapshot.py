"""One consistent view of the database while the coordinator goes on.

1. PostgreSQL: one transaction at REPEATABLE READ, which sees what was committed when it began. Nobody waits for it.
2. SQLite: readers hold up whoever commits, so the file is copied first, by SQLite's own backup, and read from the copy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from coordinator.db.engine import open_database
from coordinator.db.errors import clear_errors


@contextmanager
def snapshot(engine: Engine, scratch: Path) -> Iterator[Connection]:
    """A connection that sees one state of the database; `scratch` is a folder for the time being. Raises CovenantError."""
    doing = "reading the database for a backup"
    if engine.dialect.name == "sqlite":
        copy = scratch / "snapshot.db"
        try:
            with clear_errors(engine, doing), engine.connect() as live:
                source = live.connection.driver_connection
                if not isinstance(source, sqlite3.Connection):
                    raise TypeError(f"{source!r} is no connection to SQLite")
                live.rollback()  # the copy takes its own lock
                with closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            reader = open_database(f"sqlite:///{copy}")
            try:
                with clear_errors(reader, doing), reader.connect() as connection:
                    yield connection
            finally:
                reader.dispose()
        finally:
            copy.unlink(missing_ok=True)
        return
    view = engine.execution_options(isolation_level="REPEATABLE READ")
    with clear_errors(engine, doing), view.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        yield connection
        connection.rollback()
