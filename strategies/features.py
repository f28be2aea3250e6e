"""From a site's columns to the numbers a model sees, by public rules alone.

1. Ranges, transforms and vocabularies come from the data contract: no rule is learnt from private rows.
2. Numeric values are clipped to their range and mapped to [0, 1] ("unit values") before any statistic is taken, so the
   influence of one row on a sum is bounded.
3. The federation's scaling (mean and spread of unit values) is the only thing applied on top.
4. A missing value either has its own indicator column or is refused; it is never guessed.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column of words, kept as numbers: `codes`, (n,) uint16; `code` i is vocabulary[i], and len(vocabulary) any other word, or none.

    Otherwise it is like an (n,) array of str, with None for what is in no vocabulary.
    """

    codes: npt.NDArray[np.uint16] = field(repr=False)
    vocabulary: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, chosen: Any) -> Any:  # noqa: ANN401 (as numpy's)
        taken = self.codes[chosen]
        return Coded(taken, self.vocabulary) if isinstance(taken, np.ndarray) else self._words[taken]

    def __iter__(self) -> Iterator[str | None]:
        return iter(np.asarray(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:  # noqa: ANN401, FBT001
        return np.asarray(self._words[self.codes], dtype=dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what it stands for."""
        return np.dtype(object)

    @property
    def ndim(self) -> int:
        """Of what it stands for."""
        return self.codes.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it stands for."""
        return self.codes.shape

    @property
    def _words(self) -> npt.NDArray[np.object_]:
        return np.array([*self.vocabulary, None], dtype=object)


Columns: TypeAlias = Mapping[str, npt.NDArray[Any] | Coded]
"""Column name to (n,) array: numbers with NaN for missing, or words (coded, or text with None or "" for missing)."""

STD_FLOOR: Final = 1e-6


@dataclass(frozen=True, slots=True)
class NumericFeature:
    """A number in [low, high] of the contract's unit; values outside are clipped."""

    name: str
    low: float
    high: float
    transform: Literal["none", "log1p"] = "none"
    missing: Literal["refuse", "indicator"] = "refuse"

    def __post_init__(self) -> None:
        if not (
            self.low < self.high and math.isfinite(self.high - self.low)
        ):  # phrased so that NaN is refused
            raise UsageError(
                f"the range of {self.name} is [{self.low}, {self.high}]; use two finite numbers, low first"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name, f"{self.name}:missing") if self.missing == "indicator" else (self.name,)

    def unit_values(self, columns: Columns) -> Vector:
        """The column clipped to the range, transformed and mapped to [0, 1]; (n,) float64, NaN for missing.

        Raises UsageError when the column is absent or not numeric, Refused when a value is missing and may not be.
        """
        values = self.values(columns)
        absent = int(np.count_nonzero(np.isnan(values)))
        if absent and self.missing == "refuse":
            raise Refused(f"column {self.name} has {absent} missing values; its contract refuses them")
        above = np.clip(values, self.low, self.high) - self.low
        if self.transform == "log1p":
            # numpy's log1p may differ from libm's in the last bit, and 1 is a promise that moments rely on.
            return np.minimum(np.log1p(above) / math.log1p(self.high - self.low), 1.0)
        return above / (self.high - self.low)

    def values(self, columns: Columns) -> Vector:
        """The column as it is, (n,) float64, NaN for missing. Raises UsageError when it is absent or not numeric."""
        column = _column(columns, self.name)
        if isinstance(column, Coded) or column.dtype.kind not in "fiub":
            raise UsageError(f"column {self.name} holds {column.dtype}; its contract says number")
        return column.astype(np.float64)


@dataclass(frozen=True, slots=True)
class CategoricalFeature:
    """One of a public vocabulary; anything else, missing values included, is "other"."""

    name: str
    vocabulary: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.vocabulary or "" in self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            raise UsageError(
                f"the vocabulary of {self.name} is {list(self.vocabulary)}; use one or more distinct, non-empty words"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (*(f"{self.name}={word}" for word in self.vocabulary), f"{self.name}:other")

    def one_hot(self, columns: Columns) -> npt.NDArray[np.float32]:
        """One 1 in each row, (n, vocabulary + 1) float32. Raises UsageError when the column is absent or not text."""
        codes = self.codes(columns)
        hot = np.zeros((len(codes), len(self.vocabulary) + 1), dtype=np.float32)
        hot[np.arange(len(codes)), codes] = 1.0
        return hot

    def codes(self, columns: Columns) -> npt.NDArray[np.intp]:
        """The place of each row's word, (n,): in the vocabulary, or after it for "other". Raises UsageError when the column is absent or not text."""
        column = _column(columns, self.name)
        if column.dtype.kind not in "OUT":
            raise UsageError(
                f"column {self.name} holds {column.dtype}; its contract says category, which is text"
            )
        if isinstance(column, Coded) and column.vocabulary == self.vocabulary:
            return column.codes.astype(np.intp)
        words = np.asarray(column)
        found = np.full(len(column), len(self.vocabulary), dtype=np.intp)
        for place, word in enumerate(self.vocabulary):
            found[words == word] = place
        return found


Feature: TypeAlias = NumericFeature | CategoricalFeature


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and standard deviation of each numeric feature, in unit values; deviations below 1e-6 become 1e-6."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise UsageError(
                f"the scaling has {len(self.mean)} means and {len(self.std)} deviations; use one each"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or any(value < 0.0 for value in self.std):
            raise UsageError("the scaling holds a value that is not finite, or a negative deviation")
        # The floor is part of the type, so that training, export and scoring cannot disagree on a constant column.
        object.__setattr__(self, "std", tuple(max(value, STD_FLOOR) for value in self.std))

    @classmethod
    def identity(cls, k: int) -> Self:
        """Leaves the unit values of `k` numeric features as they are."""
        return cls(mean=(0.0,) * k, std=(1.0,) * k)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The features of a model, in the order of its inputs."""

    features: tuple[Feature, ...]
    columns: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """Names of the `width` encoded columns: `age`, `age:missing`, `term=long`, `term:other`."""

    def __post_init__(self) -> None:
        if not self.features:
            raise UsageError("the list of features is empty; name at least one")
        object.__setattr__(self, "columns", tuple(name for each in self.features for name in each.columns))
        seen: set[str] = set()
        for name in self.columns:
            if name in seen:
                raise UsageError(f"the features yield the column {name!r} twice; name each feature once")
            seen.add(name)

    @property
    def width(self) -> int:
        """Number of encoded columns: the inputs of the model."""
        return len(self.columns)

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The k numeric features, in order."""
        return tuple(feature for feature in self.features if isinstance(feature, NumericFeature))

    def unit_values(self, columns: Columns) -> Vector:
        """The numeric features in [0, 1], (n, k) float64, NaN where an indicator says missing.

        Raises as `NumericFeature.unit_values` does, and UsageError when columns differ in length.
        """
        units = np.empty((self._rows(columns), len(self.numeric)))
        for place, feature in enumerate(self.numeric):
            units[:, place] = feature.unit_values(columns)
        return units

    def encode(self, columns: Columns, scaling: Scaling) -> npt.NDArray[np.float32]:
        """The rows as the model sees them, (n, width) float32, computed in float64 and rounded once.

        Numeric features become (unit - mean) / std, 0 where missing, followed by their indicator if they have one.
        Raises as `unit_values` does, and UsageError when `scaling` is for another number of features.
        """
        if len(scaling.mean) != len(self.numeric):
            raise UsageError(
                f"the scaling is for {len(scaling.mean)} numeric features; this model has {len(self.numeric)}"
            )
        rows = self._rows(columns)
        blocks = tuple(self._blocks(columns, scaling))
        return np.concatenate(blocks, axis=1, dtype=np.float32).reshape(rows, self.width)

    def _blocks(self, columns: Columns, scaling: Scaling) -> Iterator[npt.NDArray[np.float32]]:
        """Each feature's encoded columns, (n, columns of the feature) float32."""
        moments = iter(zip(scaling.mean, scaling.std, strict=True))
        for feature in self.features:
            match feature:
                case NumericFeature():
                    mean, std = next(moments)
                    units = feature.unit_values(columns)
                    absent = np.isnan(units)
                    scaled = np.where(absent, 0.0, (units - mean) / std)
                    yield np.column_stack((scaled, absent)[: len(feature.columns)]).astype(np.float32)
                case CategoricalFeature():
                    yield feature.one_hot(columns)

    def _rows(self, columns: Columns) -> int:
        """The common length of the columns that this spec reads."""
        lengths = {feature.name: len(_column(columns, feature.name)) for feature in self.features}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"the columns differ in length: {lengths}")
        return next(iter(lengths.values()))


def _column(columns: Columns, name: str) -> npt.NDArray[Any] | Coded:
    """The column `name`, (n,). Raises UsageError with the nearest name when it is absent."""
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise UsageError(f"column {name} is missing from the table{hint}")
    column = columns[name]
    if column.ndim != 1:
        raise UsageError(f"column {name} has shape {column.shape}; a column is one-dimensional")
    return column
