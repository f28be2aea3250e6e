"""A site's rows in four parts: to train, to tune, to decide whether anything is offered, and held out for the last word.

1. What the plan holds out for evaluation is held out here. The other parts are drawn by hashes under the plan's salt, so a row stays in its part.
2. Where the contract has a customer column, a customer's rows are in one part. Rows that may train, of a customer with a held-out row, are left aside.
3. More rows than the site admits are thinned by another hash, before they are encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from client.shared_models import SharedModel
from client.training.holdout import held_out_rows
from protos.plan_training import ClassWeights
from strategies.encoding import Vector, digest_of
from strategies.errors import Refused
from strategies.ids import Digest
from strategies.sampling import held_out

GATE_SHARE: Final = 0.2
TUNE_SHARE: Final = 0.25
"""Of what the gate leaves: a fifth of all that may train."""
FEWEST: Final = 25
"""Of each class, units in a part: below that an interval says more about chance than about a model."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Encoded rows of one part: `x` (n, width) float32, `y` (n,) 0 or 1, `unit` (n,) from 0, and what each counts in the plan's loss."""

    name: str
    x: npt.NDArray[np.float32]
    y: Vector
    unit: npt.NDArray[np.int64]
    importance: Vector

    def __len__(self) -> int:
        return len(self.y)

    @property
    def units(self) -> int:
        """How many customers, or rows where there are no customers."""
        return int(self.unit.max()) + 1 if len(self.unit) else 0

    @property
    def fewest(self) -> int:
        """Units with a row of the rarer class."""
        return min(len(np.unique(self.unit[self.y == label])) for label in (0.0, 1.0))

    def require_enough(self) -> None:
        """Raise Refused where this part is too small to tell one model from another."""
        if self.fewest < FEWEST:
            raise Refused(
                f"the {self.name} part has {len(self)} rows, with {self.fewest} of the rarer class; at least {FEWEST} of each are needed to tell one model"
                " from another. Nothing can be said, and the shared model stays what it is"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All four, and how many rows were left `aside` because their customer has a held-out one."""

    train: Rows
    tune: Rows
    gate: Rows
    held_out: Rows
    aside: int

    def counts(self) -> dict[str, int]:
        """Rows by part."""
        parts = (self.train, self.tune, self.gate, self.held_out)
        return {**{each.name: len(each) for each in parts}, "aside": self.aside}


def divide(table: Table, shared: SharedModel, *, most_rows: int) -> Parts:
    """Divide `table` for a personal model of `shared`; about `most_rows` of it at most. Raises as `FeatureSpec.encode` does."""
    thinned = _thinned(table, shared, most_rows)
    units = _units(thinned)
    out = held_out_rows(shared.plan, shared.contract, thinned)
    salt = shared.plan.evaluation.holdout.salt
    aside = ~out & np.isin(units, np.unique(units[out]))
    names = [str(each) for each in units]
    gate = ~out & ~aside & held_out(names, f"{salt}/personal/gate", GATE_SHARE)
    tune = ~out & ~aside & ~gate & held_out(names, f"{salt}/personal/tune", TUNE_SHARE)
    train = ~(out | aside | gate | tune)

    def part(name: str, chosen: Flags) -> Rows:
        return _rows(name, thinned.rows(chosen), units[chosen], shared)

    return Parts(
        train=part("train", train),
        tune=part("tune", tune),
        gate=part("gate", gate),
        held_out=part("held-out", out),
        aside=int(aside.sum()),
    )


def holdout_digest(shared: SharedModel, population: str) -> Digest:
    """What names a hold-out of this site: the same rows are held out of every plan that has this contract, column, salt and share."""
    rule = shared.plan.evaluation.holdout
    return digest_of([population, rule.by, rule.salt, rule.share])


def _thinned(table: Table, shared: SharedModel, most_rows: int) -> Table:
    n = len(table.keys)
    if n <= most_rows:
        return table
    salt = shared.plan.evaluation.holdout.salt
    names = [str(each) for each in _units(table)]
    return table.rows(held_out(names, f"{salt}/personal/rows", most_rows / n))


def _units(table: Table) -> npt.NDArray[np.str_]:
    """Whose row each is: a customer, or itself."""
    return np.array(table.keys if table.customers is None else table.customers, dtype=np.str_)


def _rows(name: str, table: Table, units: npt.NDArray[np.str_], shared: SharedModel) -> Rows:
    weights = shared.plan.training.class_weights
    return Rows(
        name=name,
        x=shared.features.encode(table.columns, shared.scaling),
        y=table.target,
        unit=np.unique(units, return_inverse=True)[1].astype(np.int64),
        importance=importance(table.target, weights),
    )


def importance(y: Vector, weights: ClassWeights) -> Vector:
    """What each row counts in the plan's loss."""
    return np.where(y > 0.5, weights.positive, weights.negative)  # noqa: PLR2004
