"""Rows of the console that let somebody in, sealed with HMAC-SHA256 under a key that follows from `console.key`: whoever can write the database makes none.

1. A seal covers its table's name and every column but the seal itself and `_UNSEALED`; a column that comes later is covered without being named here.
2. A row whose seal does not hold counts as if it were not there. It stays, is told to the process log, and is shown on the overview.
3. An older row of the same key holds: a seal says who wrote a row, not that it is the newest.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import structlog

from coordinator.console.vault import Vault
from coordinator.db.console_schema import (
    ConsoleAccount,
    ConsoleDraft,
    ConsoleIdentity,
    ConsoleLink,
    ConsoleSession,
)
from strategies.errors import CovenantError, UsageError

SealedRow = ConsoleAccount | ConsoleDraft | ConsoleIdentity | ConsoleLink | ConsoleSession
_UNSEALED: Final = frozenset({"seal", "notice"})
"""A notice lets nobody in, and comes and goes with every form."""
_PURPOSE: Final = "rows"
_log = structlog.get_logger(__name__)


def seal(vault: Vault, row: SealedRow) -> None:
    """Put the seal onto a row as it is now, before it is written; the key is made where there is none. Raises UsageError."""
    row.seal = _seal(vault.derived(_PURPOSE, row.__tablename__), row)


def holds(vault: Vault, row: SealedRow) -> bool:
    """Whether this console wrote the row as it is; one that it did not is told to the process log. Raises CovenantError where the key cannot be used."""
    held = not any(_broken(vault, [row]))
    if not held:
        _log.error(
            "a row of the console does not bear its seal, and does not count",
            table=row.__tablename__,
            officer=row.officer,
        )
    return held


def broken(vault: Vault, rows: Iterable[SealedRow]) -> list[SealedRow]:
    """Those whose seal does not hold. Raises CovenantError where the key cannot be used."""
    return list(_broken(vault, rows))


def _broken(vault: Vault, rows: Iterable[SealedRow]) -> Iterator[SealedRow]:
    keys: dict[str, bytes | None] = {}
    for row in rows:
        table = row.__tablename__
        if table not in keys:
            keys[table] = _known_key(vault, table)
        key = keys[table]
        if key is None or not hmac.compare_digest(_seal(key, row).encode(), row.seal.encode()):
            yield row


def _known_key(vault: Vault, table: str) -> bytes | None:
    """The key of a table; None where no `console.key` was ever made, or it is lost. Raises CovenantError without the file's place: strangers read it."""
    try:
        return vault.derived(_PURPOSE, table) if vault.file.exists() else None
    except UsageError as error:
        _log.error("the console's key cannot be used", reason=str(error))
        raise CovenantError(
            "nobody can sign in now, because the console's key cannot be used; the coordinator's log says why"
        ) from error


def _seal(key: bytes, row: SealedRow) -> str:
    columns = sorted(each.name for each in row.__table__.columns if each.name not in _UNSEALED)
    told = [row.__tablename__, {name: _told(getattr(row, name)) for name in columns}]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), sha256).hexdigest()


def _told(value: str | int | datetime | None) -> str | int | None:
    """A value as it is read back, from whatever database."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
