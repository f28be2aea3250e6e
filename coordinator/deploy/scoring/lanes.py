"""Requests gathered into batches: whatever waits while a batch runs makes up the next one.

1. An idle lane starts at once, in the thread of whoever asks, so a lone request waits for nobody and changes no thread; under load a request waits
   for the batch that runs and no longer, unless more than MOST_ROWS wait before it.
2. Large requests have a lane of their own, so that one of 10 000 rows does not stand before a single application.
3. What waits is bounded; beyond that a request is refused, to be sent again.
4. A batch has one model: a request scored under a model that is being replaced still ends under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.arms import UNAVAILABLE, Loaded
from coordinator.deploy.scoring.columns import Batch, ProtocolError

MOST_ROWS: Final = 256
MOST_WAITING_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Rows to score. `decline_at` asks for reasons of what scores at or above it."""

    loaded: Loaded
    batch: Batch
    decline_at: float | None

    def goes_with(self, other: Job) -> bool:
        """Whether both can be one batch."""
        return self.loaded is other.loaded and self.decline_at == other.decline_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Of N rows: `scores` (N, 1) float32, which are declined, (N,), and N rows of reasons (empty where not declined)."""

    scores: npt.NDArray[np.float32]
    declined: npt.NDArray[np.bool_]
    reasons: Sequence[tuple[str, ...]]


@dataclass(slots=True)
class _Place:
    """Where a job stands in a lane. `turn` is held until the job is scored, or its thread is to run the next batch."""

    job: Job
    turn: threading.Lock = field(default_factory=threading.Lock)
    scored: Scored | None = None
    error: BaseException | None = None


class Lane:
    """One queue, of which one thread at a time runs a batch: the one that found it idle, then the one that waited longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Place] = deque()
        self._rows = 0
        self._runs = False

    @property
    def idle(self) -> bool:
        """Whether a job would be scored at once."""
        return not self._runs

    def score(self, job: Job) -> Scored:
        """Score a job. Raises ProtocolError when too much waits already, and what scoring raises."""
        place = _Place(job)
        place.turn.acquire()
        with self._lock:
            if self._rows + job.batch.rows > MOST_WAITING_ROWS:
                raise ProtocolError(
                    "too many rows wait to be scored; send the request again in a moment", UNAVAILABLE
                )
            self._waiting.append(place)
            self._rows += job.batch.rows
            waits, self._runs = self._runs, True
        if waits:
            place.turn.acquire()
        if place.scored is None and place.error is None:
            self._run()
        if place.error is not None:
            raise place.error
        assert place.scored is not None  # noqa: S101  (whoever ran the batch told one or the other)
        return place.scored

    def _run(self) -> None:
        """Score the next batch, in which the caller's job is the first, and pass the turn on."""
        with self._lock:
            taken = self._taken()
        try:
            for place, scored in zip(taken, score([each.job for each in taken]), strict=True):
                place.scored = scored
        except BaseException as error:  # noqa: BLE001  (each of the batch is told, this thread's caller too)
            for place in taken:
                place.error = error
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._runs = following is not None
        if following is not None:
            following.turn.release()
        for place in taken[1:]:
            place.turn.release()

    def _taken(self) -> list[_Place]:
        """What makes up the next batch."""
        taken = [self._waiting.popleft()]
        rows = taken[0].job.batch.rows
        while self._waiting and self._fits(taken[0].job, rows):
            taken.append(self._waiting.popleft())
            rows += taken[-1].job.batch.rows
        self._rows -= rows
        return taken

    def _fits(self, first: Job, rows: int) -> bool:
        following = self._waiting[0].job
        return following.goes_with(first) and rows + following.batch.rows <= MOST_ROWS


class Lanes:
    """Small requests and large ones. Any thread may ask."""

    def __init__(self) -> None:
        self._small, self._large = Lane(), Lane()

    def score(self, job: Job) -> Scored:
        """Score a job in the lane for its size. Raises ProtocolError when too much waits already."""
        return self._of(job.batch.rows).score(job)

    def idle(self, rows: int) -> bool:
        """Whether a job of so many rows would be scored at once."""
        return self._of(rows).idle

    def _of(self, rows: int) -> Lane:
        return self._small if rows <= MOST_ROWS else self._large


def score(jobs: Sequence[Job]) -> list[Scored]:
    """Score jobs that go together, as one batch."""
    first = jobs[0]
    loaded, decline_at = first.loaded, first.decline_at
    batch = Batch.joined([each.batch for each in jobs])
    scores, encoded = loaded.score(batch)
    reasons: list[tuple[str, ...]] = [()] * len(scores)
    if decline_at is None:
        declined = np.zeros(len(scores), dtype=np.bool_)
    else:
        # The threshold has float32's precision too: a score of exactly 0.3 is declined at 0.3.
        declined = scores[:, 0] >= np.float32(decline_at)
        for row, told in zip(
            np.flatnonzero(declined).tolist(), loaded.explainer.reasons(encoded[declined]), strict=True
        ):
            reasons[row] = told
    return list(_shared(jobs, lambda a, b: (scores[a:b], declined[a:b], reasons[a:b])))


def _shared(
    jobs: Sequence[Job],
    part: Callable[[int, int], tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], list[tuple[str, ...]]]],
) -> list[Scored]:
    """Each job's part of the batch."""
    found, start = [], 0
    for job in jobs:
        scores, declined, reasons = part(start, start + job.batch.rows)
        found.append(Scored(scores=scores, declined=declined, reasons=reasons))
        start += job.batch.rows
    return found
