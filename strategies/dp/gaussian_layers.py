"""The layers under which the discrete Gaussian is drawn: a ziggurat of integers (after Marsaglia and Tsang 2000), exact by construction.

Write rho(x) = exp(-x^2 / (2 variance)) and Y = `peak`. The area below Y rho is covered by 256 layers, one upon the other. Layer i has the
heights from y_i = `bottoms[i]` to y_i + k_i, k_i = `heights[i]`, and over all of them the a_i = `widths[i]` cells around zero. A cell is
2^`shift` integers in a row; cell z begins at z 2^shift - 2^(shift - 1), or is the integer z itself where shift is 0.

1. k_i = floor(2^32 / a_i): of 2^32 equally likely choices exactly k_i fall on each cell of layer i, and the rest are drawn again (Lemire 2019).
   Each integer of each layer is therefore equally likely *per unit of height*, whatever the widths: no weight is ever rounded.
2. y_0 = 0 and y_(i+1) = y_i + k_i; the last layer ends at Y or above. So the layers leave no gap.
3. Every integer x outside layer i > 0 has Y rho(x) <= y_i. So a layer is too wide, or just right.
4. Layer 0 holds every integer up to 14 standard deviations. What lies beyond is never drawn: the sampler's only departure from the law.

Given 1 to 3, a point of a uniformly chosen layer at height y_i + k_i U, U uniform on [0, 1), that is kept if it lies below Y rho(x) has
the mass (1 / 256) 2^-32 2^-shift Y rho(x) for every x in layer 0: exactly proportional to rho. Any Y and any widths that obey the rules
give this law; better ones give fewer rejections. Widths are computed in float64, so they obey rule 3 with an allowance of 2^-40 in
ln(Y rho(x)), which is above 100 times the error of a logarithm and a square root right to 2^-50.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.errors import UsageError

LAYERS: Final = 256
CHOICES: Final = 1 << 32
LEAST_VARIANCE: Final = 0.25
MOST_VARIANCE: Final = 2.0**80

_REACH: Final = 14.0  # standard deviations
_MOST_CELLS: Final = 1 << 20  # on one side of zero; a cell times a choice then fits int64 with room to spare
_ALLOWANCE: Final = 2.0**-40
_PEAKS: Final = 1 << 10
_WORD_BITS: Final = 64
_DIGITS_LOST: Final = 5

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers for `variance`; each array is (256,) int64, layer 0 (the widest) first, and read-only.

    `widths` are odd, below 2^21; `bottoms` and `heights` are in units of `peak`, below 2^41. `certain` spares most points the comparison:
    with c from -2^31 to 2^31 - 1, the whole cell of floor((a_i c + 2^31) / 2^32) lies below the curve, up to the top of the layer, if
    |a_i c| < certain[i]. `reach`: every integer x with |x| < reach is in layer 0. `acceptance` is the share of points that are kept.
    """

    variance: float
    shift: int
    peak: int
    reach: int
    acceptance: float
    widths: Integers
    bottoms: Integers
    heights: Integers
    certain: Integers

    @property
    def half_cell(self) -> int:
        """How many integers of a cell lie before its middle."""
        return (1 << self.shift) >> 1

    def holds(self, layer: int, x: int, draw: int, known: int, more: Iterator[int]) -> bool:
        """Whether y + k U < Y rho(x), decided exactly, for the `layer`'s y and k and the U that begins with `draw`, of `known` bits.

        Takes bits of U from `more`, 64 a time, and digits of rho(x) until the two sides are told apart: with probability 1 that ends, since any digit
        of U may tell. `Decimal.exp` rounds correctly; five digits cover that, and an exponent below 1000 that was rounded too.
        """
        bottom, height = int(self.bottoms[layer]), int(self.heights[layer])
        exponent = Fraction(x * x, 2) / Fraction(self.variance)
        while True:
            context = Context(prec=40 + known // 3)
            quotient = context.divide(Decimal(-exponent.numerator), Decimal(exponent.denominator))
            curve = Fraction(quotient.exp(context)) * self.peak
            error = curve / 10 ** (context.prec - _DIGITS_LOST)
            least = bottom + Fraction(height * draw, 1 << known)
            if least + Fraction(height, 1 << known) <= curve - error:
                return True
            if least >= curve + error:
                return False
            draw, known = draw << _WORD_BITS | next(more), known + _WORD_BITS


@lru_cache(maxsize=16)
def layers_for(variance: float) -> Layers:
    """The layers for a variance from 1/4 to 2^80, computed in a few milliseconds and kept. Raises UsageError for another variance."""
    shift, cells = base_of(variance)
    scale = 1 << shift
    # With the highest peak nothing would be rejected; of 1024 peaks below it the search takes about the highest that 256 layers reach.
    highest = LAYERS * CHOICES * scale / math.sqrt(2.0 * math.pi * variance)
    low, high = 0, _PEAKS
    best: tuple[int, ...] = ()
    while high - low > 1:
        middle = (low + high) // 2
        found = _cells_under(int(highest * middle / _PEAKS), variance, shift, cells)
        if found:
            low, best = middle, found
        else:
            high = middle
    return _layers(variance, shift, int(highest * low / _PEAKS), best)


def base_of(variance: float) -> tuple[int, int]:
    """The shift, and the cells of layer 0 on one side, zero's included. Raises UsageError for a variance that is not from 1/4 to 2^80."""
    if not LEAST_VARIANCE <= variance <= MOST_VARIANCE:  # phrased so that NaN is refused
        raise UsageError(
            f"discrete Gaussian noise of variance {variance}; use {LEAST_VARIANCE} to 2^80 steps squared"
        )
    reach = math.ceil(_REACH * math.sqrt(variance))
    shift = max(0, (reach // _MOST_CELLS).bit_length())
    half = (1 << shift) >> 1
    return shift, -(-(reach + half) >> shift)


def reach_of(shift: int, cells: int) -> int:
    """The smallest integer above zero that is not in `cells` cells on one side."""
    return (cells << shift) - ((1 << shift) >> 1)


def _cells_under(peak: int, variance: float, shift: int, cells: int) -> tuple[int, ...]:
    """The cells on one side of each layer for a curve of height `peak`; empty if the layers do not reach up to it."""
    found, top, half = [], 0, (1 << shift) >> 1
    for _ in range(LAYERS):
        found.append(cells)
        top += CHOICES // (2 * cells - 1)
        if top >= peak:
            cells = 1
        else:
            edge = math.sqrt(2.0 * variance * (math.log(peak / top) + _ALLOWANCE))
            cells = min(cells, math.ceil((edge + half) / (1 << shift)))
    return tuple(found) if top >= peak else ()


def _certain(peak: int, top: int, variance: float, shift: int) -> int:
    """The bound on |a_i c| for the cells that lie below the curve up to height `top`."""
    if top > peak:
        return 0
    half = (1 << shift) >> 1
    # At zero the curve is `peak` itself, so a cell of one integer is certain without any allowance.
    edge = math.sqrt(2.0 * variance * max(0.0, math.log(peak / top) - _ALLOWANCE))
    return (2 * math.floor((edge - half) / (1 << shift)) + 1) * (CHOICES // 2) if edge >= half else 0


def _layers(variance: float, shift: int, peak: int, cells: tuple[int, ...]) -> Layers:
    widths = [2 * count - 1 for count in cells]
    heights = [CHOICES // width for width in widths]
    tops = np.cumsum(heights)
    certain = [_certain(peak, int(top), variance, shift) for top in tops]
    arrays = [np.array(values, dtype=np.int64) for values in (widths, tops - heights, heights, certain)]
    for array in arrays:
        array.flags.writeable = False
    share = peak * math.sqrt(2.0 * math.pi * variance) / (LAYERS * CHOICES * (1 << shift))
    return Layers(variance, shift, peak, reach_of(shift, cells[0]), share, *arrays)
