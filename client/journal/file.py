"""The site's journal: an append-only, checksummed file of entries, each on disk before the caller goes on.

1. Entries are only ever appended. Each carries a SHA-256 over the one before it and itself, so an entry that was altered, removed
   or reordered is found when the journal is opened, and the journal is refused.
2. `append` returns after the flush. A record that a crash cut short, at whatever byte, is gone as a whole; all before it are there.
3. A write or flush that fails breaks the journal for good: `JournalBroken` must end the process. It is not tried again, because the
   kernel may have dropped the pages that it could not write and would call the second flush a success.
4. One process at a time. The lock is the file's own, and is held until the process ends.
5. The first entry says whose journal it is; nobody else can open it.

SQLite in WAL mode under an exclusive lock (ADR 11): one flush an entry, a torn tail is told by its checksums, no second connection.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from strategies.encoding import canonical_json
from strategies.errors import CovenantError, DiskError, UsageError

Connect = Callable[[str], sqlite3.Connection]

_OPENED: Final = "opened"
_FORMAT: Final = 2
_CUT_LOG: Final = "PRAGMA wal_checkpoint(TRUNCATE)"
_MODE: Final = 0o600
_BUSY: Final = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
_NOT_A_JOURNAL: Final = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS attachments (
    seq INTEGER PRIMARY KEY REFERENCES entries(seq), content BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are only ever appended'); END;
CREATE TRIGGER IF NOT EXISTS entries_never_change BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are only ever appended'); END;
"""


class JournalBroken(DiskError):  # noqa: N818  (names the state that the process is left in)
    """The journal cannot be written, or is damaged. Nothing may leave this site any more: the process must end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose journal it is: `root` is the public key of the federation's root, `identity` the site's."""

    federation: str
    root: str
    site: str
    identity: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `seq` counts from 1."""

    seq: int
    kind: str
    body: Mapping[str, Any]


def connect(path: str) -> sqlite3.Connection:
    """Open an SQLite file, waiting for nobody; transactions are the caller's."""
    return sqlite3.connect(path, timeout=0.0, isolation_level=None)


