"""Rules that make one update of many, and the two kinds of them: those that masks allow, and those that must see each update.

1. A `LinearRule` multiplies each vector by a factor that is known before any vector is seen. A sum is all it needs, so it may be masked.
2. A `RobustRule` compares vectors, so it needs each of them in the clear. It counts sites and no weights.
3. Every result is finite and the same to the bit, whatever the order in which sites answered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.aggregation import Contribution, admitted, weighted_mean
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

_BLOCK: Final = 1 << 14
"""Coordinates that are sorted at a time: (sites, block) float64 stay small beside the updates themselves."""


class LinearRule(ABC):
    """A rule whose result is a sum of the vectors, each times its site's factor.

    There is one today. The type is there for what it refuses: what masks takes a `LinearRule`, so a rule that compares vectors is a type error there.
    """

    @abstractmethod
    def factors(self, weights: Mapping[SiteName, int]) -> Mapping[SiteName, int]:
        """What each site's vector counts, at least 1, from the plan's `weights`."""

    @abstractmethod
    def aggregate(self, contributions: Sequence[Contribution]) -> Vector:
        """What the rule makes of them, (d,) float64. Raises Refused as `weighted_mean` does."""


@dataclass(frozen=True, slots=True)
class WeightedMean(LinearRule):
    """sum(weight x vector) / sum(weight): McMahan et al. 2017, algorithm 1. One site moves it as far as it likes."""

    def factors(self, weights: Mapping[SiteName, int]) -> Mapping[SiteName, int]:
        """See `LinearRule.factors`: the plan's weights."""
        return weights

    def aggregate(self, contributions: Sequence[Contribution]) -> Vector:
        """See `LinearRule.aggregate`."""
        return weighted_mean(contributions)


class RobustRule(ABC):
    """A rule that some of `fewest` sites or more can move only so far, whatever they send: how many, each rule says."""

    @property
    @abstractmethod
    def fewest(self) -> int:
        """The fewest contributions that the rule is defined for."""

    def aggregate(self, contributions: Sequence[Contribution]) -> Vector:
        """What the rule makes of them, (d,) float64.

        Raises UsageError for weights that differ, and Refused for too few contributions and what `weighted_mean` refuses.
        """
        ordered = admitted(contributions)
        if len({item.weight for item in ordered}) > 1:
            raise UsageError(f"{self.words} counts sites alike; weights that differ mean nothing to it")
        if len(ordered) < self.fewest:
            raise Refused(f"{self.words} takes at least {self.fewest} sites; {len(ordered)} have answered")
        return self._aggregate(ordered)

    @property
    @abstractmethod
    def words(self) -> str:
        """The rule in words."""

    @abstractmethod
    def _aggregate(self, ordered: Sequence[Contribution]) -> Vector:
        """The same, of contributions in the order of their sites, which are enough."""


@dataclass(frozen=True, slots=True)
class TrimmedMean(RobustRule):
    """In each coordinate the mean without the `trim` largest and the `trim` smallest values: Yin et al. 2018, definition 2.

    Where at most `trim` sites lie, each coordinate of the result lies between the smallest and the largest of the honest values.
    Raises UsageError for a `trim` below 1.
    """

    trim: int

    def __post_init__(self) -> None:
        if self.trim < 1:
            raise UsageError(
                f"trim is {self.trim}; a trimmed mean leaves out at least 1 value on either side"
            )

    @property
    def fewest(self) -> int:
        """See `RobustRule.fewest`: one value must be left."""
        return 2 * self.trim + 1

    @property
    def words(self) -> str:
        """See `RobustRule.words`."""
        return f"a trimmed mean without the {self.trim} largest and smallest values"

    def _aggregate(self, ordered: Sequence[Contribution]) -> Vector:
        return _trimmed(ordered, self.trim)


@dataclass(frozen=True, slots=True)
class Median(RobustRule):
    """In each coordinate the median, of an even number of values the mean of the middle two: Yin et al. 2018, definition 1.

    Where less than half of the sites lie, each coordinate lies between the smallest and the largest of the honest values.
    """

    @property
    def fewest(self) -> int:
        """See `RobustRule.fewest`: of fewer, one lie is half."""
        return 3

    @property
    def words(self) -> str:
        """See `RobustRule.words`."""
        return "a median"

    def _aggregate(self, ordered: Sequence[Contribution]) -> Vector:
        return _trimmed(ordered, (len(ordered) - 1) // 2)


@dataclass(frozen=True, slots=True)
class MultiKrum(RobustRule):
    """The mean of the n - f - 2 updates with the lowest Krum scores, where f is `attackers` (Blanchard et al. 2017, section 4).

    A score is the sum of the squared distances to the n - f - 2 nearest others; equal scores count by the sites' names. Needs n >= 2f + 3.
    Raises UsageError for fewer than 1 attacker.
    """

    attackers: int

    def __post_init__(self) -> None:
        if self.attackers < 1:
            raise UsageError(f"attackers is {self.attackers}; Multi-Krum is for at least 1")

    @property
    def fewest(self) -> int:
        """See `RobustRule.fewest`: 2f + 3."""
        return 2 * self.attackers + 3

    @property
    def words(self) -> str:
        """See `RobustRule.words`."""
        return f"Multi-Krum against {self.attackers} attackers"

    def chosen(self, contributions: Sequence[Contribution]) -> tuple[SiteName, ...]:
        """The sites whose updates are taken, by name."""
        return tuple(item.site for item in self._chosen(admitted(contributions)))

    def _aggregate(self, ordered: Sequence[Contribution]) -> Vector:
        return weighted_mean(self._chosen(ordered))

    def _chosen(self, ordered: Sequence[Contribution]) -> list[Contribution]:
        near = len(ordered) - self.attackers - 2
        distances = _squared_distances(ordered)
        scores = []
        for place, row in enumerate(distances):
            others = np.sort(np.delete(row, place))
            scores.append(float(np.add.accumulate(others[:near])[-1]))
        best = sorted(range(len(ordered)), key=lambda place: (scores[place], ordered[place].site))[:near]
        return [ordered[place] for place in sorted(best)]


def _trimmed(ordered: Sequence[Contribution], trim: int) -> Vector:
    """The mean, (d,), of each coordinate's values without the `trim` largest and smallest; never outside of those that are left."""
    size, kept = len(ordered[0].vector), len(ordered) - 2 * trim
    result = np.empty(size)
    for first in range(0, size, _BLOCK):
        part = slice(first, first + _BLOCK)
        values = np.sort(
            np.stack([item.vector[part].astype(np.float64, copy=False) for item in ordered]), axis=0
        )
        left = values[trim : trim + kept]
        added = np.zeros(left.shape[1])
        for row in left:  # one after the other, and each divided first: nothing overflows, and the order is that of the values
            added += row / kept
        result[part] = np.clip(added, left[0], left[-1]) + 0.0  # no negative zero
    return result


def _squared_distances(ordered: Sequence[Contribution]) -> npt.NDArray[np.float64]:
    """Between each two updates, (n, n); infinite beyond float64, so that a vector of that size is nobody's neighbour."""
    found = np.zeros((len(ordered), len(ordered)))
    with np.errstate(over="ignore"):
        for one in range(len(ordered)):
            for other in range(one):
                apart = ordered[one].vector.astype(np.float64, copy=False) - ordered[other].vector
                found[one, other] = found[other, one] = float(np.square(apart).sum())
    return found
