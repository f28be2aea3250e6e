"""How long to wait between two polls: short while a round is open, long when nothing happens, and never in step with others."""

from __future__ import annotations

from dataclasses import dataclass

_PATIENCE = 0.05
"""A poll comes after this share of the time that has passed since the last message, so waiting costs at most that share."""

_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """Waiting times between polls, in seconds, from `busy_s` just after a message to `idle_s` when all is quiet."""

    busy_s: float
    idle_s: float

    def wait_s(self, quiet_s: float, chance: float) -> float:
        """Seconds until the next poll, `quiet_s` after the last message; `chance` in [0, 1) spreads agents by a fifth each way."""
        wait = min(max(self.busy_s, _PATIENCE * quiet_s), self.idle_s)
        return wait * (1 - _JITTER + 2 * _JITTER * chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waiting times between attempts to reach a SuperLink that is away, in seconds."""

    first_s: float = 0.2
    longest_s: float = 10.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Seconds before the next attempt after `failures` in a row; doubles each time, spread by half downwards."""
        return float(min(self.first_s * 2.0 ** min(failures, 16), self.longest_s)) * (0.5 + chance / 2)
