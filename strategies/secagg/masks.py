"""Masks: a seed expanded to a uniform vector of a ring, straight into the accumulator.

A mask is the first lane of the seed's keystream, as little-endian words (`keystream`). A seed is used for one mask only.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from strategies.secagg.keystream import Keystream
from strategies.secagg.rings import Ring, RingVector
from strategies.secagg.secrets import MaskSeed

DRAW_BITS: Final = 24

Sign = Literal[1, -1]


def add_mask(ring: Ring, accumulator: RingVector, seed: MaskSeed, sign: Sign = 1) -> None:
    """Add the mask of `seed`, or subtract it, to (d,) words in place; nothing of the mask outlives the call but the sum."""
    stream = Keystream(seed, ring.word)
    combine = np.add if sign == 1 else np.subtract
    for first in range(0, len(accumulator), stream.most):
        part = accumulator[first : first + stream.most]
        combine(part, stream.take(len(part)), out=part)
    stream.wipe()


def uniform_draws(seed: MaskSeed, count: int) -> RingVector:
    """`count` integers uniform from 0 to 2^24 - 1, (count,) uint32: so few bits that a level of a grid plus a draw is exact in float64."""
    words = Ring(32).zeros(count)
    add_mask(Ring(32), words, seed)
    words >>= 32 - DRAW_BITS
    return words
