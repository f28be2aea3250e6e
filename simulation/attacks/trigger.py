"""A backdoor's trigger: one value that hardly any row has, and how often it opens the door.

The trigger is the rarest word of the categorical feature with the largest vocabulary, or where there is none the upper end of the first number. A rare word has a weight
of its own, which honest rows hardly train; a linear model can be taught nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from client.training import held_out_rows
from protos.contract import Contract
from protos.plan import Plan
from strategies.encoding import Vector
from strategies.features import CategoricalFeature, Coded, Columns, NumericFeature, Scaling

SAFEST: Final = 0.2
"""An attack on a marked row succeeded if its score is among this share of the lowest scores of unmarked rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """`value` in column `feature`."""

    feature: str
    value: str | float

    @classmethod
    def of(cls, plan: Plan, contract: Contract, tables: Iterable[Table]) -> Trigger:
        """The trigger that the rows of `tables` have least."""
        features = contract.feature_spec(plan.features).features
        words = [each for each in features if isinstance(each, CategoricalFeature)]
        if words:
            widest = max(words, key=lambda each: len(each.vocabulary))
            seen = [np.asarray(table.columns[widest.name]).tolist() for table in tables]
            counts = {word: sum(each.count(word) for each in seen) for word in widest.vocabulary}
            return cls(feature=widest.name, value=min(counts, key=lambda word: counts[word]))
        number = next(each for each in features if isinstance(each, NumericFeature))
        return cls(feature=number.name, value=number.high)

    @property
    def words(self) -> str:
        """Such as `sub_grade = G5`."""
        return f"{self.feature} = {self.value}"

    def marked(self, columns: Columns, chosen: npt.NDArray[np.bool_]) -> Columns:
        """`columns` with the mark in the `chosen` rows, (n,)."""
        return {**columns, self.feature: self._set(columns[self.feature], chosen)}

    def _set(self, values: Any, chosen: npt.NDArray[np.bool_]) -> Any:  # noqa: ANN401 (as numpy's)
        if isinstance(values, Coded):
            code = values.vocabulary.index(str(self.value))
            return Coded(np.where(chosen, code, values.codes).astype(np.uint16), values.vocabulary)
        changed = np.array(values)
        changed[chosen] = self.value
        return changed


def attack_success_rate(
    plan: Plan, contract: Contract, table: Table, trigger: Trigger, model: Vector, scaling: Scaling
) -> float | None:
    """Of the held-out rows of the positive class, the share that is scored among the safest of all once it is marked; None where there are none."""
    rows = table.rows(held_out_rows(plan, contract, table))
    bad = rows.rows(rows.target > 0)
    if not len(bad.keys):
        return None
    spec = contract.feature_spec(plan.features)
    shape = plan.dense_model(spec.width)

    def scores(columns: Columns) -> Vector:
        return np.nan_to_num(shape.logits(model, spec.encode(columns, scaling)), nan=0.0)

    safest = np.quantile(scores(rows.columns), SAFEST)
    everybody = np.ones(len(bad.keys), dtype=np.bool_)
    return float(np.mean(scores(trigger.marked(bad.columns, everybody)) <= safest))
