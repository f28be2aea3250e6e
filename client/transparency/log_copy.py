"""The site's copy of the transparency log, in a file of its own: for whoever has lost the coordinator's database, and for who looks at it here.

1. Entries are taken only if they and those before them are what a head begins with that the log's key signed, and that this site signs.
2. What this site says that it has copied is on its disk.
3. No run waits for a copy. A file that cannot be read or written is left as it lies until the agent is started again, and nothing is copied meanwhile.
4. Entries that a head does not have any more, because a gap has lost them or the log began anew, stay in the file beside the copy.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from client.journal import words
from client.journal.entries import Owner
from client.journal.file import Connect, connect
from protos.log_proofs import ProofMissing, Shown
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused
from strategies.transparency.merkle import HASH_BYTES, Frontier, ProofRefused, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote

_PRAGMAS: Final = ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL")
_MODE: Final = 0o600
_PAGE: Final = 1000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owner (facts BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, nodes BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS left_behind (seq INTEGER NOT NULL, body BLOB NOT NULL, why TEXT NOT NULL) STRICT;
"""
_log = structlog.get_logger(__name__)


class Contradicted(Refused):
    """Entries that are not those of the head that they came with, although all before them are."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Entries that follow the copy and are of a signed head: `tree` is over the copy with them, `note` the head's where they reach it."""

    rows: tuple[tuple[int, bytes, bytes], ...]
    tree: Frontier
    note: str | None


class LogCopy:
    """An open copy. `open` is its only maker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._given_up: sqlite3.Connection | None = None
        self._tree = Frontier()

    @classmethod
    def open(cls, path: Path, owner: Owner, *, connect: Connect = connect) -> Self:
        """The copy at `path`, or a new one (mode 0600). One that cannot be used copies nothing, and the site's log says why."""
        copy = cls(path)
        copy._guarded("opening it", lambda: copy._open(owner, connect))
        return copy

    @property
    def size(self) -> int:
        """How many entries it has; 0 where it cannot be used."""
        return 0 if self._connection is None else self._tree.size

    def weigh(self, first: int, entries: Sequence[bytes], shown: Shown) -> Fresh | None:
        """What of `entries`, which are numbered from `first`, follows this copy; None where nothing does, or nothing shows that they are of the head.

        Raises Contradicted.
        """
        if self._connection is None or not entries or not first <= self.size < first + len(entries):
            return None
        origin, tree, rows = shown.head.origin, self._tree, []
        for body in entries[self.size - first :]:
            tree, completed = tree.append(leaf_hash(body))
            rows.append((tree.size - 1, body, b"".join(node for _, _, node in completed)))
        try:
            shown.require_extends(Checkpoint(origin=origin, size=tree.size, root=tree.root))
        except ProofMissing:
            return None
        except ProofRefused as refused:
            self._require_own_fault(shown, refused)
            return None
        return Fresh(tuple(rows), tree, shown.note.encoded if tree.size == shown.head.size else None)

    def _require_own_fault(self, shown: Shown, refused: ProofRefused) -> None:
        """Raise Contradicted where the head begins with this copy, so that it is the new entries that are none of its."""
        try:
            shown.require_extends(Checkpoint(origin=shown.head.origin, size=self.size, root=self._tree.root))
        except ProofMissing:
            return
        except ProofRefused:
            _log.error("the copy is not of this log", file=str(self._path), reason=str(refused))
            return
        raise Contradicted(
            f"the entries from {self.size} on are not those of the head: {refused}"
        ) from refused

    def keep(self, fresh: Fresh | None) -> None:
        """Have entries on the disk; on return `size` says whether they are."""
        if fresh is not None:
            self._guarded("adding entries to it", lambda: self._keep(fresh))

    def leave_behind(self, size: int, why: str) -> None:
        """Go on from the first `size` entries, or from where the copy is if that has fewer. The others stay in the file."""
        if size < self.size:
            _log.warning("entries left behind", entries=self.size - size, reason=why)
            self._guarded("going back in it", lambda: self._leave(size, why))

    def newest(self) -> SignedNote | None:
        """The newest head that it reaches; None if there is none. Raises CovenantError where the copy cannot be used."""
        query = "SELECT note FROM heads ORDER BY size DESC LIMIT 1"
        row = self._usable().execute(query).fetchone()
        return None if row is None else SignedNote.parse(row[0])

    def entries(self, stop: int) -> Iterator[bytes]:
        """The entries before number `stop`, in order. Raises as `newest`."""
        query = "SELECT seq, body FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
        place = 0
        while rows := self._usable().execute(query, (place, stop, _PAGE)).fetchall():
            yield from (bytes(body) for _, body in rows)
            place = rows[-1][0] + 1

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, owner: Owner, connect: Connect) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _MODE))
        self._connection = connect(str(self._path))
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_SCHEMA)
        mine = canonical_json(
            {**asdict(owner), "identity": ""}
        )  # a site that is enrolled anew goes on with its copy
        row = self._connection.execute("SELECT facts FROM owner").fetchone()
        if row is None:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO owner VALUES (?)", (mine,))
            self._connection.commit()
        elif bytes(row[0]) != mine:
            raise Refused(
                f"it is the copy of {words.named(json.loads(row[0]))}, not of {words.named(asdict(owner))}"
            )
        self._tree = self._read_tree()

    def _read_tree(self) -> Frontier:
        connection = self._usable()
        (size,) = connection.execute("SELECT coalesce(max(seq) + 1, 0) FROM entries").fetchone()

        def subtree(level: int, index: int) -> bytes:
            place = ((index + 1) << level) - 1
            row = connection.execute("SELECT nodes FROM entries WHERE seq = ?", (place,)).fetchone()
            nodes = b"" if row is None else bytes(row[0])[level * HASH_BYTES : (level + 1) * HASH_BYTES]
            if len(nodes) != HASH_BYTES:
                raise Refused(f"entry {place} is missing or incomplete")
            return nodes

        return Frontier.of(size, subtree)

    def _keep(self, fresh: Fresh) -> None:
        connection = self._usable()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", fresh.rows)
        if fresh.note is not None:
            connection.execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", (fresh.tree.size, fresh.note))
        connection.commit()
        self._tree = fresh.tree

    def _leave(self, size: int, why: str) -> None:
        connection = self._usable()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO left_behind SELECT seq, body, ? FROM entries WHERE seq >= ? ORDER BY seq",
            (why, size),
        )
        connection.execute("DELETE FROM entries WHERE seq >= ?", (size,))
        connection.execute("DELETE FROM heads WHERE size > ?", (size,))
        connection.commit()
        self._tree = self._read_tree()

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Refused(f"the copy of the log in {self._path} cannot be used; the site's log says why")
        return self._connection

    def _guarded(self, doing: str, act: Callable[[], None]) -> None:
        """Whatever fails ends the use of the copy, and of nothing else."""
        try:
            act()
        except (sqlite3.Error, OSError, CovenantError) as error:
            _log.error("no copy of the log", file=str(self._path), doing=doing, reason=str(error))
            # Not closed: after a failed flush that would flush a second time.
            self._given_up, self._connection = self._connection, None
