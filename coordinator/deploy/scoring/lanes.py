"""Requests gathered into batches: whatever waits while a batch runs makes up the next one.

1. An idle lane starts at once, so a lone request waits for nobody; under load a request waits for the batch that runs and no longer, unless more
   than MOST_ROWS wait before it.
2. Large requests have a lane of their own, so that one of 10 000 rows does not stand before a single application.
3. What waits is bounded; beyond that a request is refused, to be sent again.
4. A batch has one model: a request scored under a model that is being replaced still ends under it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.arms import UNAVAILABLE, Loaded
from coordinator.deploy.scoring.columns import Batch, ProtocolError
from coordinator.deploy.scoring.decisions import SiteKey

MOST_ROWS: Final = 256
MOST_WAITING_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Rows to score. `decline_at` asks for reasons of what scores at or above it; `digests` is the key to digest rows with."""

    loaded: Loaded
    batch: Batch
    decline_at: float | None
    key: SiteKey | None

    def goes_with(self, other: Job) -> bool:
        """Whether both can be one batch."""
        return self.loaded is other.loaded and self.decline_at == other.decline_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Of N rows: `scores` (N, 1) float32, which are declined, (N,), N rows of reasons (empty where not declined), and digests if asked for."""

    scores: npt.NDArray[np.float32]
    declined: npt.NDArray[np.bool_]
    reasons: Sequence[tuple[str, ...]]
    digests: Sequence[str]


class Lane:
    """One queue and one thread. Used from one event loop."""

    def __init__(self, name: str) -> None:
        self._waiting: deque[tuple[Job, asyncio.Future[Scored]]] = deque()
        self._rows = 0
        self._runs = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def score(self, job: Job) -> Scored:
        """Score a job. Raises ProtocolError when too much waits already."""
        if self._rows + job.batch.rows > MOST_WAITING_ROWS:
            raise ProtocolError(
                "too many rows wait to be scored; send the request again in a moment", UNAVAILABLE
            )
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._rows += job.batch.rows
        if not self._runs:
            self._next()
        return await future

    def close(self) -> None:
        """End the thread after what it does now."""
        self._thread.shutdown(wait=True)

    def _next(self) -> None:
        """Start the next batch, if anybody waits."""
        taken: list[tuple[Job, asyncio.Future[Scored]]] = []
        rows = 0
        while self._waiting and (not taken or self._fits(taken[0][0], rows)):
            taken.append(self._waiting.popleft())
            rows += taken[-1][0].batch.rows
        self._rows -= rows
        self._runs = bool(taken)
        if taken:
            loop = asyncio.get_running_loop()
            run = loop.run_in_executor(self._thread, score, [job for job, _ in taken])
            run.add_done_callback(lambda done: self._tell(taken, done))

    def _fits(self, first: Job, rows: int) -> bool:
        following = self._waiting[0][0]
        return following.goes_with(first) and rows + following.batch.rows <= MOST_ROWS

    def _tell(
        self, taken: Sequence[tuple[Job, asyncio.Future[Scored]]], done: asyncio.Future[list[Scored]]
    ) -> None:
        self._next()
        error = done.exception()
        for place, (_, future) in enumerate(taken):
            if future.done():
                continue  # whoever asked has gone
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result()[place])


class Lanes:
    """Small requests and large ones."""

    def __init__(self) -> None:
        self._small, self._large = Lane("scoring"), Lane("scoring-large")

    async def score(self, job: Job) -> Scored:
        """Score a job in the lane for its size. Raises ProtocolError when too much waits already."""
        return await (self._small if job.batch.rows <= MOST_ROWS else self._large).score(job)

    def close(self) -> None:
        """End both."""
        self._small.close()
        self._large.close()


def score(jobs: Sequence[Job]) -> list[Scored]:
    """Score jobs that go together, as one batch."""
    first = jobs[0]
    loaded, decline_at = first.loaded, first.decline_at
    batch = Batch.joined([each.batch for each in jobs])
    feed = loaded.rules.feed(batch)
    if decline_at is None:
        scores = loaded.model.score(feed)
        declined = np.zeros(len(scores), dtype=np.bool_)
        reasons: list[tuple[str, ...]] = [()] * len(scores)
    else:
        scores, encoded = loaded.model.score_and_encode(feed)
        # The threshold has float32's precision too: a score of exactly 0.3 is declined at 0.3.
        declined = scores[:, 0] >= np.float32(decline_at)
        reasons = [()] * len(scores)
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
        digests = () if job.key is None else job.key.of_rows(job.batch)
        found.append(Scored(scores=scores, declined=declined, reasons=reasons, digests=digests))
        start += job.batch.rows
    return found
