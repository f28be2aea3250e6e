"""What each stage opens under differential privacy, as integers with discrete noise: gradient sums and moments here, counts in `evaluation_cells`.

1. Everything before the noise is exact integer arithmetic, so sensitivities hold to the last bit: one unit's part is bounded first, and
   sums of integers have no rounding.
2. Rounding to the coarser grid of the ring adds a public dither and takes the floor. Floors of two numbers differ by less than one more
   than the numbers do, so rounding costs at most one step a coordinate: sqrt(d) in the norm. (Rounding that is repeated until the norm of a
   *sum* is small would not bound the difference of two sums.)
3. Noise is added where the release says: a share at each site, all of it at the site, or all of it at the centre.
4. Clamping a coordinate, and a wrap in the ring, cost accuracy and never privacy: they are functions of one coordinate that lengthen
   nothing, or come after the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.dp.clipping import FRACTION_BITS
from strategies.dp.events import Mechanism, Release
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.dp.rotation import hadamard, padded, signs
from strategies.encoding import Vector
from strategies.secagg.fixedpoint import ring_for
from strategies.secagg.masks import DRAW_BITS, uniform_draws
from strategies.secagg.rings import Ring, Signed
from strategies.secagg.secrets import MaskSeed

Integers = npt.NDArray[np.int64]

STEPS_PER_ROOT: Final = 1 << 16
"""Steps of the grid to a clipping norm, over sqrt(d): so fine that rounding costs no order of the Rényi curve more than a twentieth, also
where the curve bends (tests/strategies/dp/test_curves.py)."""
MOMENT_BITS: Final = 10
"""Unit values are read in steps of 2^-10, so that their squares are exact in steps of 2^-20."""
LOCAL_DEVIATION_STEPS: Final = 2.0**38
"""Standard deviation of the noise of local steps, in steps of its grid."""
_MOST_ROWS: Final = 1 << 31
_ROTATED_BITS: Final = 30
_MOST_INTEGER: Final = (1 << 63) - 1
_FLOAT_SLACK: Final = 2.0**-6


def site_variance(release: Release) -> float:
    """Variance of the noise that one site adds, in steps; 0 where the release has none of it."""
    match release.mechanism:
        case Mechanism.DISTRIBUTED:
            return release.variance / release.shares
        case Mechanism.LOCAL:
            return release.variance
        case _:
            return 0.0


def centre_variance(release: Release) -> float:
    """Variance of the noise that the coordinator adds to the opened sum, in steps; 0 where it adds none."""
    return release.variance if release.mechanism is Mechanism.CENTRAL else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisySum:
    """A sum over `cohort` sites of (dimension,) integers within +-`levels` before noise, with the noise of `release`."""

    release: Release
    cohort: int
    levels: int

    @property
    def ring(self) -> Ring:
        """The ring that holds the sum with everybody's noise, but for a probability below 2^-40 a round."""
        std = math.sqrt(self.cohort * site_variance(self.release))
        return ring_for(self.levels, self.cohort, dimension=self.release.dimension, noise_std=std)

    def at_site(self, exact: Integers, draw: Callable[[], NoiseSeed]) -> Integers:
        """Clamp (dimension,) and add this site's noise, under a seed that is drawn only if there is any, and never used again."""
        return _noisy(np.clip(exact, -self.levels, self.levels), site_variance(self.release), draw)

    def at_centre(self, opened: Signed, draw: Callable[[], NoiseSeed]) -> Integers:
        """Add the centre's noise to an opened sum, (dimension,), if the release says that the centre adds it."""
        return _noisy(opened.astype(np.int64), centre_variance(self.release), draw)


def _noisy(values: Integers, variance: float, draw: Callable[[], NoiseSeed]) -> Integers:
    return values + discrete_gaussian(variance, len(values), draw()) if variance else values


