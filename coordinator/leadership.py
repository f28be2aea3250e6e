"""Who leads where several coordinators share one database: one holds a lease, the others wait.

1. The lease is a row, taken and renewed by compare-and-set under its lock, by the database's clock (on SQLite, whose users are on one machine, by
   the machine's). It is renewed every 2 s and good for 10 s.
2. Whoever takes it begins the next term. What only a leader may write checks, in its own transaction, that its term is still held: a leader that
   was stalled writes nothing any more.
3. A leader that cannot renew ends its processes while the lease is still good. It measures that with its own monotonic clock, from before it asked.
4. A lease is given back on a clean stop, when everything that it covered has ended; the next one leads at once. So does a coordinator that is
   started again in the same home after a crash: the home's lock says that the process which held the lease has ended.
"""

from __future__ import annotations

import fcntl
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading, writing
from coordinator.db.halt_schema import LeadershipRow
from strategies.errors import CovenantError, Refused

VALID_S: Final = 10.0
RENEW_S: Final = 2.0
_SPARE: Final = 0.3
"""The part of the lease that is left for ending everything."""
_LOOK_S: Final = 0.1
_ONE: Final = 1
_log = structlog.get_logger(__name__)


class Deposed(CovenantError):  # noqa: N818  (names the state that the leader is in)
    """Somebody who no longer leads wanted to write as the leader."""


@dataclass(frozen=True, slots=True)
class Term:
    """That this process leads; `Lease.take` is its only maker."""

    number: int
    clock: Callable[[], datetime]

    def require(self, session: Session) -> None:
        """Check that the term is still held, and have it stay so until the transaction ends. Raises Deposed."""
        row = session.get(LeadershipRow, _ONE, with_for_update={"read": True})
        if row is None or not _holds(row, self.number, _now(session, self.clock)):
            raise Deposed(
                f"this coordinator led in term {self.number}, which is over"
                + ("" if row is None else f"; term {row.term} is of {row.holder}")
                + ". It stops what it was doing"
            )


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads now, from which home, and until when at least."""

    holder: str
    home: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Seat:
    """A coordinator's home: its `name`, random, and whether this process is `alone` in serving it, which its lock says."""

    name: str
    alone: bool


@contextmanager
def seat_in(home: Path) -> Iterator[Seat]:
    """Take the seat of `home` while the block runs; another process of this machine that has it is not disturbed."""
    with _seat_file(home).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        file.seek(0)
        name = file.read().strip()
        if alone and not name:
            name = secrets.token_hex(8)
            file.write(name)
            file.flush()
        yield Seat(name, alone)


