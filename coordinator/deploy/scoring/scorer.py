"""The scoring service without a transport: requests in, answers out, every decision logged before it is told.

1. Any thread may ask, and computes what it asked for; what they share is counted and written one at a time. The state in force is one value. A reload replaces it; a request that took the one before ends under it, so none is dropped.
2. A canary's arm is chosen by a hash of the request's key, else of its id, else by chance; what its contract refuses and the stable model's admits is
   answered by the stable one. A shadow scores after the answer, and nothing of it is told to the caller.
3. An answer leaves after its line is in the decision log. A log that cannot be written ends the service.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import structlog

from coordinator.deploy.scoring.arms import Arm, InForce, bands_of
from coordinator.deploy.scoring.columns import Batch, ProtocolError
from coordinator.deploy.scoring.decisions import DecisionLog
from coordinator.deploy.scoring.lanes import Job, Lanes, Scored
from coordinator.deploy.scoring.model import OUTPUT
from coordinator.deploy.scoring.protocol import REASONS, Answer, Asked
from coordinator.deploy.scoring.serving import RefusedState, ServiceStatus
from coordinator.deploy.scoring.windows.watch import Watch
from strategies.errors import DiskError

_MOST_SHADOWS: Final = 256
"""Shadows that may be under way; more are not scored, and count as the challenger's errors."""
_EXPLAIN_ALL: Final = 0.0
_FAILED: Final = "decisions cannot be logged, so none are made; the service ends"
_INLINE_ROWS: Final = 16
"""So many rows are scored where they are asked about if nobody waits: a change of threads would cost more than they do."""
_THREADS: Final = 200
"""Requests that an event loop has under way; each thread is started when it is first needed."""
_log = structlog.get_logger(__name__)


