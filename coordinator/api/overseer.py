"""Ends calls that somebody holds open: their threads may wait for a caller who sends nothing, or reads nothing, and look at no clock then.

1. A request that does not come within `REQUEST_WITHIN_S` is not waited for.
2. A stream whose caller would not be let in any more ends, and every stream ends within the hour, also while it waits for its caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from strategies.errors import CovenantError

REQUEST_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 1.0
_REFUSALS: Final = 3
"""A stream that goes on by itself sees the first one, and says why it ends."""


@dataclass(eq=False)
class _Watched:
    context: grpc.ServicerContext
    until: float
    again: Callable[[], None] | None
    refusals: int = 0

    def is_over(self) -> bool:
        if time.monotonic() >= self.until:
            return True
        if self.again is not None:
            try:
                self.again()
            except CovenantError:
                self.refusals += 1
            else:
                self.refusals = 0
        return self.refusals >= _REFUSALS


@dataclass
class Overseer:
    """Watches open calls in a thread of its own, from `start` until `closing` is set."""

    closing: threading.Event
    _open: set[_Watched] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._look, name="control-overseer", daemon=True).start()

    @contextmanager
    def watching(
        self, context: grpc.ServicerContext, within_s: float, again: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Cancel the call if the block takes longer than `within_s`, or once `again` goes on raising `CovenantError`."""
        mine = _Watched(context, time.monotonic() + within_s, again)
        with self._lock:
            self._open.add(mine)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(mine)

    def _look(self) -> None:
        while not self.closing.wait(_LOOK_EVERY_S):
            with self._lock:
                now_open = list(self._open)
            for each in now_open:
                if each.is_over():
                    each.context.cancel()
