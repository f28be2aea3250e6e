"""The sites as the SuperLink sees them now. No page waits for a SuperLink: it is asked beside the page, and what it said last is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self

import structlog

from coordinator.bootstrap import Centre
from coordinator.flower.control import Control, NodeSeen
from strategies.errors import CovenantError

Nodes = Mapping[bytes, NodeSeen]
_FRESH_S: Final = 5.0
_log = structlog.get_logger(__name__)
_PATIENCE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What the SuperLink said last, by public node key (PEM), or why it said nothing."""

    nodes: Nodes | None
    trouble: str | None = None


@dataclass
class Fleet:
    """Asks `look` at most every `_FRESH_S`, in one thread at a time."""

    look: Callable[[], Nodes]
    monotonic: Callable[[], float]
    _last: Seen = field(default_factory=lambda: Seen(None, "the SuperLink has not answered yet"))
    _at: float | None = None
    _looking: threading.Event | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, centre: Centre) -> Self:
        """The fleet of a coordinator."""
        return cls(partial(_nodes, centre), centre.monotonic)

    def now(self) -> Seen:
        """What is known. Waits a tenth of a second at most for something newer."""
        with self._lock:
            if self._at is not None and self.monotonic() - self._at < _FRESH_S:
                return self._last
            looking = self._looking
            if looking is None:
                looking = self._looking = threading.Event()
                threading.Thread(target=self._ask, args=(looking,), name="fleet", daemon=True).start()
        looking.wait(_PATIENCE_S)
        return self._last

    def _ask(self, done: threading.Event) -> None:
        try:
            found = Seen(self.look())
        except (CovenantError, ValueError) as error:
            _log.warning("the sites' connections are not known", reason=str(error))
            found = Seen(
                None, "the SuperLink does not answer; whoever runs the coordinator finds why in its log"
            )
        with self._lock:
            self._last, self._at, self._looking = found, self.monotonic(), None
        done.set()


def _nodes(centre: Centre) -> Nodes:
    with Control(centre.settings.superlink) as control:
        return control.nodes()
