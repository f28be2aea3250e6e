"""Discrete Gaussian noise from cryptographically secure bits, many samples at a time, of a law that is exact but for a bounded tail.

1. The law is N_Z(0, variance): P(x) is proportional to exp(-x^2 / (2 variance)) on the integers, the variance being the very rational that
   the float is (Canonne, Kamath and Steinke 2020). Samples are integers throughout, so no gap between floats can betray a value.
2. Given ideal bits, samples are independent and each has that law but for a tail that is never drawn (`gaussian_layers`, `total_variation`).
3. Floating point only proposes. Where a decision in float64 is closer than an error far above its own, integers and fresh bits decide.
4. Bits are AES-256-CTR keystream under the seed: noise that nobody without it tells from ideal bits' unless they tell AES from random. No
   two decisions share a bit: a proposal, its comparison and what refines that each have their own.
5. A seed is for one vector: two vectors under one seed have noise of one pattern, which their difference removes.

The time taken depends on the samples: who can time this at the site's own machine, to the nanosecond, is not defended against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.dp.gaussian_layers import CHOICES, LAYERS, Integers, base_of, layers_for, reach_of
from strategies.errors import UsageError
from strategies.secagg.keystream import Keystream
from strategies.secagg.secrets import Secret

MOST_SIZE: Final = 1 << 40

_WORD: Final = np.dtype("<u8")
_SIGNED_WORD: Final = np.dtype("<i8")
# Of a word the lowest 8 bits choose the layer, those up to the 32nd the place in a cell, and the highest 32 the cell.
_LAYER_BITS: Final = 8
_CHOICE_BITS: Final = 32
_DRAW_BITS: Final = 53
_DOUBT: Final = 2.0**-24
"""A comparison in float64 counts if the sides differ by more than this share of the peak; about one sample in a million does not.

