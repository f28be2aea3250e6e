"""The site's journal: an append-only, checksummed file of entries, each on disk before the caller goes on.

1. Entries are only ever appended. Each carries a SHA-256 over the one before it and itself, so an entry that was altered, removed
   or reordered is found when the journal is opened, and the journal is refused.
2. `append` returns after the flush. A record that a crash cut short, at whatever byte, is gone as a whole; all before it are there.
3. A write or flush that fails breaks the journal for good: `JournalBroken` must end the process. It is not tried again, because the
   kernel may have dropped the pages that it could not write and would call the second flush a success.
4. One process at a time. The lock is the file's own, and is held until the process ends. A journal that is opened to be `shared` is locked for
   one `turn` at a time instead, which begins with reading, and verifying, what others have appended.
5. The first entry says whose journal it is; nobody else can open it.

SQLite in WAL mode under an exclusive lock (ADR 11): one flush an entry, a torn tail is told by its checksums, no second connection. A shared one
has a rollback journal with synchronous=EXTRA.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from client.journal import words
from client.journal.entries import Entry, Holder, JournalBroken, JournalInUse, Owner, chained
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, UsageError

Connect = Callable[[str], sqlite3.Connection]

_OPENED: Final = "opened"
_FORMAT: Final = 2
_ALONE: Final = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
)
_SHARED: Final = ("busy_timeout = 30000", "journal_mode = DELETE", "synchronous = EXTRA")
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


def connect(path: str) -> sqlite3.Connection:
    """Open an SQLite file, waiting for nobody; transactions are the caller's."""
    return sqlite3.connect(path, timeout=0.0, isolation_level=None)


