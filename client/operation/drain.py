"""Leaving without harm: what this site has promised to others is finished, and nothing else is begun.

1. A site that has masked an input for an attempt is in that sum: it stays until its shares are given. One attempt a run is in hand.
2. Once it drains, nothing is computed for another attempt: it refuses, with a signature, and so holds nobody up. What was answered before is said again.
3. An attempt is over when its shares are given, or when its run goes on to another.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from client.refusal import TaskRefused
from protos.frames import RefusalCode, Request, SecureRequest
from strategies.ids import RunId
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import ConfirmRequest, MaskRequest, UnmaskRequest


@dataclass
class Drain:
    """Whether a site drains, and what it has in hand, by run."""

    begun: bool = False
    """Whether the site drains."""
    steps: int = 0
    """How many steps it has taken of what others count on: each attempt has few, and while it drains no other begins."""
    _in_hand: dict[RunId, Attempt] = field(default_factory=dict)
    _wake: SimpleQueue[None] = field(default_factory=SimpleQueue)
    """Not an event, whose lock the thread that a signal interrupts may hold: `put` may come at any moment of a `get`."""

    def begin(self) -> None:
        """From now on nothing new is begun. Safe in a signal handler."""
        self.begun = True
        self._wake.put(None)

    def wait(self, seconds: float) -> None:
        """Return when it begins, or after `seconds`."""
        if not self.begun:
            with suppress(Empty):
                self._wake.get(timeout=max(seconds, 0.0))

    @property
    def done(self) -> bool:
        """Whether it drains and nothing is left in hand."""
        return self.begun and not self._in_hand

    def require(self, request: Request | SecureRequest) -> None:
        """Raise TaskRefused where `request` would begin something. Called before anything is computed for it."""
        if isinstance(request, SecureRequest):
            made = request.frames[0].attempt
            if self._in_hand.get(made.run) == made:
                return
            self._in_hand.pop(made.run, None)
        if self.begun:
            raise TaskRefused(
                RefusalCode.FAILED,
                "this site drains: it takes part in nothing new before it is started again",
            )

    def answered(self, request: SecureRequest) -> None:
        """Note that the steps of `request` were taken."""
        first = request.frames[0]
        self.steps += 1
        match first.body:
            case MaskRequest() | ConfirmRequest():
                self._in_hand[first.attempt.run] = first.attempt
            case UnmaskRequest():
                self._in_hand.pop(first.attempt.run, None)
            case _:
                pass
