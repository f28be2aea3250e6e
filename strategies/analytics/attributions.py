"""Sums of clipped attributions, in integers: what of explanations may leave a site.

1. A row's attribution is its absolute and its signed contributions by feature, 2 k numbers, divided by the plan's `clip` and shortened to an L2 norm of 1.
2. It is a function of that row alone, to the bit: contributions by row (`contributions(by_row=True)`), and norms that are added feature by feature.
   Otherwise one row could move what another one's is rounded to, and no sensitivity would hold.
3. Rounding is toward zero, in steps of 1/256, which lengthens nothing. A row whose contributions are not finite, or too large to have a norm, adds nothing.

Why a row's integers have a norm of at most 256: shortened, its numbers have a norm of at most (1 - 2^-40)(1 + e) with e < 2^-41 for what float64 errs by
in a sum of up to 2,000 squares, a root, a quotient and a product; so 256 times that is below 256, and each integer is no longer than its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.analytics.contributions import contributions, reference_of
from strategies.dp.evaluation_cells import ATTRIBUTION_STEPS
from strategies.encoding import Vector
from strategies.features import FeatureSpec
from strategies.models import DenseModel, Parameters

Integers = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float64]

_BELOW_ONE: Final = 1.0 - 2.0**-40
_AT_A_TIME: Final = 1 << 22
"""Numbers that a layer's values at all pieces of the lines of some rows may take."""


class Attributions:
    """Attributions of `model` at `vector`, (d,), over `features`; `pieces` bounds the linear pieces of a line through it."""

    def __init__(
        self, model: DenseModel, vector: Vector, features: FeatureSpec, *, clip: float, pieces: int
    ) -> None:
        # A model that is not finite is public, so that nothing is told by what is done then: every row adds nothing.
        finite = bool(np.isfinite(vector).all())
        self._layers: Sequence[Parameters] = model.split(vector if finite else np.zeros_like(vector))
        self._features, self._clip = features, clip
        self._reference = reference_of(features)
        self._lengths = [len(each.columns) for each in features.features]
        self._most = max(1, _AT_A_TIME // (pieces * max(model.inputs, *model.hidden, 1)))

    def sums(self, encoded: npt.NDArray[np.float32], parts: Integers, count: int) -> Integers:
        """Sums over rows `encoded`, (n, width), of each part: (count, 2, k) in 1/256, absolute and then signed. `parts`, (n,), is each row's."""
        total = np.zeros((count, 2, len(self._lengths)), dtype=np.int64)
        for first in range(0, len(encoded), self._most):
            some = slice(first, first + self._most)
            steps, part = self.steps(encoded[some]), parts[some]
            for place in range(count):
                total[place] += steps[:, :, part == place].sum(axis=2)
        return total

    def steps(self, encoded: npt.NDArray[np.float32]) -> Integers:
        """Each row's attribution, (2, k, n) in 1/256."""
        # Absurd values overflow, and rows without contributions have no norm to divide by: both are provided for.
        with np.errstate(all="ignore"):
            by_column = contributions(self._layers, encoded, self._reference, by_row=True).T / self._clip
            signed = self._by_feature(by_column)
            squares = np.zeros(signed.shape[1])
            for each in signed:
                squares += each * each
            norm = np.sqrt(2.0 * squares)
            shortened = signed * np.minimum(1.0, _BELOW_ONE / norm)
            signed = np.where(np.isfinite(norm), shortened, 0.0)
            steps = np.trunc(signed * ATTRIBUTION_STEPS).astype(np.int64)
        return np.stack((np.abs(steps), steps))

    def _by_feature(self, by_column: Rows) -> Rows:
        """Sums over each feature's encoded columns, (k, n), added one column after the other."""
        sums, first = np.zeros((len(self._lengths), by_column.shape[1])), 0
        for place, length in enumerate(self._lengths):
            for column in by_column[first : first + length]:
                sums[place] += column
            first += length
        return sums
