"""Watches what a scoring service decides: counts it, closes windows when they end, and goes on after a restart where it was.

1. Nothing here stops a decision. Where the file cannot be written the service goes on unwatched, and its status says so.
2. Every version of the monitor's model that may answer is told of in every window in which it was in force, also where it decided nothing: whether
   a window is there says nothing of persons.
3. A window closes some seconds after it has ended, when what was under way is counted. One that ended while the service was down closes when it is back.
4. A monitor that replaces another begins its own windows; what was open under the other is erased.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog

from coordinator.deploy.scoring.arms import InForce, Loaded
from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.decisions import rows_since
from coordinator.deploy.scoring.windows.bins import Bins, Integers, Places
from coordinator.deploy.scoring.windows.counting import Counting
from coordinator.deploy.scoring.windows.restored import require_newest
from coordinator.deploy.scoring.windows.store import Store, Turn, Version, counts_from
from coordinator.deploy.scoring.windows.telling import Entropy, Place
from coordinator.deploy.scoring.windows.verdicts import Judge
from protos.windows import Counted, Monitor, Window
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest

GRACE_S: Final = 5.0
MOST_CELLS: Final = 20_000
LOCK_FILE: Final = "watch.lock"
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Watch:
    """The watch of one service; any thread may note, one ticks."""

    place: Place
    clock: Callable[[], datetime]
    judge: Judge | None = None
    failed: str | None = None
    _lock: int = -1
    _counting: Counting = field(default_factory=Counting)
    _versions: dict[Digest, Version] = field(default_factory=dict)
    _kept: set[Digest] = field(default_factory=set)
    _answering: set[Digest] = field(default_factory=set)
    _others: set[Digest] = field(default_factory=set)
    _adding: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def begun(
        cls,
        folder: Path,
        monitor: Monitor,
        name: str,
        decisions: Path,
        *,
        clock: Callable[[], datetime],
        entropy: Entropy,
        judge: Judge | None = None,
    ) -> Self:
        """Watch the service called `name` whose state `folder` and folder of `decisions` these are.

        Raises Refused where another service is watched there, or an older copy of the file was put back, DiskError where nothing can be written.
        """
        store, now = Store.at(folder), clock().timestamp()
        require_newest(store, decisions)
        lock = _locked(folder)
        alive, flushed = store.service()
        lost = rows_since(decisions, flushed) if alive else 0
        with store.turn() as turn:
            first = turn.begin(name, monitor, int(now // monitor.window), now)
            if alive:
                turn.run("INSERT INTO gaps VALUES (?, ?, ?)", flushed, now, lost)
            _erase_lost(turn, monitor)
            ((newest,),) = turn.rows(
                "SELECT max(number) FROM charges WHERE monitor = ? AND kind = 'decisions'", monitor.digest
            )
            counts = turn.rows("SELECT number, version, counts FROM counts WHERE monitor = ?", monitor.digest)
        if alive:
            _log.warning(
                "the service was killed: decisions that it had not counted yet are in no window",
                decisions=lost,
            )
        place = Place(name=name, monitor=monitor, first=first, store=store, entropy=entropy)
        watch = cls(
            place=place,
            clock=clock,
            judge=judge,
            _lock=lock,
            _counting=Counting(least=1 + int(str(newest or 0))),
        )
        watch._take_back(counts)
        return watch

    def bins_of(self, loaded: Loaded) -> Bins | None:
        """The cells of a version's decisions; None for one that is not watched, or no more."""
        if self.failed is not None:
            return None
        found = self._counting.bins.get(loaded.digest)
        if found is None and loaded.digest not in self._others:
            return self._added(loaded)
        return found

    def note(self, loaded: Loaded, batch: Batch, scores: Places, at: datetime) -> None:
        """Decisions of one request that was answered, in the bins of `scores`, (N,), that `bins_of` has."""
        if self.failed is None:
            self._counting.note(self.place.number_at(at.timestamp()), loaded, batch, scores)

    def tick(self, force: InForce) -> None:
        """Count what was noted, have it on disk, and close the windows that have ended."""
        if self.failed is not None:
            return
        try:
            self._tick(force)
        except CovenantError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  (a defect of what counts must not end what decides)
            self._fail(f"a defect of this service ({type(error).__name__})")

    def close(self, force: InForce) -> None:
        """Have everything on disk, and let another service be watched here."""
        self.tick(force)
        if self.failed is None:
            with self.place.store.turn() as turn:
                turn.run("UPDATE service SET alive = 0")
        os.close(self._lock)

    def _fail(self, why: str) -> None:
        self.failed = why
        _log.error("decisions are made unwatched until the next start", reason=why)

    def _tick(self, force: InForce) -> None:
        now = self.clock().timestamp()
        answering = {arm.loaded.digest for arm in force.answering if self.bins_of(arm.loaded) is not None}
        # What was replaced since the last tick has answered in this window too.
        for digest in sorted(answering | self._answering):
            self._counting.expect(self.place.number_at(now), digest)
        self._answering = answering
        counts = self._counting.count()
        with self.place.store.turn() as turn:
            for digest in self._versions.keys() - self._kept:
                turn.add_version(self._versions[digest])
            turn.write_counts(self.place.monitor.digest, counts, now)
        self._kept = set(self._versions)
        for number in sorted({number for number, _ in counts}):
            if self.place.ends(number) + GRACE_S <= now:
                self._close_window(number, now)

    def _close_window(self, number: int, now: float) -> None:
        raw = self._counting.taken(number)
        cells = max(self._counting.bins[version].cells_of_one for version in raw)
        windows = self.place.tell(number, "decisions", raw, cells, self._words, now=now)
        for each in windows:
            _log.info("a window is told", number=number, model=each.model, spent=each.spent)
            if each.counted is None:
                self._keep_verdict(each, raw[Digest(each.version_digest)])

    def _keep_verdict(self, told: Window, raw: Integers) -> None:
        """Have the place know what it may tell nobody."""
        if self.judge is None:
            return
        exact = told.model_copy(update=dict(self._words(Digest(told.version_digest), raw, 0.0)))
        found = self.judge.verdict(exact)
        with self.place.store.turn() as turn:
            turn.run(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?)",
                told.monitor,
                told.number,
                told.version_digest,
                found.words,
            )
        if found.moved:
            _log.warning(
                "a window has moved; this is for this place alone", number=told.number, found=found.words
            )

    def _words(self, version: Digest, counts: Integers, std: float) -> Mapping[str, Any]:
        scores, profile = self._counting.bins[version].told(counts)
        return {"counted": Counted(noise_std=std, scores=scores, profile=profile)}

    def _added(self, loaded: Loaded) -> Bins | None:
        with self._adding:
            version = Version(
                digest=loaded.digest,
                model=loaded.ref,
                contract=loaded.contract,
                features=tuple(each.name for each in loaded.rules.inputs),
            )
            bins, why = self._judged(version)
            if bins is None:
                self._others.add(loaded.digest)
                _log.warning("a model is not watched", model=loaded.ref, reason=why)
                return None
            self._versions[loaded.digest] = version
            self._counting.bins[loaded.digest] = bins
            return bins

    def _judged(self, version: Version) -> tuple[Bins | None, str]:
        monitor = self.place.monitor
        if version.model.partition("@")[0] != monitor.model:
            return None, f"the monitor is about {monitor.model}"
        try:
            bins = Bins.of(monitor, version.contract, version.features)
        except UsageError as error:
            return None, str(error)
        if bins.dimension > MOST_CELLS:
            return None, f"it has {bins.dimension} cells; a window has at most {MOST_CELLS}, use fewer bins"
        return bins, ""

    def _take_back(self, counts: list[tuple[object, ...]]) -> None:
        """Go on with the counts of windows that were open."""
        known = self.place.store.versions()
        self._kept = set(known)
        for number, digest, blob in counts:
            version = known[Digest(str(digest))]
            bins, _ = self._judged(version)
            if bins is not None:
                self._versions[version.digest] = version
                self._counting.bins[version.digest] = bins
                key = int(str(number)), version.digest
                self._counting.counts[key] = counts_from(blob)
                self._counting.expected.add(key)


def _erase_lost(turn: Turn, monitor: Monitor) -> None:
    """Erase what may be told no more: windows that were charged and not written, and those of other monitors."""
    charged = "EXISTS (SELECT 1 FROM charges c WHERE c.monitor = counts.monitor AND c.number = counts.number AND c.kind = 'decisions')"
    lost = turn.rows(f"SELECT DISTINCT number FROM counts WHERE {charged}")  # noqa: S608  (no value in it)
    others = turn.rows("SELECT DISTINCT monitor, number FROM counts WHERE monitor != ?", monitor.digest)
    turn.run(f"DELETE FROM counts WHERE monitor != ? OR {charged}", monitor.digest)  # noqa: S608
    if lost:
        _log.warning(
            "a crash came between a window's charge and its noise: it stays charged and is not told",
            windows=[number for (number,) in lost],
        )
    if others:
        _log.warning("windows of another monitor were open; they are erased", windows=len(others))


def _locked(folder: Path) -> int:
    try:
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"{folder / LOCK_FILE} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Refused(
            f"another scoring service is watched in {folder}; give each one a state folder of its own"
        ) from error
    return lock
