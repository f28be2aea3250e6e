"""Work on many parts beside each other, whose results come in the order of the parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")


def in_order(work: Callable[[P], T], parts: Iterable[P], workers: int) -> Iterator[T]:
    """What `work` makes of each of `parts`, in their order, computed in `workers` threads and at most twice as many parts ahead."""
    if workers == 1:
        yield from map(work, parts)
        return
    ahead: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="beside")
    try:
        for part in parts:
            ahead.append(pool.submit(work, part))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
