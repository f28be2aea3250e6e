"""Connections that ask nothing: whoever opens them and waits would keep everybody else out, also from halting.

1. A connection on which no request begins or goes on for a while is cut. The framework has no such bound before the first request, nor for one whose
   headers come slowly.
2. One address has at most half of all connections.
3. The headers of a request are bounded by h11 (64 KiB).
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST: Final = 256


class Bounded(H11Protocol):
    """One connection."""

    idle_s: ClassVar[float] = 15.0
    """After one to two of these without a request."""
    most_an_address: ClassVar[int] = MOST // 2
    _before: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after it."""
        super().connection_made(transport)
        same = sum(
            each.client[:1] == self.client[:1] for each in self._others() if self.client and each.client
        )
        if same > self.most_an_address:
            transport.abort()
            return
        self._look_later()

    def _others(self) -> list[Any]:
        return [each for each in self.connections if isinstance(each, Bounded)]

    def _look_later(self) -> None:
        self.loop.call_later(self.idle_s, self._look)

    def _look(self) -> None:
        """Cut it where nothing was asked since the last look, and nothing is being answered."""
        if self not in self.connections:
            return
        cycle = self.cycle
        idle = cycle is self._before and (cycle is None or cycle.response_complete)
        if idle:
            self.transport.abort()
            return
        self._before = cycle
        self._look_later()
