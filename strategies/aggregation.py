"""Sums and means over sites that do not depend, to the bit, on the order in which the sites answered.

1. Contributions are taken in the order of their sites' names; each element is added in float64, one site at a time.
2. One site contributes once; all vectors have one length; every value, and every result, is finite.
3. Weights are public constants of the plan, never row counts.
4. There is one sum, a running one: whoever adds as contributions come gets the bits of whoever adds them at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

_NOTHING: Final = "there are no contributions to aggregate; at least one site must answer"


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What one site adds: `vector`, (d,), with the plan's `weight` for that site, at least 1.

    Vectors are taken as float64 before anything is computed; whole numbers up to 2^53, such as counts, stay exact.
    """

    site: SiteName
    vector: Vector
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise UsageError(f"the weight of site {self.site} is {self.weight}; use an integer of at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSum:
    """sum(weight x vector), (d,) float64, and sum(weight): what is known of some sites when nothing is known of one."""

    total: Vector
    weight: int

    @property
    def mean(self) -> Vector:
        """(d,) float64. Raises Refused for no weight, or where the sum overflowed."""
        if self.weight < 1:
            raise Refused(_NOTHING)
        return _finite(self.total) / self.weight


@dataclass(slots=True)
class _Admission:
    """What a contribution must be beside those before it: of a later site, equally long, and finite."""

    shape: tuple[int, ...] | None = None
    first: SiteName | None = None
    last: SiteName | None = None

    def admit(self, item: Contribution) -> None:
        """Raises Refused, and UsageError for a site that is before the last one."""
        if self.last is not None and item.site == self.last:
            raise Refused(f"site {item.site} contributed twice; one contribution a site is accepted")
        if self.last is not None and item.site < self.last:
            raise UsageError(
                f"site {item.site} comes after {self.last}; add sites in the order of their names"
            )
        expected = self.shape or item.vector.shape
        if item.vector.ndim != 1 or item.vector.shape != expected:
            raise Refused(
                f"site {item.site} sent shape {item.vector.shape}; {self.first or item.site} sent {expected}, "
                "and all must be one-dimensional and equally long"
            )
        if not np.isfinite(item.vector).all():
            raise Refused(
                f"site {item.site} sent a value that is NaN or infinite; every value must be finite"
            )
        self.shape, self.first, self.last = expected, self.first or item.site, item.site


class RunningSum:
    """Contributions added one after another, in the order of their sites: memory for one vector, however many there are."""

    def __init__(self) -> None:
        self._total: Vector | None = None
        self._weight = 0
        self._admission = _Admission()

    def add(self, item: Contribution) -> None:
        """Add weight x vector. Raises Refused for a site that is not after the last one, another length, or a value that is not finite."""
        self._admission.admit(item)
        vector = item.vector.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            weighted = item.weight * vector
        self._grow(weighted, item.weight)

    def add_sum(self, part: WeightedSum) -> None:
        """Add a sum of other sites, of whom nothing is known one by one. Raises Refused for another length."""
        if self._total is not None and part.total.shape != self._total.shape:
            raise Refused(
                f"a sum has shape {part.total.shape} and another {self._total.shape}; all must be equally long"
            )
        self._grow(part.total, part.weight)

    def _grow(self, weighted: Vector, weight: int) -> None:
        if self._total is None:
            self._total = np.zeros(weighted.shape)
        # An overflow is refused at the end, with a sentence.
        with np.errstate(over="ignore", invalid="ignore"):
            self._total += weighted
        self._weight += weight

    @property
    def so_far(self) -> WeightedSum:
        """The sum of what was added. Raises Refused where that is nothing."""
        if self._total is None:
            raise Refused(_NOTHING)
        return WeightedSum(self._total.copy(), self._weight)


def admitted(contributions: Sequence[Contribution]) -> list[Contribution]:
    """The contributions in the order of their sites, after every check, for rules that compare them. Raises Refused as `weighted_mean` does."""
    if not contributions:
        raise Refused(_NOTHING)
    ordered, admission = _ordered(contributions), _Admission()
    for item in ordered:
        admission.admit(item)
    return ordered


def added_in_order(parts: Iterable[WeightedSum]) -> WeightedSum:
    """One sum of `parts`, left to right, so that equal parts give equal bits. Raises Refused for none, lengths that differ, or an overflow."""
    running = RunningSum()
    for part in parts:
        running.add_sum(part)
    added = running.so_far
    return WeightedSum(_finite(added.total), added.weight)


def weighted_mean(contributions: Sequence[Contribution]) -> Vector:
    """sum(weight x vector) / sum(weight), (d,) float64: McMahan et al. 2017, algorithm 1, with the plan's weights.

    Raises Refused for no contributions, a site that appears twice, lengths that differ, or a value or result that is
    not finite.
    """
    return _running(contributions).so_far.mean


def total(contributions: Sequence[Contribution]) -> Vector:
    """Unweighted sum of the vectors, (d,) float64, for counts and moments. Raises Refused as `weighted_mean` does."""
    return _finite(_running([replace(item, weight=1) for item in contributions]).so_far.total)


def _running(contributions: Iterable[Contribution]) -> RunningSum:
    running = RunningSum()
    for item in _ordered(contributions):
        running.add(item)
    return running


def _ordered(contributions: Iterable[Contribution]) -> list[Contribution]:
    return sorted(contributions, key=lambda item: item.site)


def _finite(total: Vector) -> Vector:
    """`total`. Raises Refused where it overflowed."""
    if not np.isfinite(total).all():
        raise Refused("the sum over sites is beyond the range of float64; the values sent are too large")
    return total
