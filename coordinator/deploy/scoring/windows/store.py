"""What a place remembers of its windows: one SQLite file in the service's state folder, which the service and commands beside it write in turns.

1. Charges are only ever added. What is released is written after its charge is on disk, in a transaction of its own, and raw counts are erased in
   the same: a crash in between loses the window, which stays charged. No window has noise twice.
2. An outcome's use is on disk with the charge that it is part of: none counts twice.
3. Raw counts of windows that are open are written each second. `secure_delete` overwrites what is erased; what a disk keeps of that is its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from protos.contract import Contract
from protos.windows import Monitor, Window
from strategies.errors import DiskError, Refused
from strategies.ids import Digest

WATCH_FILE: Final = "watch.sqlite3"
_FORMAT: Final = 1
_WAIT_S: Final = 30.0
_MODE: Final = 0o600
_SETTINGS: Final = ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON")
_SCHEMA: Final = (
    "CREATE TABLE monitors (digest TEXT PRIMARY KEY, document BLOB NOT NULL, first INTEGER NOT NULL) STRICT",
    "CREATE TABLE versions (digest TEXT PRIMARY KEY, model TEXT NOT NULL, contract BLOB NOT NULL, features TEXT NOT NULL) STRICT",
    "CREATE TABLE counts ( monitor TEXT NOT NULL, number INTEGER NOT NULL, version TEXT NOT NULL, counts BLOB NOT NULL, PRIMARY KEY (monitor, number, version) ) STRICT",
    "CREATE TABLE charges ( id INTEGER PRIMARY KEY, at REAL NOT NULL, monitor TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, filter_order INTEGER NOT NULL, release TEXT ) STRICT",
    "CREATE UNIQUE INDEX decisions_once ON charges (monitor, number) WHERE kind = 'decisions'",
    "CREATE TABLE releases ( sequence INTEGER PRIMARY KEY, charge INTEGER NOT NULL REFERENCES charges(id), document BLOB NOT NULL ) STRICT",
    "CREATE TABLE used (decision TEXT PRIMARY KEY, charge INTEGER NOT NULL REFERENCES charges(id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE gaps (since REAL NOT NULL, until REAL NOT NULL, decisions INTEGER NOT NULL) STRICT",
    "CREATE TABLE verdicts (monitor TEXT NOT NULL, number INTEGER NOT NULL, version TEXT NOT NULL, words TEXT NOT NULL) STRICT",
    "CREATE TABLE service (alive INTEGER NOT NULL, flushed REAL NOT NULL, place TEXT NOT NULL, monitor TEXT NOT NULL) STRICT",
    "CREATE TRIGGER charges_stay BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'charges are only ever added'); END;",
    "CREATE TRIGGER charges_never_change BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'charges are only ever added'); END;",
)

Integers = npt.NDArray[np.int64]
Counted = Mapping[tuple[int, Digest], Integers]
"""Raw counts by number of the window and digest of the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A model version whose decisions are counted: its registered name, contract and inputs."""

    digest: Digest
    model: str
    contract: Contract
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """When a crash may have kept decisions from being counted, in seconds since 1970, and how many the log has from then."""

    since: float
    until: float
    decisions: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One transaction. Everything that it is told is on disk when it has ended."""

    connection: sqlite3.Connection

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of a question."""
        return self.connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: object) -> int:
        """Change something; the row that was added."""
        return int(self.connection.execute(sql, values).lastrowid or 0)

    def each(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Change something for each of `values`."""
        self.connection.executemany(sql, values)

    def begin(self, place: str, monitor: Monitor, index: int, at: float) -> int:
        """Watch `place` by `monitor` from now on. Its windows are counted from that `index` since 1970 on, or from where they were before; which it is."""
        self.run("INSERT OR IGNORE INTO monitors VALUES (?, ?, ?)", monitor.digest, monitor.canonical, index)
        self.run(
            "UPDATE service SET alive = 1, flushed = ?, place = ?, monitor = ?", at, place, monitor.digest
        )
        ((first,),) = self.rows("SELECT first FROM monitors WHERE digest = ?", monitor.digest)
        return _whole(first)

    def add_version(self, version: Version) -> None:
        """Remember a version whose decisions are counted."""
        self.run(
            "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?)",
            version.digest,
            version.model,
            version.contract.canonical,
            "\n".join(version.features),
        )

    def write_counts(self, monitor: Digest, counts: Counted, flushed: float) -> None:
        """Have the raw counts of open windows be these."""
        self.each(
            "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?)",
            ((monitor, *key, each.astype("<i8").tobytes()) for key, each in counts.items()),
        )
        self.run("UPDATE service SET flushed = ?", flushed)

    def erase(self, monitor: Digest, number: int) -> None:
        """Erase the raw counts of a window."""
        self.run("DELETE FROM counts WHERE monitor = ? AND number = ?", monitor, number)

    def next_sequence(self) -> int:
        """The sequence of what is released next."""
        return self.last() + 1

    def release(self, charge: int, window: Window) -> None:
        """Write what is released."""
        self.run("INSERT INTO releases VALUES (?, ?, ?)", window.sequence, charge, window.canonical)

    def last(self) -> int:
        """The newest sequence, 0 for none."""
        ((found,),) = self.rows("SELECT max(sequence) FROM releases")
        return 0 if found is None else _whole(found)


