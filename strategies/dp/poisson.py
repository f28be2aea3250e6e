"""Poisson sampling with secure bits: each unit is taken independently, with the same probability, which is never more than the rate."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from strategies.errors import UsageError
from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed


def sampled(rate: float, size: int, seed: MaskSeed) -> npt.NDArray[np.bool_]:
    """Which of `size` units are taken, (size,) bool; a pure function of `seed`, which serves one sample only.

    A unit is taken if its 64-bit word of the AES-256-CTR stream is below floor(rate x 2^64). Raises UsageError outside (0, 1], for NaN too.
    """
    if not 0.0 < rate <= 1.0:
        raise UsageError(f"the sampling rate is {rate}; use a number above 0 and at most 1")
    if rate == 1.0:
        return np.ones(size, dtype=np.bool_)
    words = Ring(64).zeros(size)
    add_mask(Ring(64), words, seed)
    return np.asarray(words < np.uint64(math.floor(rate * 2**64)))
