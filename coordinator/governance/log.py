"""The transparency log in the database: appended to in the transaction of what it tells, read to prove and to export.

1. `append` belongs into the transaction of the effect, as its last step: there is no effect without its entry, and no entry without the effect.
2. Whoever appends has the log for itself until its transaction ends, so entries have no gaps and one order.
3. Time goes on (`log_clock`): under a clock that was set back nothing is decided, and nothing launched. What comes of what was decided before, such
   as a round or the end of a run, is told as of the newest moment that the log has.
4. A head is signed once it is committed, and never twice for one size with different roots.
5. What an entry is about is indexed in its transaction (`log_subjects`), so that it is found; proofs and checks never look there.
6. Nothing is appended, and so nothing done, while a restored database lacks entries that somebody is known to have (`require_not_waiting`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, get_args

from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from coordinator.db.engine import reading, writing
from coordinator.db.log_schema import LoggedCheckpoint, LoggedEntry, LoggedSubject
from coordinator.db.recovery_schema import Restore
from coordinator.governance.log_tree import proved
from coordinator.keys import log_signer
from coordinator.settings import Settings
from protos.keys import public_bytes
from protos.log_clock import is_in_time, require_in_time
from protos.log_entries import LogEntry, ModelRegistered, What
from protos.log_names import origin_of
from protos.log_proofs import MOST_ENTRY_BYTES
from protos.log_run_events import RunEvent
from protos.log_subjects import subjects_of
from strategies.errors import CovenantError, Refused, UsageError
from strategies.transparency.merkle import (
    Frontier,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_at,
)
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_PAGE: Final = 1000
_FEW: Final = 20
_COURSE: Final = (*get_args(RunEvent), ModelRegistered)
"""The course of runs that were launched: judged by what was decided before, and by no clock."""


def append(session: Session, at: datetime, what: Iterable[What]) -> int:
    """Append an entry for each of `what`, in order, and return the size of the log then. Locks the log until the transaction ends, and
    looks at `what` only then, so that it may depend on what the log has.

    Raises UsageError for an entry that is too long, and Refused for a decision where `at` is before what the log has; nothing is appended then.
    """
    _take_turn(session)
    require_not_waiting(session)
    newest = _newest(session)
    return _append(session, (LogEntry(at=_moment(at, newest, each), what=each) for each in what))


def _moment(at: datetime, newest: datetime | None, what: What) -> datetime:
    """When an entry says that it was written. Raises Refused for a decision before what the log has."""
    if newest is not None and isinstance(what, _COURSE) and not is_in_time(at, newest):
        return newest
    require_in_time(at, newest)
    return at


def append_again(session: Session, bodies: Iterable[bytes]) -> int:
    """Append entries that this log had, byte for byte, from a copy that was verified; returns the size of the log then. Their effects are
    replayed in the same transaction (`coordinator.governance.replay`)."""
    _take_turn(session)
    return _append(session, _in_order(map(LogEntry.from_canonical, bodies), _newest(session)))


def _in_order(entries: Iterable[LogEntry], newest: datetime | None) -> Iterator[LogEntry]:
    """Entries that were written long ago, each after those before it."""
    for each in entries:
        require_in_time(each.at, newest)
        newest = each.at if newest is None else max(newest, each.at)
        yield each


def require_head(session: Session, head: Checkpoint) -> None:
    """Check, within a transaction, that the log has come to `head` and no further. Raises CovenantError."""
    size = _size(session)
    if size != head.size or proved(session, lambda subtree: root_at(size, subtree)) != head.root:
        raise CovenantError(
            f"the log has {size} entries that are not those of the head of {head.size} entries: a file was changed after it was verified; nothing was kept"
        )


def require_not_waiting(session: Session) -> None:
    """Check that the database does not lack entries that are known to be somewhere. Raises Refused."""
    if session.scalar(select(Restore.id).where(Restore.waits).limit(1)) is not None:
        raise Refused(
            "restored; a later head is known: give a copy of the log that reaches it to `covenant restore`, or have a gap signed"
            " (`covenant restore gap draft`) and apply it"
        )


def require_open(engine: Engine) -> None:
    """`require_not_waiting` in a transaction of its own, for whoever is about to begin something."""
    with reading(engine, "looking for a restore that waits") as session:
        require_not_waiting(session)


def _append(session: Session, entries: Iterable[LogEntry]) -> int:
    size = _size(session)
    tree = proved(session, lambda subtree: Frontier.of(size, subtree))
    rows, about = [], []
    for each in entries:
        body, kind = each.canonical, each.what.kind
        if len(body) > MOST_ENTRY_BYTES:
            raise UsageError(
                f"an entry of kind {kind} has {len(body)} bytes; the log takes at most {MOST_ENTRY_BYTES}"
            )
        tree, completed = tree.append(leaf_hash(body))
        nodes = b"".join(node for _, _, node in completed)
        rows.append({"seq": tree.size - 1, "kind": kind, "at": each.at, "body": body, "nodes": nodes})
        about += [{"subject": found.key, "seq": tree.size - 1} for found in subjects_of(each.what)]
    # RETURNING makes one statement of many rows, also where the driver would send them one by one.
    if rows:
        session.execute(insert(LoggedEntry).returning(LoggedEntry.seq), rows).all()
    if about:
        session.execute(insert(LoggedSubject).returning(LoggedSubject.seq), about).all()
    return tree.size


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as the log has it: its number, from 0, and its bytes."""

    seq: int
    body: bytes


