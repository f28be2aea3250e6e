"""The data contract: what a column means at every site, agreed before anybody looks at a row.

1. Ranges, units and vocabularies are public constants; nothing here is learnt from data.
2. The key identifies a record and the target is what is predicted; neither is ever a feature. A `customer` column, if there is one, says
   whose record it is, and may be neither.
3. `Contract.ref`, `name@version`, is what plans and sites pin; a changed contract takes a new version.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, Document, FieldError, Part
from protos.names import ColumnName, Name, Word, distinct
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Feature, FeatureSpec, NumericFeature


class NumberColumn(Part):
    """A number in `unit`; values outside `range` are clipped to it."""

    type: Literal["number"]
    unit: Word
    range: tuple[float, float]
    transform: Literal["none", "log1p"] = "none"
    missing: Literal["refuse", "indicator"] = "refuse"

    @model_validator(mode="after")
    def _range_is_open(self) -> Self:
        low, high = self.range
        if not low < high or high - low == float("inf"):
            raise FieldError("range", f"[{low}, {high}] leaves no room; use two finite numbers, low first")
        return self

    def feature(self, name: str) -> NumericFeature:
        """This column as an input of a model."""
        low, high = self.range
        return NumericFeature(name=name, low=low, high=high, transform=self.transform, missing=self.missing)


class CategoryColumn(Part):
    """One of a closed list of words; anything else, or nothing, counts as "other"."""

    type: Literal["category"]
    vocabulary: Annotated[tuple[Word, ...], Field(min_length=1, max_length=1000), AfterValidator(distinct)]

    def feature(self, name: str) -> CategoricalFeature:
        """This column as an input of a model."""
        return CategoricalFeature(name=name, vocabulary=self.vocabulary)


class Target(Part):
    """The column that is predicted; every row holds one of its two words."""

    column: ColumnName
    positive: Word
    negative: Word

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.positive == self.negative:
            raise FieldError(
                "negative", f"{self.negative!r} is the positive class too; the classes must differ"
            )
        return self


class Contract(Document):
    """Columns, key and target of a population."""

    covenant: Literal["contract/v1"]
    name: Name
    version: Annotated[int, Field(ge=1, lt=10**9)]
    key: ColumnName
    customer: ColumnName | None = None
    target: Target
    columns: Annotated[
        Mapping[ColumnName, Annotated[NumberColumn | CategoryColumn, Field(discriminator="type")]],
        Field(min_length=1, max_length=2000),
        *FROZEN,
    ]

    @model_validator(mode="after")
    def _roles_are_apart(self) -> Self:
        if self.key == self.target.column:
            raise FieldError(
                "key", f"{self.key} is the target too; a record is not identified by its outcome"
            )
        if self.customer in {self.key, self.target.column}:
            raise FieldError(
                "customer",
                f"{self.customer} is the key or the target; name the column that tells customers apart",
            )
        for role, name in (("key", self.key), ("customer", self.customer), ("target", self.target.column)):
            if name in self.columns:
                raise FieldError("columns", f"{name} is the {role} and cannot be a column too; remove it")
        return self

    @property
    def ref(self) -> str:
        """How plans and sites name this contract: `lending-club@1`."""
        return f"{self.name}@{self.version}"

    def feature_spec(self, features: Sequence[str]) -> FeatureSpec:
        """The encoding of `features`, in their order; UsageError for one that is unknown, the key or the target."""
        return FeatureSpec(features=tuple(self._feature(name) for name in features))

    def _feature(self, name: str) -> Feature:
        if name == self.key:
            raise UsageError(f"{name} is the key of {self.ref}; a key is never a feature, remove it")
        if name == self.target.column:
            raise UsageError(f"{name} is the target of {self.ref}; the target is never a feature, remove it")
        if name not in self.columns:
            raise UsageError(f"{self.ref} has no column {name!r}{_nearest(name, self.columns)}")
        return self.columns[name].feature(name)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(known)[:10])}"