# --- gradient sums -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientGrid:
    """How a clipped gradient sum of `parameters` coordinates lies on the grid; `rotated` by a Hadamard rotation first, or not."""

    parameters: int
    rotated: bool = False

    @property
    def dimension(self) -> int:
        """Coordinates of what is summed up."""
        return padded(self.parameters) if self.rotated else self.parameters

    @property
    def steps(self) -> int:
        """Steps of the grid to a clipping norm: a power of two, at least 2^16 sqrt(dimension)."""
        # In integers, because every site must come to the same power of two: the least whose square is at least 2^32 x dimension.
        return 1 << -(-(STEPS_PER_ROOT**2 * self.dimension - 1).bit_length() // 2)

    @property
    def sensitivity(self) -> float:
        """The most that one unit moves a rounded sum, L2, in steps: below 1.0001 clipping norms."""
        root = math.sqrt(self.dimension)
        if not self.rotated:
            return self.steps + root
        # One floor to 2^-30 of the clipping norm before the rotation, and a float64 product before the last floor.
        return self.steps * (1.0 + math.sqrt(self.parameters) * 2.0**-_ROTATED_BITS) + root * (
            1.0 + _FLOAT_SLACK
        )

    def levels(self, expected_units: int) -> int:
        """Where coordinates are clamped: twice what the expected units could add if all pulled one way, or what a rotation leaves of it."""
        whole = 2 * expected_units * self.steps
        if not self.rotated:
            return whole
        # A rotated coordinate is a sum of d random signs: above the norm times sqrt(2 ln(2 D 2^40) / D) with probability below 2^-40.
        spread = math.sqrt(2.0 * (math.log(2.0 * self.dimension) + 40.0 * math.log(2.0)) / self.dimension)
        return max(self.steps, math.ceil(whole * min(1.0, spread)))

    def rounded(self, exact: Integers, dither: MaskSeed, turning: MaskSeed, expected_units: int) -> Integers:
        """A clipped sum, (parameters,) in 2^-FRACTION_BITS clipping norms, as steps, (dimension,); `dither` and `turning` are public."""
        draws = uniform_draws(dither, self.dimension).astype(np.int64)
        if not self.rotated:
            shift = FRACTION_BITS - (self.steps.bit_length() - 1)
            below = draws << (shift - DRAW_BITS) if shift > DRAW_BITS else draws >> (DRAW_BITS - shift)
            return (exact + below) >> shift
        coarse = np.zeros(self.dimension, dtype=np.int64)
        # Clamped so that no rotated coordinate, a sum of all of these, wraps: a wrap would turn one unit's part into all there is.
        most = _MOST_INTEGER // self.dimension
        coarse[: self.parameters] = np.clip(exact >> (FRACTION_BITS - _ROTATED_BITS), -most, most)
        turned = hadamard(coarse * signs(turning, self.dimension))
        limit = math.ceil(
            self.levels(expected_units) * math.sqrt(self.dimension) * 2.0**_ROTATED_BITS / self.steps
        )
        scale = self.steps * 2.0**-_ROTATED_BITS / math.sqrt(self.dimension)
        steps: Vector = np.clip(turned, -limit, limit) * scale + draws * 2.0**-DRAW_BITS
        return np.floor(steps).astype(np.int64)

    def value(self, total: Integers, turning: MaskSeed) -> Vector:
        """An opened sum, (dimension,), in clipping norms, (parameters,) float64: right on average over dithers."""
        values = (total.astype(np.float64)) / self.steps
        if not self.rotated:
            return values
        turned = hadamard(values) / math.sqrt(self.dimension) * signs(turning, self.dimension)
        return turned[: self.parameters]


# --- scaling moments ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MomentCells:
    """Moments of k numeric features, of which those `optional` may be missing: the rows, the present values of each optional feature, then
    for each feature the sum of (value - 1/2) and of its square, all in steps of 2^-20."""

    optional: tuple[bool, ...]

    @property
    def dimension(self) -> int:
        """1 + optional features + 2 k."""
        return 1 + sum(self.optional) + 2 * len(self.optional)

    def sensitivity(self, rows: int) -> float:
        """The most that `rows` rows of one unit move the sums, L2, in steps: each value is within 1/2 of the middle."""
        one = 1 + sum(self.optional) + len(self.optional) * (1 / 4 + 1 / 16)
        return rows * math.sqrt(one) * 2.0 ** (2 * MOMENT_BITS)

    @property
    def levels(self) -> int:
        """The largest sum of a site of up to 2^31 rows."""
        return _MOST_ROWS << (2 * MOMENT_BITS)

    def sums(self, units: Vector) -> Integers:
        """(dimension,) of unit values (n, k) in [0, 1] with NaN for missing."""
        half = 1 << (MOMENT_BITS - 1)
        present = ~np.isnan(units)
        read = np.rint(np.where(present, units, 0.5) * (1 << MOMENT_BITS)).astype(np.int64) - half
        one = 1 << (2 * MOMENT_BITS)
        counts = present[:, np.flatnonzero(self.optional)].sum(axis=0, dtype=np.int64) * one
        sums = read.sum(axis=0) << MOMENT_BITS
        squares = (read * read).sum(axis=0)
        return np.concatenate((np.array([len(units) * one]), counts, sums, squares)).astype(np.int64)