class Store:
    """The file of one place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The file in a state folder, made where there is none. Raises DiskError, Refused for a file of another format."""
        store = cls(folder / WATCH_FILE)
        store.path.touch(_MODE)
        with store.turn() as turn:
            ((version,),) = turn.rows("PRAGMA user_version")
            if version == 0:
                for each in _SCHEMA:
                    turn.run(each)
                turn.run("INSERT INTO service VALUES (0, 0, '', '')")
                turn.run(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise Refused(
                    f"{store.path} has format {version}; this version reads {_FORMAT}: use the version that wrote it"
                )
        return store

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The file in the state folder of a service that watches. Raises Refused where there is none."""
        if not (folder / WATCH_FILE).is_file():
            raise Refused(
                f"{folder} has no {WATCH_FILE}: no service was watched there; start it with `covenant score serve --monitor`"
            )
        return cls.at(folder)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """A transaction, which ends with the block, and is undone if that raises. Raises DiskError when the file cannot be written or is none of ours."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                for each in _SETTINGS:
                    connection.execute(f"PRAGMA {each}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield Turn(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise DiskError(
                f"{self.path} cannot be used ({error}); mend the disk, or put a copy back, and start again"
            ) from error

    def monitor(self) -> tuple[Monitor, int]:
        """The monitor that was in force last, and the index of its first window. Raises Refused where there was none."""
        with self.turn() as turn:
            rows = turn.rows(
                "SELECT document, first FROM monitors WHERE digest = (SELECT monitor FROM service)"
            )
        if not rows:
            raise Refused(f"{self.path} has no monitor; start the service with --monitor")
        ((document, first),) = rows
        return Monitor.from_canonical(_bytes(document)), _whole(first)

    def service(self) -> tuple[bool, float]:
        """Whether a service did not end in order, and until when decisions are counted, in seconds since 1970; 0 before the first."""
        with self.turn() as turn:
            ((alive, flushed),) = turn.rows("SELECT alive, flushed FROM service")
        return bool(alive), float(str(flushed))

    def place(self) -> str:
        """The name of the place, as its service was started last."""
        with self.turn() as turn:
            ((name,),) = turn.rows("SELECT place FROM service")
        return str(name)

    def versions(self) -> Mapping[Digest, Version]:
        """Versions whose decisions were counted, by digest."""
        with self.turn() as turn:
            rows = turn.rows("SELECT digest, model, contract, features FROM versions")
        return {
            Digest(str(digest)): Version(
                digest=Digest(str(digest)),
                model=str(model),
                contract=Contract.from_canonical(_bytes(contract)),
                features=tuple(str(features).split("\n")),
            )
            for digest, model, contract, features in rows
        }

    def windows(self, after: int, most_bytes: int) -> tuple[Sequence[Window], int]:
        """What was released after a sequence, in order: the first ones, as many as `most_bytes` hold and at least one; and the newest sequence."""
        found: list[Window] = []
        size = 0
        with self.turn() as turn:
            last = turn.last()
            for (document,) in turn.connection.execute(
                "SELECT document FROM releases WHERE sequence > ? ORDER BY sequence", (after,)
            ):
                size += len(document)
                if found and size > most_bytes:
                    break
                found.append(Window.from_canonical(document))
        return found, last

    def told_of(self, monitor: Digest, number: int) -> Sequence[Digest]:
        """The versions that a window of decisions told of, in order; none for one that was not told."""
        with self.turn() as turn:
            rows = turn.rows(
                "SELECT document FROM releases JOIN charges ON charge = id WHERE monitor = ? AND number = ? AND kind = 'decisions'",
                monitor,
                number,
            )
        windows = [Window.from_canonical(_bytes(document)) for (document,) in rows]
        return sorted(Digest(each.version_digest) for each in windows)

    def gaps(self) -> Sequence[Gap]:
        """When crashes may have kept decisions from being counted."""
        with self.turn() as turn:
            rows = turn.connection.execute("SELECT since, until, decisions FROM gaps ORDER BY since")
            return [Gap(since=since, until=until, decisions=count) for since, until, count in rows]


def counts_from(blob: object) -> Integers:
    """Raw counts as they were written."""
    return np.frombuffer(_bytes(blob), dtype="<i8").astype(np.int64)


def _whole(value: object) -> int:
    assert isinstance(value, int)  # noqa: S101  (the table is STRICT)
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101  (the table is STRICT)
    return value
