"""Leaving without harm: what this site has promised to others is finished, and nothing else is begun.

1. A site that has masked an input for an attempt is in that sum: it stays until its shares are given. One attempt a run is in hand.
2. Once it drains, nothing is computed for another attempt: it refuses, with a signature, and so holds nobody up. What was answered before is said again.
3. An attempt is over when its shares are given, or when its run goes on to another.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from client.refusal import TaskRefused
from protos.frames import RefusalCode, Request, SecureRequest
from strategies.ids import RunId
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import ConfirmRequest, MaskRequest, UnmaskRequest


@dataclass
class Drain:
    """Whether a site drains, and what it has in hand, by run."""

    _asked: threading.Event = field(default_factory=threading.Event)
    _in_hand: dict[RunId, Attempt] = field(default_factory=dict)

    def begin(self) -> None:
        """From now on nothing new is begun."""
        self._asked.set()

    def wait(self, seconds: float) -> None:
        """Return when it begins, or after `seconds`."""
        self._asked.wait(seconds)

    @property
    def begun(self) -> bool:
        """Whether the site drains."""
        return self._asked.is_set()

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
        match first.body:
            case MaskRequest() | ConfirmRequest():
                self._in_hand[first.attempt.run] = first.attempt
            case UnmaskRequest():
                self._in_hand.pop(first.attempt.run, None)
            case _:
                pass
