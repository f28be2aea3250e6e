"""The randomised Hadamard rotation: it spreads a vector evenly over its coordinates, so that a narrower ring holds the sum.

1. Signs follow from a public seed, the same at every site: the rotation of a sum is the sum of rotations.
2. The transform is exact on integers (sums and differences only); dividing by the square root of its length makes it orthonormal.

Kairouz, Liu, Steinke 2021, section 4.3; Ailon and Chazelle 2006.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from strategies.secagg.masks import uniform_draws
from strategies.secagg.secrets import MaskSeed

T = TypeVar("T", bound=np.generic)


def padded(dimension: int) -> int:
    """The length of a rotated vector: the smallest power of two that holds `dimension` coordinates."""
    return 1 << max(0, dimension - 1).bit_length()


def signs(seed: MaskSeed, length: int) -> npt.NDArray[np.int64]:
    """(length,) of -1 and 1, a public function of `seed`."""
    return 1 - 2 * (uniform_draws(seed, length) & 1).astype(np.int64)


def hadamard(vector: npt.NDArray[T]) -> npt.NDArray[T]:
    """The Walsh-Hadamard transform of (D,) with D a power of two, not normalised: applied twice it multiplies by D."""
    values: npt.NDArray[Any] = vector.copy()
    half = 1
    while half < len(values):
        pairs = values.reshape(-1, 2, half)
        values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).reshape(-1)
        half *= 2
    return values
