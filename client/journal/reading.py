"""A journal as anybody at the site may read it, with no key and while the agent runs: every entry, its chain of checksums verified."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from client.journal.entries import Entry, chained
from client.journal.snapshot import snapshot
from strategies.errors import CovenantError, UsageError

_TRIES: Final = 3


def read_journal(file: Path) -> list[Entry]:
    """All entries of the journal `file`, the oldest first. Raises UsageError where there is none, CovenantError for one that is damaged."""
    if not file.exists():
        raise UsageError(f"{file} does not exist: this site has not run yet")
    for left in reversed(range(_TRIES)):
        try:
            return _entries(file)
        except (sqlite3.Error, CovenantError, OSError) as error:
            # The agent may have written while it was copied.
            if not left:
                raise CovenantError(f"{file} cannot be read: {error}") from error
    raise AssertionError


def _entries(file: Path) -> list[Entry]:
    with snapshot(file) as copy, closing(sqlite3.connect(copy)) as connection:
        rows: Iterable[tuple[int, str, bytes, bytes]] = connection.execute(
            "SELECT seq, kind, body, checksum FROM entries ORDER BY seq"
        )
        found: list[Entry] = []
        last = b""
        for seq, kind, body, checksum in rows:
            if seq != len(found) + 1 or checksum != chained(last, seq, kind, body):
                raise CovenantError(f"entry {len(found) + 1} does not fit the one before it")
            found.append(Entry(seq, kind, json.loads(body)))
            last = checksum
    return found
