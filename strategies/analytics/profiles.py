"""Which bin of a profile each value is in: one function for the reference that sites count, and for the windows that places count.

1. Bins come from the contract alone: equal parts of a number's unit values, and words. So counts of sites and of places can be compared cell by cell.
2. Every row is in exactly one bin of each feature, whatever its values are: none refuses, for a refusal would tell of a row. A row added or removed
   moves the counts by sqrt(features), L2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from strategies.analytics.panels import MISSING
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Columns, Feature, NumericFeature

Integers = npt.NDArray[np.int64]

OTHER: Final = "other"
_TRUTHS: Final = ("false", "true")


@dataclass(frozen=True, slots=True, eq=False)
class _Numbers:
    """How the values of k numbers become bins, as (k, 1) columns: `first` is where a number's bins begin, `top` how many it has before `MISSING`."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    span: npt.NDArray[np.float64]
    top: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]
    logarithmic: npt.NDArray[np.intp]

    @classmethod
    def of(cls, features: Sequence[NumericFeature], tops: Sequence[int], firsts: Sequence[int]) -> Self:
        def column(values: Sequence[float]) -> npt.NDArray[np.float64]:
            return np.array(values, dtype=np.float64).reshape(-1, 1)

        spans = [
            math.log1p(each.high - each.low) if each.transform == "log1p" else each.high - each.low
            for each in features
        ]
        return cls(
            low=column([each.low for each in features]),
            high=column([each.high for each in features]),
            span=column(spans),
            top=column(tops),
            first=column(firsts).astype(np.int64),
            logarithmic=np.flatnonzero([each.transform == "log1p" for each in features]),
        )

    def cells(self, values: npt.NDArray[np.float64]) -> Integers:
        """The cells of (k, n) values, k n of them."""
        scaled = np.clip(values, self.low, self.high)
        scaled -= self.low
        if len(self.logarithmic):
            scaled[self.logarithmic] = np.log1p(scaled[self.logarithmic])
        # Multiplied first: a bound that is a whole number stays in the bin above it.
        scaled *= self.top
        scaled /= self.span
        missing = np.isnan(scaled)
        np.minimum(scaled, self.top - 1.0, out=scaled)
        if missing.any():
            np.copyto(scaled, self.top, where=missing)
        cells = scaled.astype(np.int64)
        cells += self.first
        return cells.ravel()


@dataclass(frozen=True, slots=True)
class Profile:
    """`bins` of each number of `features`, of which those in `booleans` have two; make one with `Contract.profile`.

    The counts of all features are one vector, (dimension,), feature by feature in their order.
    """

    features: tuple[Feature, ...]
    bins: int
    booleans: frozenset[str] = frozenset()
    sizes: tuple[int, ...] = field(init=False)
    """How many bins each feature has, the last one (`MISSING` or "other") included."""
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _numbers: _Numbers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = tuple(map(self._size, self.features))
        firsts = (0, *np.cumsum(sizes).tolist())[:-1]
        numeric = [
            (each, size - 1, first)
            for each, size, first in zip(self.features, sizes, firsts, strict=True)
            if isinstance(each, NumericFeature)
        ]
        features, tops, places = zip(*numeric, strict=True) if numeric else ((), (), ())
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "_firsts", firsts)
        object.__setattr__(self, "_numbers", _Numbers.of(features, tops, places))

    @property
    def dimension(self) -> int:
        """Bins of all features."""
        return sum(self.sizes)

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the bins, by feature: a number's are spans of the contract's unit."""
        return {each.name: self._labels(each) for each in self.features}

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The k numbers, in order."""
        return tuple(each for each in self.features if isinstance(each, NumericFeature))

    @property
    def categories(self) -> tuple[CategoricalFeature, ...]:
        """The others, in order."""
        return tuple(each for each in self.features if isinstance(each, CategoricalFeature))

    def counts(self, columns: Columns) -> Integers:
        """Rows by bin, (dimension,) int64. Raises UsageError for a column that is absent or of another kind than its feature."""
        # What a contract refuses is no business of a count, so a missing value is let through and not read as unit values are.
        numbers = [each.values(columns) for each in self.numeric]
        codes = [np.bincount(each.codes(columns)).astype(np.int64) for each in self.categories]
        return self.counts_of(np.array(numbers), codes)

    def counts_of(self, numbers: npt.NDArray[np.float64], words: Sequence[Integers]) -> Integers:
        """The same of (k, n) numbers, NaN for missing, and for each category the rows by code: place in the vocabulary, or after it for "other"."""
        dimension = self.dimension
        found = (
            np.bincount(self._numbers.cells(numbers), minlength=dimension)
            if len(numbers)
            else np.zeros(dimension, dtype=np.int64)
        )
        places = (
            first
            for each, first in zip(self.features, self._firsts, strict=True)
            if isinstance(each, CategoricalFeature)
        )
        for first, counts in zip(places, words, strict=True):
            found[first : first + len(counts)] += counts
        return found.astype(np.int64, copy=False)

    def parts(self, counts: Integers) -> list[Integers]:
        """Counts of all features, (dimension,), as views of each one's. Raises UsageError for another length."""
        if len(counts) != self.dimension:
            raise UsageError(f"a profile has {len(counts)} counts; its features have {self.dimension} bins")
        return np.split(counts, self._firsts[1:])

    def by_feature(self, counts: Integers) -> Mapping[str, tuple[int, ...]]:
        """Counts of all features, (dimension,), by the name of each. Raises UsageError for another length."""
        return {
            each.name: tuple(part.tolist())
            for each, part in zip(self.features, self.parts(counts), strict=True)
        }

    def _size(self, feature: Feature) -> int:
        if isinstance(feature, CategoricalFeature):
            return len(feature.vocabulary) + 1
        return (len(_TRUTHS) if feature.name in self.booleans else self.bins) + 1

    def _labels(self, feature: Feature) -> tuple[str, ...]:
        if isinstance(feature, CategoricalFeature):
            return (*feature.vocabulary, OTHER)
        if feature.name in self.booleans:
            return (*_TRUTHS, MISSING)
        bounds = [f"{_value(feature, place / self.bins):.6g}" for place in range(self.bins + 1)]
        return (*map(" to ".join, pairwise(bounds)), MISSING)


def _value(feature: NumericFeature, unit: float) -> float:
    """What in the contract's unit has that unit value."""
    width = feature.high - feature.low
    if feature.transform == "log1p":
        return feature.low + math.expm1(unit * math.log1p(width))
    return feature.low + unit * width
