"""What is counted while a simulated run is under way: bytes and computing time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import Message

from simulation.world.frames import asked_in
from strategies.ids import SiteName


@dataclass
class Tally:
    """Bytes and computing seconds, by site and round."""

    sent: dict[SiteName, int] = field(default_factory=lambda: defaultdict(int))
    received: dict[SiteName, int] = field(default_factory=lambda: defaultdict(int))
    traffic: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[tuple[SiteName, int], float] = field(default_factory=lambda: defaultdict(float))
    committed: Callable[[], None] = lambda: None
    _round: int = 0

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """Count a frame on its way."""
        if direction == "request":
            self.received[site] += len(frame)
            number = asked_in(frame).round
            if number > self._round:
                self._round = number
                self.committed()
        elif direction == "reply":
            self.sent[site] += len(frame)
        else:
            return
        self.traffic[self._round] += len(frame)

    def measured(self, site: SiteName, work: Callable[[], Message]) -> Message:
        """Time a site's answer."""
        began = time.perf_counter()
        reply = work()
        self.seconds[site, self._round] += time.perf_counter() - began
        return reply
