"""Whom a privacy figure protects, and from what: no epsilon stands alone.

1. A unit is what neighbouring data sets differ by: one record, all rows of one customer at one site, or all rows of one site.
2. Neighbours differ by adding or removing one unit.
3. A guarantee is for one unit at one site. A customer known to k sites is protected less (`Release.for_person_at`), unless the plan bounds k,
   and then its releases are charged for such a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from strategies.dp.facts import require_names, text
from strategies.errors import UsageError

MOST_ROWS: Final = 1 << 20
MOST_SITES: Final = 1000


class UnitKind(StrEnum):
    """What one unit is."""

    RECORD = "record"
    CUSTOMER = "customer"
    SITE = "site"


class Neighbours(StrEnum):
    """How neighbouring data sets differ."""

    ADD_OR_REMOVE_ONE = "add-or-remove-one"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyUnit:
    """A record; or the rows with one value of `column`, of which at most `max_rows` count, at up to `max_sites` sites; or a site.

    `max_rows` of a site is how many of its rows count in moments and evaluation. Raises UsageError for a combination that means nothing.
    """

    kind: UnitKind
    column: str | None = None
    max_rows: int = 1
    max_sites: int = 1

    def __post_init__(self) -> None:
        if (self.kind is UnitKind.CUSTOMER) != (self.column is not None):
            raise UsageError("a customer is told by a column, such as customer_id; other units have none")
        if not is_whole(self.max_rows, MOST_ROWS):
            raise UsageError(f"max_rows is {self.max_rows}; use 1 to {MOST_ROWS}")
        if self.kind is UnitKind.RECORD and self.max_rows != 1:
            raise UsageError("a record is one row; leave max_rows out")
        if not is_whole(self.max_sites, MOST_SITES):
            raise UsageError(f"max_sites is {self.max_sites}; use 1 to {MOST_SITES}")
        if self.kind is not UnitKind.CUSTOMER and self.max_sites != 1:
            raise UsageError(f"max_sites is for customers; a {self.kind} is at one site")

    @property
    def words(self) -> str:
        """The unit, for people."""
        if self.kind is not UnitKind.CUSTOMER:
            return str(self.kind)
        where = "at one site" if self.max_sites == 1 else f"at up to {self.max_sites} sites"
        return f"customer ({self.column}, up to {self.max_rows} rows, {where})"

    def facts(self) -> dict[str, Any]:
        """The unit as JSON values; `from_facts` reads it back."""
        return {
            "kind": str(self.kind),
            "column": self.column,
            "max_rows": self.max_rows,
            "max_sites": self.max_sites,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        """Read `facts()` back, whoever wrote them. Raises TypeError, ValueError or UsageError for what is no unit."""
        require_names(facts, cls)
        column = facts["column"]
        return cls(
            kind=UnitKind(facts["kind"]),
            column=None if column is None else text(column),
            max_rows=facts["max_rows"],
            max_sites=facts["max_sites"],
        )

    def is_same_person(self, other: PrivacyUnit) -> bool:
        """Whether a figure for `other` is about what this unit is about: the same kind, told by the same column."""
        return (self.kind, self.column) == (other.kind, other.column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """(`epsilon`, `delta`)-differential privacy for `unit`; `epsilon` is infinite where nothing is promised."""

    epsilon: float
    delta: float
    unit: PrivacyUnit
    neighbours: Neighbours = Neighbours.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if not self.epsilon >= 0.0:  # phrased so that NaN is refused
            raise UsageError(f"epsilon is {self.epsilon}; it is at least 0")
        require_delta(self.delta)

    @property
    def words(self) -> str:
        """The guarantee, for people: with unit and neighbours, as everywhere."""
        epsilon = "unbounded" if math.isinf(self.epsilon) else f"{self.epsilon:.3f}"
        return f"epsilon {epsilon} at delta {self.delta:g} per {self.unit.words} ({self.neighbours})"

    def facts(self) -> dict[str, float | str | None]:
        """The guarantee as JSON values, with all that it is about; an epsilon of null is unbounded, as its words say."""
        return {
            "words": self.words,
            "epsilon": None if math.isinf(self.epsilon) else self.epsilon,
            "delta": self.delta,
            "unit": self.unit.words,
            "neighbours": str(self.neighbours),
        }


def is_whole(value: object, most: int) -> bool:
    """Whether `value` is a whole number from 1 to `most`: no float, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def require_delta(delta: float) -> None:
    """Raise UsageError unless `delta` is above 0 and below 1."""
    if not 0.0 < delta < 1.0:  # phrased so that NaN is refused
        raise UsageError(f"delta is {delta}; use a number above 0 and below 1, such as 1e-6")
