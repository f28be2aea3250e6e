"""How often somebody may try: a bucket for each address and each account. The oldest are forgotten first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from strategies.errors import Unreachable

_MOST: Final = 10_000


class TooOften(Unreachable):
    """Somebody tries more often than anybody needs to."""


@dataclass
class Rates:
    """Buckets by key; `monotonic` gives seconds. Any thread may take."""

    monotonic: Callable[[], float]
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, key: str, *, burst: float, per_minute: float) -> None:
        """Take one from the bucket of `key`. Raises TooOften where it is empty."""
        with self._lock:
            now = self.monotonic()
            left, then = self._left.pop(key, (burst, now))
            left = min(burst, left + (now - then) * per_minute / 60.0)
            enough = left >= 1.0
            self._left[key] = (left - 1.0 if enough else left, now)
            if len(self._left) > _MOST:
                self._left.popitem(last=False)
        if not enough:
            raise TooOften("too many tries; wait a minute, and try again")
