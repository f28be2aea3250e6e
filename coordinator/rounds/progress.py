"""How a run goes on, noted while its driver waits: whom it has asked, who has answered, what was sent and received, and why a site said nothing of use.

1. Noting never holds a run up: it is kept in memory, and a thread of its own writes it about once a second. What cannot be written is left out.
2. Rows add up over attempts and drivers; nothing is decided by them (`coordinator.db.progress_schema`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from coordinator.db.engine import writing
from coordinator.db.progress_schema import SiteExchange, SiteHeard
from coordinator.rounds.exchange import Answered, Outcome
from protos.frames import Stage
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName
from strategies.pieces import Bytes

ANSWER: Final = "answer"
INPUT: Final = "input"
WITNESS: Final = "witness"
VOUCH: Final = "vouch"
_READS_ROWS: Final = frozenset({ANSWER, INPUT})
"""The steps for which a site has read its rows, and judged them by the contract."""
_OF_CONTRACT: Final = "refused (contract)"
_EVERY_S: Final = 1.0
_LONGEST_TROUBLE: Final = 500
_log = structlog.get_logger(__name__)


class Progress:
    """Where exchanges are told to. This one forgets them, for runs that nobody looks at."""

    def asking(
        self, stage: Stage, number: int, step: str, frames: Mapping[SiteName, Bytes]
    ) -> Mapping[SiteName, Bytes]:
        """An exchange begins; the frames are taken from what is returned."""
        del stage, number, step
        return frames

    def heard(self, site: SiteName, outcome: Outcome, trouble: str | None) -> None:
        """An outcome came; `trouble` is why it is of no use."""

    def version(self, site: SiteName, release: str) -> None:
        """A site has told the release of its agent."""

    def done(self) -> None:
        """The exchange is over, however it ended."""


class _Key(NamedTuple):
    stage: str
    round: int
    site: SiteName


@dataclass(slots=True)
class _Noted:
    """What is not written yet of one stage of one round with one site."""

    asked: int = 0
    answered: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    step: str = ANSWER
    waiting: bool = False
    trouble: str | None = None
    answered_at: datetime | None = None
    trouble_at: datetime | None = None
    fits: bool | None = None
    version: str | None = None


@dataclass
class KeptProgress(Progress):
    """The progress of one run under `contract` (NAME@VERSION), written to the database while `written` is open."""

    engine: Engine
    run: RunId
    contract: str
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    _now: tuple[str, int, str] = field(default=(Stage.PREPARE.name.lower(), 0, ANSWER), init=False)
    _began: dict[SiteName, float] = field(default_factory=dict, init=False)
    _pending: dict[_Key, _Noted] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _fresh: bool = field(default=True, init=False)

    def asking(
        self, stage: Stage, number: int, step: str, frames: Mapping[SiteName, Bytes]
    ) -> Mapping[SiteName, Bytes]:
        """See `Progress.asking`."""
        now = self.monotonic()
        self._now = stage.name.lower(), number, step
        self._began = dict.fromkeys(frames, now)
        with self._lock:
            for site in frames:
                noted = self._of(site)
                noted.asked += 1
                noted.step, noted.waiting, noted.trouble = step, True, None
        return _Counted(frames, self._sent)

    def heard(self, site: SiteName, outcome: Outcome, trouble: str | None) -> None:
        """See `Progress.heard`."""
        began, at, step = self._began.pop(site, None), self.clock(), self._now[2]
        with self._lock:
            noted = self._of(site)
            noted.waiting = False
            if isinstance(outcome, Answered):
                noted.answered += 1
                noted.received += len(outcome.frame)
                noted.seconds += 0.0 if began is None else self.monotonic() - began
            if trouble is None:
                noted.answered_at = at
                noted.fits = True if step in _READS_ROWS else noted.fits
            else:
                noted.trouble, noted.trouble_at = trouble[:_LONGEST_TROUBLE], at
                noted.fits = False if trouble.startswith(_OF_CONTRACT) else noted.fits

    def version(self, site: SiteName, release: str) -> None:
        """See `Progress.version`."""
        if release:
            with self._lock:
                self._of(site).version = release

    def done(self) -> None:
        """See `Progress.done`."""
        with self._lock:
            for site in self._began:
                self._of(site).waiting = False
        self._began = {}

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write once a second until the end of the block, and then what is left."""
        over = threading.Event()

        def write() -> None:
            while not over.wait(_EVERY_S):
                self.flush()

        thread = threading.Thread(target=write, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Raises nothing: what a run is worth does not hang on it."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            with writing(self.engine, f"noting how {self.run} goes on") as session:
                self._write(session, pending)
        except CovenantError as trouble:
            _log.warning("progress is not noted", reason=str(trouble))

    def _of(self, site: SiteName) -> _Noted:
        stage, number, step = self._now
        return self._pending.setdefault(_Key(stage, number, site), _Noted(step=step))

    def _sent(self, site: SiteName, size: int) -> None:
        with self._lock:
            noted = self._of(site)
            noted.sent += size
            noted.waiting = True

    def _write(self, session: Session, pending: Mapping[_Key, _Noted]) -> None:
        if self._fresh:  # a driver before this one may have died while it waited
            left = (SiteExchange.run_id == self.run, SiteExchange.waiting.is_(True))
            session.execute(update(SiteExchange).where(*left).values(waiting=False))
            self._fresh = False
        at = self.clock()
        for stage, number in dict.fromkeys((key.stage, key.round) for key in pending):
            mine = (
                SiteExchange.run_id == self.run,
                SiteExchange.stage == stage,
                SiteExchange.round == number,
            )
            rows = {row.site: row for row in session.scalars(select(SiteExchange).where(*mine))}
            for key, noted in pending.items():
                if (key.stage, key.round) == (stage, number):
                    row = rows.get(key.site) or self._new(session, key, at)
                    _add(row, noted, at)
        self._write_heard(session, pending)

    def _new(self, session: Session, key: _Key, at: datetime) -> SiteExchange:
        row = SiteExchange(
            run_id=self.run, stage=key.stage, round=key.round, site=key.site, asked=0, answered=0, sent=0, received=0,
            seconds=0.0, step=ANSWER, waiting=False, trouble=None, changed_at=at,
        )  # fmt: skip
        session.add(row)
        return row

    def _write_heard(self, session: Session, pending: Mapping[_Key, _Noted]) -> None:
        sites = {key.site for key in pending}
        rows = {row.site: row for row in session.scalars(select(SiteHeard).where(SiteHeard.site.in_(sites)))}
        for key, noted in pending.items():
            row = rows.get(key.site)
            if row is None:
                row = rows[key.site] = SiteHeard(site=key.site)
                session.add(row)
            if noted.answered_at is not None:
                row.answered_at, row.answered_run = noted.answered_at, self.run
            if noted.trouble_at is not None and noted.trouble is not None:
                row.trouble_at, row.trouble_run, row.trouble = noted.trouble_at, self.run, noted.trouble
            if noted.fits is not None:
                row.contract_at = noted.answered_at or noted.trouble_at
                row.contract, row.fits = self.contract, noted.fits
            if noted.version is not None:
                row.version, row.version_at = noted.version, self.clock()


def _add(row: SiteExchange, noted: _Noted, at: datetime) -> None:
    row.asked += noted.asked
    row.answered += noted.answered
    row.sent += noted.sent
    row.received += noted.received
    row.seconds += noted.seconds
    row.step, row.waiting, row.trouble, row.changed_at = noted.step, noted.waiting, noted.trouble, at


class _Counted(Mapping[SiteName, Bytes]):
    """Frames as they are, each counted when it is sent."""

    def __init__(self, frames: Mapping[SiteName, Bytes], sent: Callable[[SiteName, int], None]) -> None:
        self._frames = frames
        self._sent = sent

    def __getitem__(self, site: SiteName) -> Bytes:
        frame = self._frames[site]
        self._sent(site, len(frame))
        return frame

    def __iter__(self) -> Iterator[SiteName]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)
