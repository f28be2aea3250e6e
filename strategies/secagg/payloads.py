"""What is summed up, as integers of a ring: updates on a grid, moments in fixed point, counts as they are.

Both sides derive ring, grid and length from the plan and the roster alone, so nothing about them is said by either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.secagg.fixedpoint import Grid, fitting_grid, ring_for
from strategies.secagg.labels import prefixed
from strategies.secagg.rings import Ring, Signed
from strategies.secagg.secrets import MaskSeed
from strategies.update_rules import LinearRule

Integers = npt.NDArray[np.int64]
MOST_WEIGHT_RATIO: Final = 10
"""With three survivors, the other two then make up at least a sixth of a sum."""
_MOMENT_STEP: Final = 2.0**-20
_MOST_ROWS_LOG2: Final = 31
MOST_COUNT: Final = 1 << 40
_BLOCK: Final = 1 << 16  # coordinates that are worked on together


@dataclass(frozen=True, slots=True)
class WeightedUpdates:
    """Updates, each coordinate in [-`bound`, `bound`], times their site's public weight: the opened sum gives the weighted mean.

    `weights`, at least 1 each, are those of the whole roster, and lie in one band: next to a site that outweighs all others the mean
    would be its update. A weight counts relative to the largest, so every input stays on the grid. Raises UsageError outside the band.
    """

    bound: float
    weights: Mapping[SiteName, int]

    def __post_init__(self) -> None:
        smallest, largest = min(self.weights.values()), max(self.weights.values())
        if smallest < 1 or largest > MOST_WEIGHT_RATIO * smallest:
            raise UsageError(
                f"weights from {smallest} to {largest}; they are at least 1, and under secure aggregation none is more than"
                f" {MOST_WEIGHT_RATIO} times another, or the sum would show the site that outweighs the others"
            )

    @classmethod
    def of(cls, rule: LinearRule, bound: float, weights: Mapping[SiteName, int]) -> Self:
        """What `rule` makes of updates that nobody sees: it is a sum, or it cannot be masked."""
        return cls(bound, rule.factors(weights))

    @property
    def ring(self) -> Ring:
        """The ring of the sum."""
        return self._fit[1]

    @property
    def _fit(self) -> tuple[Grid, Ring]:
        return fitting_grid(self.bound, len(self.weights))

    def share(self, site: SiteName) -> float:
        """What an input of `site` counts, from above 0 to 1."""
        return self.weights[site] / max(self.weights.values())

    def embed(self, site: SiteName, update: Vector, dither: MaskSeed) -> Integers:
        """Clip, weigh and round an update, (d,) float64; what is no number counts as 0.

        It refuses nothing: whoever chooses the model would learn from a refusal on which rows training leaves the numbers.
        """
        grid, _ = self._fit
        return grid.embed_scaled(update, self.share(site), dither)

    def mean(self, total: Signed, survivors: Sequence[SiteName]) -> Vector:
        """The weighted mean over `survivors`, (d,) float64."""
        grid, _ = self._fit
        weight = 0.0
        for site in sorted(survivors):
            weight += self.share(site)
        mean = np.empty(len(total))
        for first in range(0, len(total), _BLOCK):
            part = slice(first, first + _BLOCK)
            np.divide(grid.value(total[part]), weight, out=mean[part])
        return mean


@dataclass(frozen=True, slots=True)
class Moments:
    """Counts, sums and sums of squares of unit values in fixed point, exact to 2^-21 each, for up to 2^31 rows a site."""

    cohort: int

    @property
    def ring(self) -> Ring:
        """The ring of the sum."""
        return ring_for(1 << (_MOST_ROWS_LOG2 + 20), self.cohort)

    def embed(self, moments: Vector) -> Integers:
        """(k,) float64 as integers. Raises Refused for values that are not finite, or of more rows than fit."""
        if not np.isfinite(moments).all() or (np.abs(moments) > 2.0**_MOST_ROWS_LOG2).any():
            raise Refused(f"moments are finite and of at most 2^{_MOST_ROWS_LOG2} rows")
        return np.rint(moments / _MOMENT_STEP).astype(np.int64)

    def value(self, total: Signed) -> Vector:
        """The pooled moments, (k,) float64."""
        return total.astype(np.float64) * _MOMENT_STEP


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of rows, exact, up to `most` a site and cell; in the cells from the first of `signed` up to the second, sums of either sign."""

    cohort: int
    signed: tuple[int, int] = (0, 0)
    most: int = MOST_COUNT

    @property
    def ring(self) -> Ring:
        """The ring of the sum."""
        return ring_for(self.most, self.cohort)

    def embed(self, counts: Integers) -> Integers:
        """Counts of any shape as one row. Raises Refused for negative or absurd ones."""
        row: Integers = counts.astype(np.int64).ravel()
        sizes = row.copy()
        either = slice(*self.signed)
        np.abs(row[either], out=sizes[either])
        if (sizes < 0).any() or (sizes > self.most).any():
            raise Refused(f"counts are from 0 to {self.most}")
        return row


def dither_seed(*names: str) -> MaskSeed:
    """The seed of stochastic rounding: public, and a function of what is rounded only by name, so that a run repeats to the bit."""
    digest = hashlib.sha256(b"covenant/secagg/1 dither")
    for name in names:
        digest.update(prefixed(name.encode()))
    return MaskSeed(digest.digest())
