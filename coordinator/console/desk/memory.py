"""What a desk remembers of the log, in a file beside the access folder.

1. The tree of all entries that were read, and the head that was signed over exactly these. Nothing is kept before its head is checked.
2. Of entries, those that a signature may rest on: lists, proposals, approvals, plans, launches, models, ceilings, halts. All entries are hashed; these
   are kept. A file of before another kind was kept has its entries read once more, and its head all the same.
3. The newest root and member list that were accepted, so that no older one comes back.
4. Signed heads that were not shown to be of this log. As long as there is one, nothing is signed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from coordinator.governance.log import RawEntry
from protos.log_entries import LogEntry
from protos.succession import Newest
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest
from strategies.transparency.merkle import Frontier
from strategies.transparency.notes import Checkpoint, SignedNote

_MOST: Final = 1000
_KINDS: Final = 1
"""Which kinds of entries are kept: one more with each change of that."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seen (
  one INTEGER PRIMARY KEY CHECK (one = 1), federation TEXT NOT NULL, note TEXT, peaks TEXT NOT NULL, newest TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS entries (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_by_subject ON entries (kind, subject);
CREATE INDEX IF NOT EXISTS entries_by_name ON entries (kind, name);
CREATE TABLE IF NOT EXISTS doubtful (note TEXT PRIMARY KEY, seen_at TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far the log was read: the signed head, None at first, and the tree of its entries."""

    head: Checkpoint | None
    note: str | None
    tree: Frontier
    newest: Newest | None


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that an approval may rest on."""

    seq: int
    entry: LogEntry


@dataclass(frozen=True, slots=True)
class Doubt:
    """A signed head that was not shown to be of the log, and when."""

    note: str
    seen_at: datetime


class Memory:
    """The file of one officer's desk, for the federation with root version 1 `federation`. One process at a time."""

    def __init__(self, path: Path, federation: Digest) -> None:
        """Open it, or make it. Raises UsageError for one that is of another federation, is open to others, or cannot be used."""
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            mode = os.fstat(descriptor).st_mode
            os.close(descriptor)
            if mode & 0o077:
                raise UsageError(f"{path} is open to others; run chmod 600 {path}")
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
            self._file.executescript(f"PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; {_SCHEMA}")
            self._file.execute(
                "INSERT OR IGNORE INTO seen VALUES (1, ?, NULL, ?, NULL)", (federation, json.dumps([0]))
            )
            (of,) = self._file.execute("SELECT federation FROM seen").fetchone()
            self._read_again()
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"{path}, what this desk has seen of the log, cannot be used: {error}"
            ) from error
        if of != federation:
            self.close()
            raise UsageError(
                f"{path} is what this desk has seen of another federation's log; name the root.json that it belongs to, or keep another folder"
            )

    def _read_again(self) -> None:
        """Have all entries read anew where they were read before some kind was kept."""
        (kinds,) = self._file.execute("PRAGMA user_version").fetchone()
        if kinds != _KINDS:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute("DELETE FROM entries")
            self._file.execute("UPDATE seen SET peaks = ?", (json.dumps([0]),))
            self._file.execute(f"PRAGMA user_version = {_KINDS}")
            self._file.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def seen(self) -> Seen:
        """How far the log was read."""
        with self._trouble():
            note, peaks, newest = self._file.execute("SELECT note, peaks, newest FROM seen").fetchone()
        size, *hashes = json.loads(peaks)
        return Seen(
            head=None if note is None else Checkpoint.parse(SignedNote.parse(note).text),
            note=note,
            tree=Frontier(size, tuple(map(bytes.fromhex, hashes))),
            newest=None if newest is None else Newest(**json.loads(newest)),
        )

    @contextmanager
    def reading_on(self) -> Iterator[None]:
        """What is kept within the block is kept if the block ends well, and not at all if it raises."""
        with self._trouble():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def keep(self, entry: RawEntry, kind: str, name: str, subject: str) -> None:
        """Keep an entry, within `reading_on`."""
        row = (entry.seq, kind, name, subject, entry.body)
        self._file.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)

    def reach(self, note: str, tree: Frontier, newest: Newest | None) -> None:
        """Remember a head that was checked, within `reading_on`."""
        peaks = json.dumps([tree.size, *(each.hex() for each in tree.peaks)])
        known = None if newest is None else json.dumps(asdict(newest))
        self._file.execute("UPDATE seen SET note = ?, peaks = ?, newest = ?", (note, peaks, known))

    def doubt(self, note: str, at: datetime) -> None:
        """Keep a signed head that was not shown to extend the one before."""
        with self._trouble():
            self._file.execute("INSERT OR IGNORE INTO doubtful VALUES (?, ?)", (note, at.isoformat()))

    def settle(self, note: str) -> None:
        """A head that was doubtful was shown to be of this log."""
        with self._trouble():
            self._file.execute("DELETE FROM doubtful WHERE note = ?", (note,))

    def doubtful(self) -> Sequence[Doubt]:
        """Signed heads that were not shown to be of this log, the earliest first."""
        with self._trouble():
            rows = self._file.execute("SELECT note, seen_at FROM doubtful ORDER BY seen_at").fetchall()
        return [Doubt(note, datetime.fromisoformat(at)) for note, at in rows]

    def of_subject(self, kind: str, subject: str, most: int = _MOST) -> Sequence[Kept]:
        """The latest entries of a kind about one thing, in their order."""
        query = "SELECT seq, body FROM entries WHERE kind = ? AND subject = ? ORDER BY seq DESC LIMIT ?"
        return list(self._read(query, (kind, subject, most)))[::-1]

    def of_name(self, kinds: Sequence[str], name: str, most: int, *, but: str = "") -> Sequence[Kept]:
        """The latest entries of some kinds under one name, the newest first; none about the subject `but`."""
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT seq, body FROM entries WHERE kind IN ({marks}) AND name = ? AND subject != ? ORDER BY seq DESC LIMIT ?"  # noqa: S608  (marks only)
        return list(self._read(query, (*kinds, name, but, most)))

    def last_before(self, kind: str, seq: int) -> Kept | None:
        """The latest entry of a kind before entry `seq`."""
        query = "SELECT seq, body FROM entries WHERE kind = ? AND seq < ? ORDER BY seq DESC LIMIT 1"
        return next(iter(self._read(query, (kind, seq))), None)

    def _read(self, query: str, values: Iterable[Any]) -> Iterator[Kept]:
        with self._trouble():
            rows = self._file.execute(query, tuple(values)).fetchall()
        for seq, body in rows:
            yield Kept(seq, LogEntry.from_canonical(body))

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CovenantError(
                f"{self.path}, what this desk has seen of the log, cannot be used: {error}"
            ) from error


def require_kept(found: Sequence[Kept], what: str) -> Kept:
    """The last of `found`. Raises Refused where the log has none."""
    if not found:
        raise Refused(f"the log has no entry of {what}: it was told to you, and to nobody else")
    return found[-1]