def seat_name(home: Path) -> str:
    """The name of `home`; empty where nobody has served it yet."""
    try:
        return _seat_file(home).read_text().strip()
    except FileNotFoundError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease as one coordinator sees it. `holder` names this process for people."""

    engine: Engine
    holder: str
    seat: Seat
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    valid_s: float = VALID_S
    renew_s: float = RENEW_S

    def leader(self) -> Leader | None:
        """Who leads now; None if nobody does."""
        with reading(self.engine, "looking for the leader") as session:
            return _leader(session, self.clock)

    def take(self) -> Term | None:
        """Begin the next term, unless somebody leads. Whoever waits only reads."""
        if (leader := self.leader()) is not None and not self._was_ours(leader.home):
            return None
        with writing(self.engine, "taking the lead") as session:
            row = _row(session)
            now = _now(session, self.clock)
            if row.until is not None and row.until > now and not self._was_ours(row.home):
                return None
            row.term, row.holder, row.home = row.term + 1, self.holder, self.seat.name
            row.until = now + timedelta(seconds=self.valid_s)
            return Term(row.term, self.clock)

    def _was_ours(self, home: str) -> bool:
        """Whether the leader was a process of this home, which has ended: this one has its seat."""
        return self.seat.alone and self.seat.name == home

    def renew(self, term: Term) -> bool:
        """Hold the lease for `valid_s` from now; False if it has ended, whoever has it since."""
        with writing(self.engine, "renewing the lead") as session:
            row = _row(session)
            now = _now(session, self.clock)
            if not _holds(row, term.number, now):
                return False
            row.until = now + timedelta(seconds=self.valid_s)
            return True

    def give_back(self, term: Term) -> None:
        """Let another one lead at once."""
        with writing(self.engine, "giving the lead back") as session:
            row = _row(session)
            if row.term == term.number:
                row.until = None

    @contextmanager
    def kept(self, term: Term, asked_at: float, on_lost: Callable[[], None]) -> Iterator[Keeper]:
        """Renew while the block runs, and give back after it. `asked_at` is this process's monotonic time before the term was taken.

        `on_lost` is called in another thread, while the lease is still good if its end was foreseen: it must end at once what only a leader runs.
        """
        keeper = Keeper(self, term, asked_at + self.valid_s, on_lost)
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.stop()
            if not keeper.lost:
                with suppress(CovenantError):  # then it ends by itself
                    self.give_back(term)


@dataclass
class Keeper:
    """Renews a lease in one thread, and watches its end in another, which no slow database holds up."""

    lease: Lease
    term: Term
    _until: float
    """By the monotonic clock."""
    _on_lost: Callable[[], None]
    _refused: threading.Event = field(default_factory=threading.Event)
    _lost: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watching: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether this process leads no longer."""
        return self._lost.is_set()

    def start(self) -> None:
        """Begin both."""
        self._watching = threading.Thread(target=self._watch, name="lease-watch", daemon=True)
        self._watching.start()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def stop(self) -> None:
        """End both; a renewal on its way to the database is not waited for."""
        self._stopping.set()
        if self._watching is not None:
            self._watching.join()

    def _renew(self) -> None:
        while not self._stopping.wait(self.lease.renew_s):
            asked = self.lease.monotonic()
            try:
                renewed = self.lease.renew(self.term)
            except CovenantError as error:
                _log.warning("the lead was not renewed; trying again", reason=str(error))
                continue
            if not renewed:
                self._refused.set()
                return
            self._until = asked + self.lease.valid_s

    def _watch(self) -> None:
        spare = _SPARE * self.lease.valid_s
        while not self._stopping.wait(min(_LOOK_S, spare / 2)):
            if self._refused.is_set() or self.lease.monotonic() >= self._until - spare:
                self._lost.set()
                _log.error("this coordinator leads no longer; ending what it runs", term=self.term.number)
                self._on_lost()
                return


def require_led_here(session: Session, home: Callable[[], str], clock: Callable[[], datetime]) -> None:
    """Raise Refused where a coordinator of another home leads: on its SuperLink alone a run can be started."""
    leader = _leader(session, clock)
    if leader is not None and leader.home != home():
        raise Refused(f"another coordinator leads: {leader.holder}; start the run with its home")


def _seat_file(home: Path) -> Path:
    return home / "serve.lock"


def _leader(session: Session, clock: Callable[[], datetime]) -> Leader | None:
    row = session.get(LeadershipRow, _ONE)
    if row is None or row.until is None or row.until <= _now(session, clock):
        return None
    return Leader(row.holder, row.home, row.until)


def _row(session: Session) -> LeadershipRow:
    row = session.get(LeadershipRow, _ONE, with_for_update=True)
    if row is None:
        raise CovenantError("the database has lost the row that says who leads; restore it from a backup")
    return row


def _holds(row: LeadershipRow, term: int, now: datetime) -> bool:
    return row.term == term and row.until is not None and row.until > now


def _now(session: Session, clock: Callable[[], datetime]) -> datetime:
    """The database's clock, which all see alike; SQLite has none but the machine's."""
    if session.get_bind().dialect.name == "postgresql":
        found = session.scalar(select(func.clock_timestamp()))
        if not isinstance(found, datetime):
            raise CovenantError("the database does not say what time it is")
        return found
    return clock()
