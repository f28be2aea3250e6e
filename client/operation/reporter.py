"""Keeps the agent's state file and its metrics in step with what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from client.operation.state import AgentState, StateFolder
from client.operation.watching import ANSWERED, Occurrence, Watcher

_BETWEEN_S = 1.0
_log = structlog.get_logger(__name__)


@dataclass
class StateReporter(Watcher):
    """Writes the state when it changes: what an operator waits for at once, the count of requests at most once a second."""

    folder: StateFolder
    state: AgentState
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    _written_at: float = float("-inf")
    _told: bool = False
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def connected(self) -> None:
        """See `Watcher`."""
        self._change(connected=True, contact_at=self._now, away_because=None)

    def contact(self) -> None:
        """See `Watcher`."""
        self._change(contact_at=self._now, soon=True)

    def away(self, reason: str) -> None:
        """See `Watcher`."""
        self._change(connected=False, away_because=reason)

    def occurred(self, what: Occurrence) -> None:
        """See `Watcher`."""
        told = f"{what.run}: {what.step} of {what.stage} {what.round}, attempt {what.attempt}: {what.outcome}"
        answered = what.outcome == ANSWERED
        self._change(
            soon=True,
            last_request=told,
            last_request_at=self._now,
            contact_at=self._now,
            answered=self.state.answered + answered,
            refused=self.state.refused + (not answered),
        )

    def draining(self) -> None:
        """See `Watcher`."""
        self._change(draining=True)

    def ended(self, reason: str) -> None:
        """See `Watcher`."""
        self._change(connected=False, ended_at=self._now, ended_because=reason)

    @property
    def _now(self) -> str:
        return self.clock().isoformat()

    def _change(self, *, soon: bool = False, **changes: object) -> None:
        with self._turn:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]
            if soon and self.monotonic() - self._written_at < _BETWEEN_S:
                return
            self._written_at = self.monotonic()
            written = self.folder.write(self.state)
            if not written and not self._told:
                _log.warning(
                    "the state is not written; the agent goes on without", folder=str(self.folder.folder)
                )
            self._told = not written


@dataclass(frozen=True, slots=True)
class Watchers(Watcher):
    """Several watchers as one."""

    each: Sequence[Watcher]

    def connected(self) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.connected()

    def contact(self) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.contact()

    def away(self, reason: str) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.away(reason)

    def began(self) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.began()

    def occurred(self, what: Occurrence) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.occurred(what)

    def draining(self) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.draining()

    def ended(self, reason: str) -> None:
        """See `Watcher`."""
        for watcher in self.each:
            watcher.ended(reason)
