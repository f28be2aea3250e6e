"""The data contract: what a column means at every site, agreed before anybody looks at a row.

1. Ranges, units and vocabularies are public constants; nothing here is learnt from data.
2. The key identifies a record and the target is what is predicted; neither is ever a feature. A `customer` column, if there is one, says
   whose record it is, and may be neither. A protected attribute and a date are never features either.
3. `Contract.ref`, `name@version`, is what plans and sites pin; a changed contract takes a new version.
4. What may be left out stands for the rule that older contracts had, and leaves their digests as they were.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, Document, FieldError, Part
from protos.names import ColumnName, Name, Word, distinct
from protos.quantities import Duration
from strategies.analytics.profiles import Profile
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Feature, FeatureSpec, NumericFeature

_SHORTEST_REASON: Final = 3
_LONGEST_REASON: Final = 200


def _on_one_line(text: str) -> str:
    if not _SHORTEST_REASON <= len(text) <= _LONGEST_REASON or not text.isprintable() or text != text.strip():
        raise ValueError(f"use {_SHORTEST_REASON} to {_LONGEST_REASON} printable characters on one line")
    return text


Reason = Annotated[str, AfterValidator(_on_one_line)]
"""What an applicant is told when this column counts most against them, in the bank's own words: `Income too low for the amount asked for`."""


def _distinct_or_none(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else distinct(names)


class NumberColumn(Part):
    """A number in `unit`; values outside `range` are clipped to it, or refused where `outside` says so. An integer has no fraction."""

    type: Literal["number", "integer"]
    unit: Word
    range: tuple[float, float]
    transform: Literal["none", "log1p"] = "none"
    missing: Literal["refuse", "indicator"] = "refuse"
    outside: Literal["clip", "refuse"] | None = None
    reason: Reason | None = None

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


class BooleanColumn(Part):
    """True or false; for a model, 1 or 0."""

    type: Literal["boolean"]
    missing: Literal["refuse", "indicator"] = "refuse"
    reason: Reason | None = None

    def feature(self, name: str) -> NumericFeature:
        """This column as an input of a model."""
        return NumericFeature(name=name, low=0.0, high=1.0, missing=self.missing)


class CategoryColumn(Part):
    """One of a closed list of words; another word (`unknown`) or none (`missing`) counts as "other", or is refused."""

    type: Literal["category"]
    vocabulary: Annotated[tuple[Word, ...], Field(min_length=1, max_length=1000), AfterValidator(distinct)]
    unknown: Literal["other", "refuse"] | None = None
    missing: Literal["other", "refuse"] | None = None
    reason: Reason | None = None

    def feature(self, name: str) -> CategoricalFeature:
        """This column as an input of a model."""
        return CategoricalFeature(name=name, vocabulary=self.vocabulary)


class DateColumn(Part):
    """A calendar date, for freshness and never for a model. One in the future is refused unless `future` allows it."""

    type: Literal["date"]
    missing: Literal["refuse", "allow"] = "refuse"
    future: Literal["refuse", "allow"] = "refuse"


Column: TypeAlias = NumberColumn | BooleanColumn | CategoryColumn | DateColumn


class Freshness(Part):
    """The newest date in `column` is at most `newest_within` old."""

    column: ColumnName
    newest_within: Duration


class Target(Part):
    """The column that is predicted; every row holds one of its two words."""

    column: ColumnName
    positive: Word
    negative: Word
    definition: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """What makes a record positive, and as of when, in words that every site reads the same way."""

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.positive == self.negative:
            raise FieldError(
                "negative", f"{self.negative!r} is the positive class too; the classes must differ"
            )
        return self


class Contract(Document):
    """Columns, key and target of a population."""

    # As `Document` keeps its canonical form: each round asks several times for the encoding of one plan's features.
    __slots__ = ("_encoded",)

    covenant: Literal["contract/v1"]
    name: Name
    version: Annotated[int, Field(ge=1, lt=10**9)]
    key: ColumnName
    customer: ColumnName | None = None
    target: Target
    columns: Annotated[
        Mapping[ColumnName, Annotated[Column, Field(discriminator="type")]],
        Field(min_length=1, max_length=2000),
        *FROZEN,
    ]
    protected: Annotated[
        tuple[ColumnName, ...] | None, Field(min_length=1, max_length=100), AfterValidator(_distinct_or_none)
    ] = None
    """Attributes that no plan may take as a feature, whatever a site's policy says."""
    freshness: Freshness | None = None
    minimum_rows: Annotated[int, Field(ge=1, lt=10**12)] | None = None

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

    @model_validator(mode="after")
    def _rules_name_columns(self) -> Self:
        for name in self.protected or ():
            if name not in self.columns:
                raise FieldError("protected", f"{name} is not a column{_nearest(name, self.columns)}")
        if self.freshness is None:
            return self
        name = self.freshness.column
        if not isinstance(self.columns.get(name), DateColumn):
            dates = [each for each, column in self.columns.items() if isinstance(column, DateColumn)]
            raise FieldError(
                "freshness",
                f"{name} is not a column of type date{_nearest(name, dates) if dates else '; add one to columns'}",
            )
        return self

    @property
    def ref(self) -> str:
        """How plans and sites name this contract: `lending-club@1`."""
        return f"{self.name}@{self.version}"

    def feature_spec(self, features: Sequence[str]) -> FeatureSpec:
        """The encoding of `features`, in their order; UsageError for one that is unknown, the key or the target."""
        asked = tuple(features)
        made: tuple[tuple[str, ...], FeatureSpec] | None = getattr(self, "_encoded", None)
        if made is None or made[0] != asked:
            made = asked, FeatureSpec(features=tuple(self._feature(name) for name in asked))
            object.__setattr__(self, "_encoded", made)
        return made[1]

    def profile(self, features: Sequence[str], bins: int) -> Profile:
        """The bins in which the rows of a population are counted by each of `features`. Raises UsageError as `feature_spec`."""
        spec = self.feature_spec(features)
        booleans = (name for name in features if isinstance(self.columns[name], BooleanColumn))
        return Profile(features=spec.features, bins=bins, booleans=frozenset(booleans))

    def _feature(self, name: str) -> Feature:
        if name == self.key:
            raise UsageError(f"{name} is the key of {self.ref}; a key is never a feature, remove it")
        if name == self.target.column:
            raise UsageError(f"{name} is the target of {self.ref}; the target is never a feature, remove it")
        if name not in self.columns:
            raise UsageError(f"{self.ref} has no column {name!r}{_nearest(name, self.columns)}")
        if name in (self.protected or ()):
            raise UsageError(
                f"{name} is a protected attribute of {self.ref}; no plan takes it as a feature, remove it"
            )
        column = self.columns[name]
        if isinstance(column, DateColumn):
            raise UsageError(f"{name} is a date in {self.ref}; a date is never a feature, remove it")
        return column.feature(name)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(known)[:10])}"