def _make_sure_of(path: Path) -> None:
    """Begin an empty file at `path`, or find a writable one that is no link. Raises OSError.

    One that is there is not opened: to close it again would drop the locks that this process has on it, and let another process into a turn.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE))
    except FileExistsError:
        kind = path.lstat().st_mode
        if not stat.S_ISREG(kind):
            number = (
                errno.ELOOP if stat.S_ISLNK(kind) else errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            )
            raise OSError(number, os.strerror(number)) from None
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


@dataclass(frozen=True, slots=True)
class Turn:
    """Sole use of a shared journal: `fresh` is what others have appended since this process had its last.

    After a turn that raised, what was fresh in it comes again in the next.
    """

    fresh: list[Entry]
    append: Callable[[str, Mapping[str, Any]], Entry]
    """Append an entry of a kind, which is on disk when the turn has ended."""


class Journal:
    """An open journal. `open` is its only maker."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, shared: bool) -> None:
        self._path = path
        self._connection = connection
        self._shared = shared
        self._broken: str | None = None
        self._seq, self._checksum = 0, b""

    @classmethod
    def open(
        cls, path: Path, owner: Owner | Holder, *, connect: Connect = connect, shared: bool = False
    ) -> Self:
        """Open the journal at `path`, or begin it (mode 0600), and verify every entry; `shared` with other processes, or alone.

        Raises `JournalInUse` if another process has it, `UsageError` if it is somebody else's or of a newer version, and `JournalBroken`
        if it is damaged or cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_sure_of(path)
            path.chmod(_MODE)  # it holds updates, which are confidential, whoever put the file there
        except OSError as error:
            raise UsageError(words.cannot_be_opened(path, error)) from error
        journal = cls(path, connect(str(path)), shared=shared)
        try:
            journal._prepare()
            journal._begin(owner)
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
        with self._breaking(f"appending a {kind} entry"):
            self._connection.execute("BEGIN IMMEDIATE")
            entry, checksum = self._insert(kind, body)
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

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Read what others have appended to a shared journal, decide, and append, while nobody else can.

        What the block appends is on disk when it ends, all of it; if it raises, none of it is.
        """
        self._require_whole()
        before = (self._seq, self._checksum)
        with self._breaking("taking a turn"):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            with self._breaking("taking a turn"):
                fresh = self._catch_up()
            yield Turn(fresh, self._append_in_turn)
            with self._breaking("ending a turn"):
                self._connection.commit()
        except BaseException:
            self._seq, self._checksum = before
            if self._broken is None:
                self._connection.rollback()
            raise

    def _append_in_turn(self, kind: str, body: Mapping[str, Any]) -> Entry:
        with self._breaking(f"appending a {kind} entry"):
            entry, self._checksum = self._insert(kind, body)
        self._seq = entry.seq
        return entry

    def _insert(self, kind: str, body: Mapping[str, Any]) -> tuple[Entry, bytes]:
        """Add the entry that follows, in the transaction that is open; with its checksum."""
        content = canonical_json(dict(body))
        entry = Entry(self._seq + 1, kind, body)
        checksum = chained(self._checksum, entry.seq, kind, content)
        self._connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?)", (entry.seq, kind, content, checksum)
        )
        return entry, checksum

    def entries(self, *kinds: str) -> Iterator[Entry]:
        """All entries of `kinds`, the oldest first, as far as this process has verified them."""
        self._require_whole()
        query = "SELECT seq, kind, body FROM entries WHERE kind IN (SELECT value FROM json_each(?)) AND seq <= ? ORDER BY seq"
        with self._breaking("reading"):
            rows = self._connection.execute(query, (json.dumps(kinds), self._seq)).fetchall()
        return (Entry(seq, kind, json.loads(body)) for seq, kind, body in rows)

    def attachment(self, seq: int) -> bytes | None:
        """What is stored beside entry `seq`, or None if there was nothing or it is no longer kept."""
        self._require_whole()
        with self._breaking("reading"):
            row = self._connection.execute("SELECT content FROM attachments WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])

    @property
    def head(self) -> tuple[int, str]:
        """The last entry that this process knows: its number and its checksum in hexadecimal."""
        return self._seq, self._checksum.hex()

    def head_at(self, seq: int) -> tuple[int, str]:
        """The head when entry `seq`, which must be there, was the last."""
        self._require_whole()
        with self._breaking("reading"):
            row = self._connection.execute("SELECT checksum FROM entries WHERE seq = ?", (seq,)).fetchone()
        return seq, bytes(row[0]).hex()

    @property
    def has_grown(self) -> bool:
        """Whether others have appended to a shared journal since this process looked last, which `turn` then reads and verifies."""
        self._require_whole()
        with self._breaking("reading"):
            query = "SELECT 1 FROM entries WHERE seq > ?"
            return self._connection.execute(query, (self._seq,)).fetchone() is not None

    def holds(self, head: tuple[int, str]) -> bool:
        """Whether an entry is there, to the checksum: not so in an older copy of the file, or in another one."""
        self._require_whole()
        query = "SELECT 1 FROM entries WHERE seq = ? AND checksum = ?"
        with self._breaking("reading"):
            return self._connection.execute(query, (head[0], bytes.fromhex(head[1]))).fetchone() is not None

    def close(self) -> None:
        """Close the file. A broken journal is left as it lies: closing would flush, and a failed flush is not tried again."""
        if self._broken is None:
            self._connection.close()

    def _prepare(self) -> None:
        """Set how the file is written, and make sure that all that can be read is on the disk and not in a cache alone."""
        with self._breaking("opening"):
            for pragma in _SHARED if self._shared else _ALONE:
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
            if not self._shared:
                self._connection.execute(_CUT_LOG)

    def _begin(self, owner: Owner | Holder) -> None:
        """Verify whose journal it is, and begin a new one."""
        expected = {"format": _FORMAT, **asdict(owner)}
        with self.turn() as turn:
            if not self._seq:
                turn.append(_OPENED, expected)
                return
        first = next(self.entries(_OPENED)).body
        if first != expected:
            if isinstance(written := first.get("format"), int) and written > _FORMAT:
                raise UsageError(words.too_new(self._path, written, _FORMAT))
            raise UsageError(words.not_of(self._path, first, expected))

    def _catch_up(self) -> list[Entry]:
        """Walk the chain on from where this process has it."""
        query = "SELECT seq, kind, body, checksum FROM entries WHERE seq > ? ORDER BY seq"
        rows = self._connection.execute(query, (self._seq,)).fetchall()
        # The last that this process knows must still be there, or an older file was put in its place.
        if (
            self._seq
            and not self._connection.execute(
                "SELECT 1 FROM entries WHERE seq = ? AND checksum = ?", (self._seq, self._checksum)
            ).fetchone()
        ):
            self._fail_damaged(f"entry {self._seq}, which this process has written or read, is not there")
        total = self._seq + len(rows)
        for seq, kind, body, checksum in rows:
            if seq != self._seq + 1 or checksum != chained(self._checksum, seq, kind, body):
                self._fail_damaged(f"entry {self._seq + 1} of {total} does not fit the one before it")
            self._seq, self._checksum = seq, checksum
        return [Entry(seq, kind, json.loads(body)) for seq, kind, body, _ in rows]

    def _fail_damaged(self, what: str) -> NoReturn:
        self._broken = words.damaged(self._path, what, shared=self._shared)
        raise JournalBroken(self._broken)

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise JournalBroken(self._broken)

    @contextmanager
    def _breaking(self, doing: str) -> Iterator[None]:
        """Whatever SQLite raises in this block ends the use of the journal."""
        try:
            yield
        except sqlite3.Error as error:
            self._break(doing, error)

    def _break(self, doing: str, error: sqlite3.Error) -> NoReturn:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        if code in _BUSY:
            raise JournalInUse(words.in_use(self._path, shared=self._shared)) from error
        if any(code.startswith(name) for name in _NOT_A_JOURNAL):
            self._broken = words.damaged(self._path, str(error), shared=self._shared)
        else:
            self._broken = words.failed(self._path, doing, error, code)
        raise JournalBroken(self._broken) from error
