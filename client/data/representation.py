"""How protected groups are represented in a site's rows: for the site's own people, exact, and sent nowhere.

What the federation learns of groups is what an evaluation counts with noise, where a plan that the site has agreed to asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from client.data.table import Table
from protos.contract import BooleanColumn, CategoryColumn, Contract
from protos.plan_panels import groups_of
from strategies.analytics.fairness import MOST_NOT_GIVEN
from strategies.analytics.groups import group_codes
from strategies.analytics.panels import NOT_GIVEN


@dataclass(frozen=True, slots=True)
class GroupRows:
    """`rows` of a group, and how many of these are of the positive class."""

    group: str
    rows: int
    positives: int

    @property
    def base_rate(self) -> float | None:
        """The share of the positive class; None where there are no rows."""
        return self.positives / self.rows if self.rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """The groups of one attribute, and what its reader must bear in mind; `minimum` is the fewest rows that a group should have."""

    attribute: str
    minimum: int
    groups: tuple[GroupRows, ...]

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(each.rows for each in self.groups)

    @property
    def cautions(self) -> tuple[str, ...]:
        """In sentences."""
        return tuple(self._cautions())

    def _cautions(self) -> Iterator[str]:
        for each in self.groups:
            if each.group == NOT_GIVEN:
                if each.rows > MOST_NOT_GIVEN * self.rows:
                    yield (
                        f"{self.attribute} is missing or no word of the contract in {each.rows} of {self.rows} rows: what is said of groups is about the"
                        " others only"
                    )
            elif each.rows < self.minimum:
                yield f"{each.group} has {each.rows} rows here, fewer than {self.minimum}: a model learns little of it, and its figures will be wide or hidden"

    def facts(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "rows": self.rows,
            "groups": [
                {
                    "group": each.group,
                    "rows": each.rows,
                    "positives": each.positives,
                    "base_rate": each.base_rate,
                    "small": each.group != NOT_GIVEN and each.rows < self.minimum,
                }
                for each in self.groups
            ],
            "cautions": list(self.cautions),
        }


def grouped_attributes(contract: Contract) -> tuple[str, ...]:
    """The protected attributes that have groups: categories and booleans."""
    return tuple(
        each
        for each in contract.protected or ()
        if isinstance(contract.columns.get(each), CategoryColumn | BooleanColumn)
    )


def representation(table: Table, contract: Contract, minimum: int) -> Mapping[str, Representation]:
    """By attribute, of a table that was read with its `grouped_attributes`."""
    return {
        name: _representation(table, groups_of(contract, name), name, minimum)
        for name in grouped_attributes(contract)
    }


def _representation(table: Table, groups: tuple[str, ...], name: str, minimum: int) -> Representation:
    codes = group_codes(table.protected[name], groups)
    rows = np.bincount(codes, minlength=len(groups))
    positives = np.bincount(codes, weights=table.target, minlength=len(groups))
    return Representation(
        attribute=name,
        minimum=minimum,
        groups=tuple(
            GroupRows(group, int(rows[place]), int(positives[place])) for place, group in enumerate(groups)
        ),
    )