def entries_of(
    engine: Engine, start: int = 0, stop: int | None = None, kind: str | None = None
) -> Iterator[RawEntry]:
    """The entries from `start` up to `stop`, in order, read piece by piece."""
    position = start
    while stop is None or position < stop:
        query = select(LoggedEntry.seq, LoggedEntry.body).where(LoggedEntry.seq >= position)
        if stop is not None:
            query = query.where(LoggedEntry.seq < stop)
        if kind is not None:
            query = query.where(LoggedEntry.kind == kind)
        with reading(engine, "reading the log") as session:
            rows = session.execute(query.order_by(LoggedEntry.seq).limit(_PAGE)).all()
        for seq, body in rows:
            yield RawEntry(seq, bytes(body))
        if len(rows) < _PAGE:
            return
        position = rows[-1].seq + 1


@dataclass(frozen=True, slots=True)
class TransparencyLog:
    """The log as whoever keeps it sees it: `key` is its name and public key, `sign` signs the text of a note."""

    engine: Engine
    key: NoteKey
    sign: Callable[[str], bytes]
    clock: Callable[[], datetime]

    def size(self) -> int:
        """The number of entries."""
        with reading(self.engine, "reading the log's head") as session:
            return _size(session)

    def checkpoint(self) -> SignedNote:
        """The signed note of the newest head."""
        with reading(self.engine, "reading the log's head") as session:
            size = _size(session)
            known = session.get(LoggedCheckpoint, size)
            head = self._head(session, size)
        if known is not None:
            return self._checked(known.note, head)
        line = self.key.line(self.sign(head.text))
        note = SignedNote(head.text, (line,))
        with writing(self.engine, f"signing the log's head at {size} entries") as session:
            if session.get(LoggedCheckpoint, size) is None:
                row = {"size": size, "note": note.encoded, "signed_at": self.clock()}
                if session.get_bind().dialect.name == "postgresql":
                    # Another driver may sign the same head at this moment; the bytes are the same.
                    session.execute(
                        postgresql.insert(LoggedCheckpoint).values(**row).on_conflict_do_nothing()
                    )
                else:
                    session.add(LoggedCheckpoint(**row))
        return note

    def inclusion(self, seq: int, size: int) -> tuple[bytes, ...]:
        """The proof that entry `seq` is in the log of `size` entries. Raises UsageError where it is not."""
        with reading(self.engine, f"proving entry {seq}") as session:
            self._require(session, size)
            return proved(session, lambda subtree: prove_inclusion(seq, size, subtree))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the log of `new` entries begins with the `old`. Raises UsageError where it does not."""
        with reading(self.engine, f"proving that the log grew from {old} to {new}") as session:
            self._require(session, new)
            return proved(session, lambda subtree: prove_consistency(old, new, subtree))

    def entries(self, start: int = 0, stop: int | None = None, kind: str | None = None) -> Iterator[RawEntry]:
        """The entries from `start` up to `stop`, in order, read piece by piece."""
        return entries_of(self.engine, start, stop, kind)

    def newest_first(self, kind: str, before: int | None = None) -> Iterator[RawEntry]:
        """The entries of a kind from the newest back, or from entry `before`, which is not among them."""
        while True:
            query = select(LoggedEntry.seq, LoggedEntry.body).where(LoggedEntry.kind == kind)
            if before is not None:
                query = query.where(LoggedEntry.seq < before)
            with reading(self.engine, "reading the log") as session:
                rows = session.execute(query.order_by(LoggedEntry.seq.desc()).limit(_FEW)).all()
            for seq, body in rows:
                yield RawEntry(seq, bytes(body))
            if len(rows) < _FEW:
                return
            before = rows[-1].seq

    def head(self, size: int) -> Checkpoint:
        """The head that the log had at `size` entries, not signed. Raises UsageError where it has fewer."""
        with reading(self.engine, f"reading the log's head at {size} entries") as session:
            self._require(session, size)
            return self._head(session, size)

    def _head(self, session: Session, size: int) -> Checkpoint:
        root = proved(session, lambda subtree: root_at(size, subtree))
        return Checkpoint(origin=self.key.name, size=size, root=root)

    def _checked(self, encoded: str, head: Checkpoint) -> SignedNote:
        """A note that was signed before. Raises CovenantError if the entries have changed since."""
        note = SignedNote.parse(encoded)
        if note.require(self.key) != head.text:
            raise CovenantError(
                f"the log's head at {head.size} entries is not the one that was signed: the database was changed by somebody. Stop, keep it as it"
                " is, and compare it with an export or with what sites have co-signed"
            )
        return note

    @staticmethod
    def _require(session: Session, size: int) -> None:
        if not 0 <= size <= (there := _size(session)):
            raise UsageError(f"the log has {there} entries, not {size}")


def open_log(engine: Engine, settings: Settings, clock: Callable[[], datetime]) -> TransparencyLog:
    """The log of a coordinator, with the key that signs its heads. Raises UsageError where that cannot be opened."""
    signer = log_signer(settings)
    key = NoteKey(origin_of(settings.config.federation), public_bytes(signer.public))
    return TransparencyLog(engine=engine, key=key, sign=signer.sign_note, clock=clock)


def _take_turn(session: Session) -> None:
    """SQLite's writers take turns anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE log_entries IN SHARE ROW EXCLUSIVE MODE"))


def _newest(session: Session) -> datetime | None:
    """The latest moment of any entry."""
    found: datetime | None = session.scalar(select(func.max(LoggedEntry.at)))
    return found


def _size(session: Session) -> int:
    last = session.scalar(select(func.max(LoggedEntry.seq)))
    return 0 if last is None else last + 1
