"""Virtual time: whoever sleeps lets everything happen that is due before it wakes up."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2027, 1, 1, tzinfo=UTC)


def from_epoch(elapsed_s: float) -> datetime:
    """What a true clock shows so many seconds after the beginning."""
    return _EPOCH + timedelta(seconds=elapsed_s)


@dataclass
class VirtualClock:
    """Seconds since the beginning, and what is due when. Events of one instant happen in the order in which they were planned."""

    now: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _planned: int = 0

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def wall(self, skew_s: float = 0.0) -> datetime:
        """What a party's clock on the wall shows, `skew_s` seconds ahead of the true time."""
        return from_epoch(self.now + skew_s)

    def after(self, delay_s: float, happen: Callable[[], None]) -> None:
        """Plan an event."""
        self._planned += 1
        heapq.heappush(self._due, (self.now + delay_s, self._planned, happen))

    def sleep(self, seconds: float) -> None:
        """Let time pass, and all that is due in it happen. If an event raises, time stands where it happened."""
        until = self.now + max(0.0, seconds)
        while self._due and self._due[0][0] <= until:
            at, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen()
        self.now = max(self.now, until)
