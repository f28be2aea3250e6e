"""A database failure as one sentence: what was being done, which database, what is wrong, what to do.

1. Only failures of the world are explained here: full disk, locks, permissions, an absent server, a missing migration.
2. A violated constraint is not among them: it is a conflict that the caller names, or a defect that must stay loud.
3. A transaction that failed left nothing behind; the sentence says so, because the operator's next question is that.
   Only a server lost in mid-sentence may have kept it, and then the sentence says that this is not known.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from strategies.errors import CovenantError, DiskError, Unreachable


@dataclass(frozen=True, slots=True)
class _Explanation:
    """What is wrong with the database, what to do about it, and how the failure is classed."""

    problem: str
    remedy: str
    error: type[CovenantError] = CovenantError
    kept: str = "nothing of this step was kept"


_FULL: Final = _Explanation("has no space left", "free space on its volume, then run the command again")
_LOCKED: Final = _Explanation(
    "is locked by another transaction", "let the other command finish or stop it, then run this one again"
)
_DENIED: Final = _Explanation(
    "does not allow this user to write or read it", "grant the rights to this user or run as the owner"
)
_UNREACHABLE: Final = _Explanation(
    "cannot be reached",
    "check the address in the database URL and that the server runs, then run the command again",
    Unreachable,
    "what was not confirmed may or may not have been kept, and is looked up when the command runs again",
)
_BROKEN_DISK: Final = _Explanation(
    "could not be read or written by the operating system",
    "check the disk before anything else, then restart",
    DiskError,
    "what was not confirmed may or may not have been kept, and is looked up when the process runs again",
)
_DAMAGED: Final = _Explanation("is damaged or is not a database", "restore it from the latest backup")
_UNMIGRATED: Final = _Explanation("lacks a table or column of this version", "run covenant db migrate")
_LOGIN: Final = _Explanation(
    "refused the login", "correct the user, password or database in the database URL"
)
_BUSY_SERVER: Final = _Explanation(
    "accepts no more connections", "close other clients or raise its max_connections", Unreachable
)

# Primary result codes; sqlite3 appends the extended part to the name (SQLITE_IOERR_FSYNC). sqlite.org/rescode.html
_SQLITE: Final = {
    "SQLITE_FULL": _FULL,
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_READONLY": _DENIED,
    "SQLITE_PERM": _DENIED,
    "SQLITE_AUTH": _DENIED,
    "SQLITE_CANTOPEN": _Explanation(
        "cannot be opened", "create its folder and let this user write there", Unreachable
    ),
    "SQLITE_IOERR": _BROKEN_DISK,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
}
# SQLSTATE, the longest prefix wins. PostgreSQL 15 documentation, appendix A.
_POSTGRES: Final = {
    "53100": _FULL,
    "53300": _BUSY_SERVER,
    "55P03": _LOCKED,
    "40P01": _LOCKED,
    "40001": _LOCKED,
    "42501": _DENIED,
    "25006": _DENIED,
    "28": _LOGIN,
    "3D000": _LOGIN,
    "58": _BROKEN_DISK,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "42P01": _UNMIGRATED,
    "42703": _UNMIGRATED,
    "57P": _UNREACHABLE,
    "08": _UNREACHABLE,
}


@contextmanager
def clear_errors(engine: Engine, doing: str) -> Iterator[None]:
    """Turn failures of the database inside the block into one CovenantError sentence that opens with `doing`."""
    try:
        yield
    except PoolTimeout as error:
        raise _sentence(engine, doing, _BUSY_SERVER) from error
    except DBAPIError as error:
        explanation = _explain(error)
        if explanation is None:
            raise
        raise _sentence(engine, doing, explanation) from error


def _sentence(engine: Engine, doing: str, found: _Explanation) -> CovenantError:
    """The one sentence for the operator; a password in the URL is masked."""
    where = engine.url.database if engine.dialect.name == "sqlite" else engine.url.render_as_string()
    return found.error(f"{doing}: the database {where} {found.problem}; {found.kept}; {found.remedy}")


def _explain(error: DBAPIError) -> _Explanation | None:
    """The explanation for what the driver raised, or None when it is not a failure of the world."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _explain_sqlite(cause)
    fields = cause.args[0] if cause is not None and cause.args else None
    if isinstance(fields, dict):
        # First, because pg8000 also calls a refused login an InterfaceError.
        code = str(fields.get("C", ""))
        return next((_POSTGRES[code[:n]] for n in range(len(code), 0, -1) if code[:n] in _POSTGRES), None)
    if error.connection_invalidated or type(cause).__name__ == "InterfaceError" or isinstance(cause, OSError):
        return _UNREACHABLE
    return None


def _explain_sqlite(cause: sqlite3.Error) -> _Explanation | None:
    """The explanation by SQLite's result code; a missing table has no code of its own."""
    name = getattr(cause, "sqlite_errorname", "")
    if name == "SQLITE_ERROR" and str(cause).startswith(("no such table", "no such column")):
        return _UNMIGRATED
    return _SQLITE.get("_".join(name.split("_")[:2]))
