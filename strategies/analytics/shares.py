"""Shares of counts with noise, and how two of them differ: each with an interval that counts the noise and the sampling of rows.

1. An interval is of a stated confidence for the share of the population that the rows came from. It holds where counts are small, so it is no delta method:
   a share is told by inverting a test (Wilson 1927 for the sampling, Fieller 1954 for noise above and below the line, both in one quadratic).
2. Two shares of different rows are compared by recovering each one's variance from its own interval (Newcombe 1998; Zou and Donner 2008).
3. What the noise hides is None, and never a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
_SEEN: Final = 3.0
"""A denominator is seen if it is this many standard deviations of its noise above zero."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`value`, and from `low` to `high` where it lies with the confidence that was asked for. `high` of a ratio may be infinite."""

    value: float
    low: float
    high: float

    @property
    def magnitude(self) -> Interval:
        """The same of its absolute value."""
        ends = abs(self.low), abs(self.high)
        return Interval(abs(self.value), 0.0 if self.low <= 0.0 <= self.high else min(ends), max(ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A sum of `cells` counts with independent noise each: `count` rows, which noise may have made negative."""

    count: int
    cells: int

    def __add__(self, other: Counted) -> Counted:
        return Counted(count=self.count + other.count, cells=self.cells + other.cells)

    def rows(self, noise_std: float, choices: int = 1) -> Interval:
        """The rows themselves, which nothing but noise moves."""
        reach = deviations(choices) * noise_std * math.sqrt(self.cells)
        low, high = self.count - reach, self.count + reach
        return Interval(max(0.0, self.count), max(0.0, low), max(0.0, high))


def total(parts: Iterable[Counted]) -> Counted:
    """Their sum."""
    return sum(parts, Counted(count=0, cells=0))


def share(inside: Counted, outside: Counted, noise_std: float, choices: int = 1) -> Interval | None:
    """inside / (inside + outside), in [0, 1]; None where the noise hides how many rows there are.

    `noise_std` is that of each cell. With `choices` above 1 so many intervals hold together (Bonferroni).
    """
    whole = inside + outside
    if whole.count <= max(0.0, _SEEN * noise_std * math.sqrt(whole.cells)):
        return None
    # A count below none is noise; what it is read as is a function of it alone.
    part, rest = max(0, inside.count), max(0, outside.count)
    rows, spread, reach = float(part + rest), noise_std**2, deviations(choices) ** 2
    # All p with (part - rows p)^2 <= z^2 (rows p (1 - p) + noise of (1 - p) part - p rest): a p^2 - 2 b p + c <= 0.
    a = rows * rows + reach * (rows - whole.cells * spread)
    b = part * rows + reach * (rows / 2.0 - inside.cells * spread)
    c = part * part - reach * inside.cells * spread
    if not a > 0.0:
        return None
    half = math.sqrt(max(0.0, b * b - a * c))
    value = part / rows
    low, high = (min(1.0, max(0.0, end)) for end in ((b - half) / a, (b + half) / a))
    return Interval(value, min(low, value), max(high, value))


def difference(one: Interval, other: Interval) -> Interval:
    """`one` less `other`, two shares of different rows, in [-1, 1]."""
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, max(-1.0, value - below), min(1.0, value + above))


def ratio(one: Interval, other: Interval) -> Interval | None:
    """`one` over `other`, two shares of different rows, by the logarithms; None where nothing may be below the line."""
    if not other.value > 0.0:
        return None
    below = math.hypot(_log(one.value, one.low), _log(other.high, other.value))
    above = math.hypot(_log(one.high, one.value), _log(other.value, other.low))
    value = one.value / other.value
    if value == 0.0:
        return Interval(0.0, 0.0, math.inf if other.low == 0.0 else one.high / other.low)
    low = value * math.exp(-below)
    return Interval(value, low, value * math.exp(above) if above < math.inf else math.inf)


def _log(high: float, low: float) -> float:
    """How far apart two shares are in logarithms."""
    if low <= 0.0:
        return math.inf if high > 0.0 else 0.0
    return math.log(high / low)


def deviations(choices: int = 1) -> float:
    """Standard deviations to either side of a Gaussian that hold it with `CONFIDENCE`, in so many findings at once."""
    return NormalDist().inv_cdf(1.0 - (1.0 - CONFIDENCE) / (2.0 * choices))
