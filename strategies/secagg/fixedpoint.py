"""Real vectors on a grid, so that their sum is exact in a ring.

1. A coordinate is clipped to [-bound, bound], divided by the grid's step and rounded up or down at random, so that it is right on average.
   The dither follows from a public seed (`payloads.dither_seed`) and from nothing in the data.
2. Rounding may lengthen a vector: `rounded_norm_bound` says by how much at most, and sensitivities use that.
3. The ring is chosen so that no honest sum wraps: certainly without noise, and with probability above 1 - 2^-40 a round with it.
   A sum that wraps costs accuracy, never privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector, first_not_finite
from strategies.errors import Refused, UsageError
from strategies.secagg.masks import DRAW_BITS, uniform_draws
from strategies.secagg.rings import Ring, Signed
from strategies.secagg.secrets import MaskSeed

_WRAP_PROBABILITY_LOG2: Final = -40
_FEWEST_LEVELS: Final = 1 << 16
_BLOCK: Final = 1 << 14  # coordinates that stay in the cache through all steps of rounding
_DRAW_STEP: Final = 2.0**-DRAW_BITS
_NOT_FINITE: Final = "a vector with a value that is not finite cannot be sent"
_MOST_BITS: Final = 62  # so that a sum of two is still exact in an int64


class OverflowRisk(UsageError):  # noqa: N818 (names what would happen)
    """No ring holds the worst sum of this cohort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Coordinates in [-`bound`, `bound`] as the integers from -`levels` to `levels`."""

    bound: float
    levels: int

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf or not 1 <= self.levels < 2**53:
            raise UsageError(
                f"a grid has a finite bound above 0 and 1 to 2^53 levels; this one has {self.bound} and {self.levels}"
            )

    @property
    def step(self) -> float:
        """The distance of two neighbouring grid points."""
        return self.bound / self.levels

    def embed(self, values: Vector, dither: MaskSeed) -> npt.NDArray[np.int64]:
        """Clip and round (d,) float64 stochastically to integers, (d,) int64, each within one of the exact quotient.

        Raises Refused for NaN and infinities, which no clipping makes meaningful.
        """
        if first_not_finite(values) is not None:
            raise Refused(_NOT_FINITE)
        return self.embed_scaled(values, 1.0, dither)

    def embed_scaled(self, values: Vector, share: float, dither: MaskSeed) -> npt.NDArray[np.int64]:
        """The same of `values`, clipped, times `share`, from 0 to 1; what is no number counts as 0."""
        draws = uniform_draws(dither, len(values))
        integers = np.empty(len(values), dtype=np.int64)
        scratch = np.empty(_BLOCK)
        for first in range(0, len(values), _BLOCK):
            part = slice(first, first + _BLOCK)
            block = scratch[: len(values[part])]
            np.copyto(block, np.nan_to_num(values[part], nan=0.0, posinf=self.bound, neginf=-self.bound))
            if not np.isfinite(block).all():
                raise Refused(_NOT_FINITE)
            np.clip(block, -self.bound, self.bound, out=block)
            block *= share
            block /= self.step
            block += draws[part] * _DRAW_STEP
            np.floor(block, out=block)
            np.clip(block, -self.levels, self.levels, out=integers[part], casting="unsafe")
        return integers

    def value(self, integers: Signed) -> Vector:
        """The real vector of a sum of embedded ones, (d,) float64."""
        values = integers.astype(np.float64)
        values *= self.step
        return values


def rounded_norm_bound(norm: float, grid: Grid, dimension: int) -> float:
    """The largest L2 norm that a vector of norm at most `norm` can have after rounding: norm + step sqrt(d).

    Each coordinate moves by less than one step. Kairouz, Liu, Steinke 2021, section 4, without their conditional rounding.
    """
    return norm + grid.step * math.sqrt(dimension)


def fitting_grid(bound: float, cohort: int) -> tuple[Grid, Ring]:
    """The grid and ring of vectors in [-`bound`, `bound`], for a sum over `cohort` sites without noise.

    The ring has whole bytes, which pack fast: the smallest in which 2^16 levels fit, 24 bits for cohorts of up to 127. The grid
    then takes as many levels as the ring holds, so smaller cohorts are rounded more finely. Raises `OverflowRisk`.
    """
    ring = Ring(-(-ring_for(_FEWEST_LEVELS, cohort).bits // 8) * 8)
    return Grid(bound=bound, levels=(ring.modulus // 2 - 1) // cohort), ring


def ring_for(levels: int, cohort: int, *, dimension: int = 1, noise_std: float = 0.0) -> Ring:
    """The smallest ring in which the sum of `cohort` vectors of `levels`, plus noise, does not wrap.

    `noise_std` is of the noise on the whole sum, in grid steps, with tails no heavier than a Gaussian's. Raises `OverflowRisk`.
    """
    if levels < 1 or cohort < 1 or dimension < 1 or not 0 <= noise_std < math.inf:
        raise UsageError("levels, cohort and dimension are at least 1, and the noise is finite")
    # P(|N(0, s)| > z s) <= exp(-z^2 / 2) a coordinate, by Chernoff; a union bound over the coordinates.
    z = math.sqrt(2.0 * (math.log(2.0) * -_WRAP_PROBABILITY_LOG2 + math.log(2.0 * dimension)))
    largest = levels * cohort + math.ceil(z * noise_std)
    bits = largest.bit_length() + 1
    if bits > _MOST_BITS:
        raise OverflowRisk(
            f"a sum of {cohort} vectors of {levels} levels takes {bits} bits; at most {_MOST_BITS} are there. Use fewer levels"
        )
    return Ring(bits)
