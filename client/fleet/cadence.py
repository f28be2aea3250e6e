"""How long to wait between two polls: short while a round is open, long when nothing happens or the SuperLink is crowded, and never in step with others.

A hundred agents that poll forty times a second would ask more than a SuperLink can answer, and what counts would wait among polls that bring
nothing. An agent cannot see the others, but it sees that a poll takes longer than at its best, and gives way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_PATIENCE = 0.05
"""A poll comes after this share of the time that has passed since the last message, so waiting costs at most that share."""

_GIVE_WAY = 8.0
"""A poll comes after so many times what the SuperLink was late by: so few of the requests that wait there are polls."""

_FORGETS = 1.01
"""The best is forgotten by this factor a poll, for a line that has become slower for good."""

_JITTER = 0.2


@dataclass(slots=True)
class Crowd:
    """How late a SuperLink is: what a poll takes longer than at its best, in seconds. One slow poll says nothing, two in a row do."""

    _best_s: float = math.inf
    _late_s: tuple[float, float] = (0.0, 0.0)

    def heard(self, took_s: float) -> None:
        """Note what a poll took that brought nothing: one that brings something takes as long as that is large."""
        self._best_s = min(self._best_s * _FORGETS, took_s)
        self._late_s = (self._late_s[1], took_s - self._best_s)

    @property
    def late_s(self) -> float:
        """By how much it is late."""
        return min(self._late_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """Waiting times between polls, in seconds, from `busy_s` just after a message to `idle_s` when all is quiet."""

    busy_s: float
    idle_s: float

    def wait_s(self, quiet_s: float, chance: float, late_s: float = 0.0) -> float:
        """Seconds until the next poll, `quiet_s` after the last message, at a SuperLink that is late by `late_s`; `chance` in [0, 1) spreads agents by
        a fifth each way."""
        wait = min(max(self.busy_s, _PATIENCE * quiet_s, _GIVE_WAY * late_s), self.idle_s)
        return wait * (1 - _JITTER + 2 * _JITTER * chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waiting times between attempts to reach a SuperLink that is away, in seconds."""

    first_s: float = 0.2
    longest_s: float = 10.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Seconds before the next attempt after `failures` in a row; doubles each time, spread by half downwards."""
        return float(min(self.first_s * 2.0 ** min(failures, 16), self.longest_s)) * (0.5 + chance / 2)