class Scorer:
    """Scores requests with the arms in force; `clock` gives UTC."""

    def __init__(
        self, decisions: DecisionLog | None, *, clock: Callable[[], datetime], watch: Watch | None = None
    ) -> None:
        self.in_force = InForce()
        self.refused: RefusedState | None = None
        self.refused_requests = 0
        self.failed: DiskError | None = None
        self.clock = clock
        self._started_at = clock()
        self.watch = watch
        self._decisions = decisions
        self._lanes = Lanes()
        self._counting = threading.Lock()
        self._asking = ThreadPoolExecutor(_THREADS, thread_name_prefix="asking")
        self._shadowing = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._shadows = 0

    async def infer(self, name: str, version: str | None, asked: Asked, caller: str) -> Answer:
        """Score a request from an event loop. Raises ProtocolError."""
        if asked.rows <= _INLINE_ROWS and self._lanes.idle(asked.rows):
            return self.answer(name, version, asked, caller)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self.answer, name, version, asked, caller)

    def answer(self, name: str, version: str | None, asked: Asked, caller: str) -> Answer:
        """Score a request of `caller`. Raises ProtocolError."""
        if self.failed is not None:
            raise ProtocolError(_FAILED, 503)
        began, now, force = time.perf_counter(), self.clock(), self.in_force
        arm = force.chosen(name, version, asked.key or asked.id or secrets.token_hex(8), now)
        arm, batch = _admitted(force, arm, asked, named=version is not None)
        # Without a threshold nothing is declined; whoever asks for reasons gets them for every row.
        threshold = force.decline_at
        explain = _EXPLAIN_ALL if threshold is None and asked.wants(REASONS) else threshold
        job = Job(loaded=arm.loaded, batch=batch, decline_at=explain)
        try:
            scored = self._lanes.score(job)
        except ProtocolError:
            raise
        except Exception as error:
            self._count_error(arm)
            # Its kind alone: what a runtime says of a failure may quote the row.
            _log.error("scoring failed", model=arm.loaded.ref, trouble=type(error).__name__)
            raise ProtocolError(f"{arm.loaded.ref} could not score this request", status=500) from error
        declined = 0 if threshold is None else int(scored.declined.sum())
        self._record_answer(
            self._entry(force, arm, asked, caller, batch, scored, answered=True), arm, batch, scored
        )
        with self._counting:
            arm.counts.note(scored.scores, declined, time.perf_counter() - began)
        if (shadow := force.shadow_of(arm, now)) is not None:
            self._start_shadow(force, shadow, asked, caller)
        told = asked.wants(REASONS) or (asked.outputs is None and threshold is not None)
        return Answer(
            name=arm.loaded.name,
            version=arm.loaded.version,
            id=asked.id,
            scores=scored.scores if asked.outputs is None or asked.wants(OUTPUT) else None,
            reasons=scored.reasons if told else None,
        )

    def count_refused(self) -> None:
        """One request more that was refused."""
        with self._counting:
            self.refused_requests += 1

    def status(self) -> ServiceStatus:
        """What the service tells of itself."""
        force, why_not = self.in_force, self.why_not_ready()
        return ServiceStatus(
            started_at=self._started_at,
            revision=force.revision,
            ready=why_not is None,
            why_not=why_not,
            mode=force.mode,
            share=force.share,
            decline_at=force.decline_at,
            stable=None if force.stable is None else force.stable.status(),
            challenger=None if force.challenger is None else force.challenger.status(),
            refused=self.refused,
            refused_requests=self.refused_requests,
            decisions=None if self._decisions is None else self._decisions.head.lines,
            decisions_head=None if self._decisions is None else self._decisions.head.digest,
            monitor=None if self.watch is None else self.watch.place.monitor.digest,
            unwatched=None if self.watch is None else self.watch.failed,
        )

    def why_not_ready(self) -> str | None:
        """Why nothing can be scored, or None."""
        if self.failed is not None:
            return "decisions cannot be logged"
        return self.in_force.why_not_ready(self.clock())

    def flush(self) -> None:
        """Have the decisions so far on disk. Raises DiskError."""
        if self._decisions is not None:
            self._decisions.flush()

    def count_windows(self) -> None:
        """Count the decisions so far in their windows, and tell the windows that have ended."""
        if self.watch is not None:
            self.watch.tick(self.in_force)

    async def close(self) -> None:
        """Wait for what is under way, and close the log."""
        await asyncio.to_thread(self._asking.shutdown)
        await asyncio.to_thread(self._shadowing.shutdown)
        if self.watch is not None:
            await asyncio.to_thread(self.watch.close, self.in_force)
        if self._decisions is not None and self.failed is None:
            self._decisions.close()

    def _start_shadow(self, force: InForce, arm: Arm, asked: Asked, caller: str) -> None:
        with self._counting:
            full = self._shadows >= _MOST_SHADOWS
            self._shadows += not full
        if full:
            self._count_error(arm)
        else:
            self._shadowing.submit(self._shadow, force, arm, asked, caller)

    def _shadow(self, force: InForce, arm: Arm, asked: Asked, caller: str) -> None:
        """Score what was answered by the stable model with the challenger."""
        began = time.perf_counter()
        known = arm.loaded.rules.known
        try:
            batch = arm.loaded.rules.batch([each for each in asked.inputs if each.name in known])
            scored = self._lanes.score(Job(loaded=arm.loaded, batch=batch, decline_at=force.decline_at))
        except Exception as error:  # noqa: BLE001  (a model on trial may fail in any way; the answer has left)
            self._count_error(arm)
            _log.warning("the challenger did not score", model=arm.loaded.ref, error=type(error).__name__)
            return
        finally:
            with self._counting:
                self._shadows -= 1
        with suppress(ProtocolError):  # the service ends, and says so
            self._record(self._entry(force, arm, asked, caller, batch, scored, answered=False))
            with self._counting:
                arm.counts.note(scored.scores, int(scored.declined.sum()), time.perf_counter() - began)

    def _count_error(self, arm: Arm) -> None:
        with self._counting:
            arm.counts.errors += 1

    def _entry(
        self,
        force: InForce,
        arm: Arm,
        asked: Asked,
        caller: str,
        batch: Batch,
        scored: Scored,
        *,
        answered: bool,
    ) -> Mapping[str, Any]:
        """One line of the decision log: no value of an application, and no id as it came."""
        if self._decisions is None:
            return {}
        declined = scored.declined.nonzero()[0].tolist() if force.decline_at is not None else []
        return {
            "at": self.clock().isoformat(),
            "answered": answered,
            "arm": arm.role,
            "bands": bands_of(scored.scores).tolist(),
            "caller": caller,
            "decline_at": force.decline_at,
            "inputs": self._decisions.key.of_rows(batch),
            "model": arm.loaded.ref,
            "digest": arm.loaded.digest,
            "reasons": {str(row): scored.reasons[row] for row in declined},
            "request": None if asked.id is None else self._decisions.key.of_text(asked.id),
            "revision": force.revision,
        }

    def _record_answer(self, entry: Mapping[str, Any], arm: Arm, batch: Batch, scored: Scored) -> None:
        """Log an answer, and have it counted in the window of the moment that its line has."""
        watch = self.watch
        bins = None if watch is None else watch.bins_of(arm.loaded)
        if watch is None or bins is None:
            self._record(entry)
            return
        places, at = bins.of_scores(scored.scores), self.clock()
        told = {"at": at.isoformat(), "bins": bins.written(places), "monitor": watch.place.monitor.digest}
        self._record({**entry, **told})
        watch.note(arm.loaded, batch, places, at)

    def _record(self, entry: Mapping[str, Any]) -> None:
        if self._decisions is None:
            return
        if self.failed is not None:
            raise ProtocolError(_FAILED, 503)
        try:
            self._decisions.append([entry])
        except DiskError as error:
            self.failed = error
            raise ProtocolError(
                "the decision could not be logged, so it is not told; the service ends", 503
            ) from error


def _admitted(force: InForce, arm: Arm, asked: Asked, *, named: bool) -> tuple[Arm, Batch]:
    """The arm that answers, and the rows as it takes them. Raises ProtocolError.

    Callers keep to the contract of what serves: what that admits and a canary does not is the canary's error, and is answered by what serves.
    """
    try:
        return arm, arm.loaded.rules.batch(asked.inputs, _others(force, arm))
    except ProtocolError:
        stable = force.stable
        if named or stable is None or arm is stable:
            raise
        batch = stable.loaded.rules.batch(asked.inputs, _others(force, stable))
        arm.counts.errors += 1
        return stable, batch


def _others(force: InForce, arm: Arm) -> frozenset[str]:
    """Inputs that only another model in force knows."""
    return frozenset(each for one in force.arms if one is not arm for each in one.loaded.rules.known)