It would take an exponential that is wrong in the 24th bit to go amiss: the exponent, below 128, is rounded by less than 2^-44, the rest
of the arithmetic by less than 2^-50, and `exp` of NumPy is meant to be right to four units in the last place, 2^-50.
"""
# Lanes of the keystream; each refinement has one of its own, from the last on.
_PROPOSALS: Final = 0
_COMPARISONS: Final = 1
_REFINEMENTS: Final = 2
_SPARE: Final = 16


class NoiseSeed(Secret):
    """Expands to the noise of one vector. Who has it can take the noise off again."""

    __slots__ = ()


def discrete_gaussian(variance: float, size: int, seed: NoiseSeed) -> Integers:
    """(size,) int64 independent samples of the discrete Gaussian of `variance`, from 1/4 to 2^80, around zero; none exceeds 15 x 2^40.

    A pure function of its arguments. `total_variation` bounds how far its law is from exact. Raises UsageError for a variance outside its
    bounds (a NaN too), or a size that is not from 0 to 2^40.
    """
    _require_size(size)
    sampler = _Sampler(variance, seed, size)
    samples = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        kept = sampler.proceed(size - filled)
        samples[filled : filled + len(kept)] = kept
        filled += len(kept)
    return samples


def total_variation(variance: float, size: int) -> float:
    """An upper bound on the total variation distance of `discrete_gaussian(variance, size, seed)`, given ideal bits, from the exact law.

    Write rho(x) = exp(-x^2 / (2 variance)), S for its sum over the integers and m for the least positive integer that is never drawn. Each
    sample has the exact law conditioned on a set A that holds every |x| < m, which is at distance P(not A) <= P(|X| >= m). Since
    (m + j)^2 >= m^2 + j^2, rho(m + j) <= rho(m) rho(j), so P(X >= m) <= rho(m) (rho(0) + rho(1) + ...) / S <= rho(m), and both tails
    together weigh at most 2 rho(m). Independent samples add up: size x 2 rho(m), below size x 2^-140 as m is at least 14 standard
    deviations. The result is rounded up. Raises UsageError as `discrete_gaussian` does.
    """
    _require_size(size)
    reach = float(reach_of(*base_of(variance)))
    rounding = 1.0 + 1e-9
    return size * 2.0 * math.exp(-reach * reach / (2.0 * variance)) * rounding


def _require_size(size: int) -> None:
    if not 0 <= size <= MOST_SIZE:
        raise UsageError(f"{size} samples of noise; use 0 to 2^40")


class _Sampler:
    """Proposes points below the layers and keeps those below the curve, in blocks that stay in the cache."""

    def __init__(self, variance: float, seed: NoiseSeed, size: int) -> None:
        self._layers = layers_for(variance)
        self._seed = seed
        self._proposals = Keystream(seed, _WORD, _PROPOSALS)
        self._comparisons = Keystream(seed, _WORD, _COMPARISONS)
        self._compared = 0
        block = min(self._proposals.most, self._proposals_for(size))
        self._scratch = tuple(np.empty(block, dtype=np.int64) for _ in range(4))

    def proceed(self, wanted: int) -> Integers:
        """At most `wanted` further samples, (k,) int64; k may be 0."""
        count = min(len(self._scratch[0]), self._proposals_for(wanted))
        words = self._proposals.take(count).view(_SIGNED_WORD)
        layer, width, point, bound = (part[:count] for part in self._scratch)
        np.bitwise_and(words, LAYERS - 1, out=layer)
        # Indices are below 256, so that "clip" changes nothing but that NumPy need not check them.
        np.take(self._layers.widths, layer, out=width, mode="clip")
        np.multiply(np.right_shift(words, _CHOICE_BITS, out=point), width, out=point)
        np.take(self._layers.certain, layer, out=bound, mode="clip")
        unsure = np.abs(point, out=width) >= bound
        point += CHOICES // 2
        # The remainder of no width exceeds the first: a choice above that is one of those that fall evenly on the cells.
        unsure |= np.bitwise_and(point, CHOICES - 1, out=width) < self._layers.widths[0]
        doubtful = np.flatnonzero(unsure)
        uneven = _uneven(point[doubtful], self._layers.widths[layer[doubtful]])
        values = self._values(point, words, bound)
        lost = uneven | self._above(layer[doubtful], values[doubtful])
        return np.delete(values, doubtful[lost])[:wanted]

    def _proposals_for(self, wanted: int) -> int:
        """About as many as give `wanted` samples."""
        return int(wanted / self._layers.acceptance) + _SPARE

    def _values(self, point: Integers, words: Integers, scratch: Integers) -> Integers:
        """The integers that points stand for: the cell, and the place within it. Overwrites `point`."""
        shift = self._layers.shift
        point >>= _CHOICE_BITS
        if shift:
            place = np.right_shift(words, _LAYER_BITS, out=scratch)
            place &= (1 << shift) - 1
            point <<= shift
            point += place
            point -= self._layers.half_cell
        return point

    def _above(self, layer: Integers, values: Integers) -> npt.NDArray[np.bool_]:
        """Whether points of these layers, (k,), at fresh heights within them, lie on or above the curve."""
        draws = self._comparisons.take(len(values)) >> (_WORD.itemsize * 8 - _DRAW_BITS)
        spread = values.astype(np.float64)
        curve = self._layers.peak * np.exp(spread * spread / (-2.0 * self._layers.variance))
        above = self._layers.bottoms[layer] + self._layers.heights[layer] * (draws * 2.0**-_DRAW_BITS) - curve
        result: npt.NDArray[np.bool_] = above >= 0.0
        for i in np.flatnonzero(~(np.abs(above) > _DOUBT * self._layers.peak)):
            more = _words(self._seed, _REFINEMENTS + self._compared + int(i))
            result[i] = not self._layers.holds(int(layer[i]), int(values[i]), int(draws[i]), _DRAW_BITS, more)
        self._compared += len(values)
        return result


def _uneven(point: Integers, width: Integers) -> npt.NDArray[np.bool_]:
    """Whether a choice is one of the 2^32 mod width left over when each cell has as many as any other (Lemire 2019)."""
    uneven: npt.NDArray[np.bool_] = (point & (CHOICES - 1)) < CHOICES % width
    return uneven


def _words(seed: NoiseSeed, lane: int) -> Iterator[int]:
    """The words of one lane, which is begun only if one is asked for."""
    stream = Keystream(seed, _WORD, lane)
    while True:
        yield int(stream.take(1)[0])