class Journal:
    """An open journal. `open` is its only maker."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._broken: str | None = None
        self._seq, self._checksum = 0, b""

    @classmethod
    def open(cls, path: Path, owner: Owner, *, connect: Connect = connect) -> Self:
        """Open the journal at `path`, or begin it (mode 0600), and verify every entry.

        Raises `UsageError` if another process has it open or it is somebody else's, `JournalBroken` if it is damaged or cannot be
        written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _MODE))
            path.chmod(_MODE)  # it holds updates, which are confidential, whoever put the file there
        except OSError as error:
            raise UsageError(
                f"the journal {path} cannot be opened ({error.strerror}); `journal` must name a file, on a local disk, that the "
                "agent's user may write"
            ) from error
        journal = cls(path, connect(str(path)))
        try:
            journal._prepare()
            journal._verify(owner)
        except CovenantError:
            journal.close()
            raise
        return journal

    def append(
        self,
        kind: str,
        body: Mapping[str, Any],
        attachment: bytes | None = None,
        *,
        keep: int = 0,
        forget: int | None = None,
    ) -> Entry:
        """Append an entry and flush it; on return it survives a power cut. Raises `JournalBroken`, for good.

        `body` must have a canonical JSON form. An `attachment` is stored beside it; of all attachments the newest `keep` stay.
        What was stored beside entry `forget` goes in the same step.
        """
        self._require_whole()
        content = canonical_json(dict(body))
        entry = Entry(self._seq + 1, kind, body)
        checksum = _checksum(self._checksum, entry.seq, kind, content)
        with self._breaking(f"appending a {kind} entry"):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?)", (entry.seq, kind, content, checksum)
            )
            if forget is not None:
                self._connection.execute("DELETE FROM attachments WHERE seq = ?", (forget,))
            if attachment is not None:
                self._connection.execute("INSERT INTO attachments VALUES (?, ?)", (entry.seq, attachment))
                self._connection.execute(
                    "DELETE FROM attachments WHERE seq NOT IN (SELECT seq FROM attachments ORDER BY seq DESC LIMIT ?)",
                    (keep,),
                )
            self._connection.commit()
            if forget is not None:
                # What was deleted stands in the log until that is cut.
                self._connection.execute(_CUT_LOG)
        self._seq, self._checksum = entry.seq, checksum
        return entry

    def entries(self, kind: str) -> Iterator[Entry]:
        """All entries of a kind, the oldest first."""
        self._require_whole()
        query = "SELECT seq, body FROM entries WHERE kind = ? ORDER BY seq"
        with self._breaking("reading"):
            rows = self._connection.execute(query, (kind,)).fetchall()
        return (Entry(seq, kind, json.loads(body)) for seq, body in rows)

    def attachment(self, seq: int) -> bytes | None:
        """What is stored beside entry `seq`, or None if there was nothing or it is no longer kept."""
        self._require_whole()
        with self._breaking("reading"):
            row = self._connection.execute("SELECT content FROM attachments WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the file. A broken journal is left as it lies: closing would flush, and a failed flush is not tried again."""
        if self._broken is None:
            self._connection.close()

    def _prepare(self) -> None:
        """Set how the file is written, and make sure that all that can be read is on the disk and not in a cache alone."""
        with self._breaking("opening"):
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "secure_delete = ON",
            ):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
            self._connection.execute(_CUT_LOG)

    def _verify(self, owner: Owner) -> None:
        """Walk the chain, and begin it in a new journal."""
        expected = {"format": _FORMAT, **asdict(owner)}
        query = "SELECT seq, kind, body, checksum FROM entries ORDER BY seq"
        with self._breaking("reading"):
            rows = self._connection.execute(query).fetchall()
        for seq, kind, body, checksum in rows:
            if seq != self._seq + 1 or checksum != _checksum(self._checksum, seq, kind, body):
                raise JournalBroken(
                    self._damaged(f"entry {self._seq + 1} of {len(rows)} does not fit the one before it")
                )
            self._seq, self._checksum = seq, checksum
        if not rows:
            self.append(_OPENED, expected)
        elif (found := json.loads(rows[0][2])) != expected:
            raise UsageError(
                f"{self._path} is the journal of {found.get('site')} in federation {found.get('federation')} "
                f"({_difference(found, expected)}), not of {owner.site} in {owner.federation}: an agent goes on with its own journal "
                "only; put that back, or name another folder"
            )

    def _damaged(self, what: str) -> str:
        return (
            f"{self._path} is damaged: {what}. Keep the file for the officers and have this site enrolled anew under a new key; an "
            "older copy in its place would let this site answer a round a second time"
        )

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise JournalBroken(self._broken)

    def _breaking(self, doing: str) -> _Breaking:
        return _Breaking(self, doing)

    def _break(self, doing: str, error: sqlite3.Error) -> NoReturn:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        if code in _BUSY:
            raise UsageError(
                f"{self._path} is in use: another agent of this site runs already; stop that one first"
            ) from error
        if any(code.startswith(name) for name in _NOT_A_JOURNAL):
            self._broken = self._damaged(str(error))
        else:
            self._broken = (
                f"{doing} in {self._path} failed ({error}, {code}); this agent stops, and nothing that was not recorded has left. "
                "Check the disk and its free space before it is started again"
            )
        raise JournalBroken(self._broken) from error


@dataclass(frozen=True, slots=True)
class _Breaking:
    """Whatever SQLite raises in this block ends the use of the journal."""

    journal: Journal
    doing: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            self.journal._break(self.doing, error)  # noqa: SLF001 (the other half of this class)


def _checksum(before: bytes, seq: int, kind: str, body: bytes) -> bytes:
    """SHA-256 over the checksum before, and the entry with its parts length-prefixed."""
    digest = hashlib.sha256(before)
    digest.update(seq.to_bytes(8, "big"))
    for part in (kind.encode(), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return "another " + ", ".join(sorted(name for name in expected if found.get(name) != expected[name]))
