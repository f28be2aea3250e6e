"""One site's part in a private run: bounded sums over its units, exact, before any noise (behaviour "tabular/2").

1. A unit is a row, all rows of one customer, or the site. What one unit adds is bounded before it is summed up, whatever its rows hold, so
   no row can be the reason for a refusal: values that are no numbers count as nothing.
2. The rows of a unit beyond the plan's bound do not count: in every run the same ones, first by a hash of their keys.
3. Which units a step takes is the site's secret, drawn anew for every attempt. Nothing here keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from client.training.pace import Pace, unhurried
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_privacy import Privacy
from protos.plan_releases import moment_cells
from protos.plan_training import GradientSums, PrivateSteps
from strategies.analytics.noisy import logit_counts
from strategies.dp.backpropagation import row_logits
from strategies.dp.clipping import clipped_sum
from strategies.dp.poisson import sampled
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.models import DenseModel
from strategies.sampling import held_out
from strategies.secagg.secrets import MaskSeed

COMPONENT: Final = "tabular/2"
"""The behaviour version of private training; another behaviour takes another name."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one part, each with the number of its unit, from 0 to `units` - 1."""

    table: Table
    unit: Integers
    units: int


class PrivateSession:
    """What a site computes for `plan` from `table`. A part without rows gives zeros.

    Raises UsageError when plan and contract do not fit this component, or dp-sgd is asked for where Opacus is not installed.
    """

    def __init__(self, plan: Plan, contract: Contract, table: Table, *, threads: int = 1) -> None:
        check_plan(plan, contract)
        rule, privacy = plan.training, plan.privacy
        if rule.component != COMPONENT or not isinstance(rule, GradientSums | PrivateSteps):
            raise UsageError(
                f"the plan asks for training component {rule.component!r} with {rule.algorithm}; this is {COMPONENT!r} with dp-fedsgd and dp-sgd"
            )
        if not isinstance(privacy, Privacy):
            raise UsageError(f"plan {plan.name} has privacy mode none; this component is for private plans")
        if isinstance(rule, PrivateSteps):
            # Raises UsageError where Opacus is missing: now, and not after a round has been charged.
            import client.training.local  # noqa: F401
        self._plan, self._rule, self._threads = plan, rule, threads
        self._spec = contract.feature_spec(plan.features)
        self._cells = moment_cells(plan, contract)
        unit, holdout = privacy.unit.unit, plan.evaluation.holdout
        told_by = _names(table, unit) if unit.kind is UnitKind.CUSTOMER else table.keys
        evaluating = held_out(told_by, holdout.salt, holdout.share)
        self._row_is_unit = unit.kind is UnitKind.RECORD  # by the plan, never by what rows happen to be there
        self._training = _bounded(table.rows(~evaluating), unit)
        self._evaluating = _bounded(table.rows(evaluating), unit)
        self._encoded: tuple[Scaling, npt.NDArray[np.float32]] | None = None

    @property
    def model(self) -> DenseModel:
        """The shape of the model that this session trains."""
        return self._plan.dense_model(self._spec.width)

    @property
    def rows(self) -> tuple[int, int]:
        """Number of training and of held-out rows that count. Stays at the site."""
        return len(self._training.table.keys), len(self._evaluating.table.keys)

    def moments(self) -> Integers:
        """Exact moments of the training rows (`MomentCells.sums`). Data-dependent, and to be released with noise only."""
        return self._cells.sums(self._spec.unit_values(self._training.table.columns))

    def gradient_sum(self, model: Vector, scaling: Scaling, seed: MaskSeed) -> Integers:
        """The clipped gradient sum over the units that `seed` takes, (d,) in 2^-FRACTION_BITS clipping norms. To be released with noise only."""
        rule, part = self._rule, self._training
        taken = sampled(rule.sampling_rate, part.units, seed)
        rows = np.flatnonzero(taken[part.unit]) if part.units else np.zeros(0, dtype=np.int64)
        return clipped_sum(
            self.model,
            model,
            self._inputs(scaling)[rows],
            part.table.target[rows],
            clip=rule.clip,
            weights=rule.class_weights,
            units=None if self._row_is_unit else part.unit[rows],
        )

    def evaluate(self, model: Vector, scaling: Scaling) -> Integers:
        """Counts of held-out scores, (2 bins,): negatives, then positives. To be released with noise only, or by exemption."""
        bins = self._plan.evaluation.score_bins
        counts = np.zeros(2 * bins, dtype=np.int64)
        for columns, target in self._evaluating.table.blocks():
            logits = row_logits(self.model, model, self._spec.encode(columns, scaling))
            counts += logit_counts(logits, target, bins).ravel()
        return counts

    def local_update(self, model: Vector, scaling: Scaling, seed: MaskSeed, pace: Pace = unhurried) -> Vector:
        """Local minus global after this round's noisy steps, (d,) float64 (`client.training.local`): may leave as it is."""
        from client.training.local import LocalRule, private_steps

        if not isinstance(self._rule, PrivateSteps) or not isinstance(self._plan.privacy, Privacy):
            raise UsageError(f"algorithm {self._rule.algorithm} takes no local steps")
        rule = LocalRule(training=self._rule, noise_multiplier=self._plan.privacy.noise.training)
        part = self._training
        return private_steps(
            rule,
            self.model,
            model,
            self._inputs(scaling),
            part.table.target,
            part.unit,
            part.units,
            seed=seed,
            threads=self._threads,
            pace=pace,
        )

    def _inputs(self, scaling: Scaling) -> npt.NDArray[np.float32]:
        """Encoded training rows, kept from round to round because a run has one scaling."""
        if self._encoded is None or self._encoded[0] != scaling:
            self._encoded = (scaling, self._spec.encode(self._training.table.columns, scaling))
        return self._encoded[1]


def _names(table: Table, unit: PrivacyUnit) -> Sequence[str]:
    """What tells the units of `table` apart."""
    match unit.kind:
        case UnitKind.RECORD:
            return table.keys
        case UnitKind.CUSTOMER:
            if table.customers is None:
                raise UsageError(
                    f"units are customers by {unit.column}, but the contract has no customer column"
                )
            return table.customers
        case UnitKind.SITE:
            return [""] * len(table.keys)


def _bounded(table: Table, unit: PrivacyUnit) -> _Rows:
    """The rows that count: at most `unit.max_rows` of each unit. A record is a row, also where two rows have one key."""
    if unit.kind is UnitKind.RECORD:
        return _Rows(table, np.arange(len(table.keys)), len(table.keys))
    names = _names(table, unit)
    order = sorted(range(len(names)), key=lambda row: (names[row], _rank(table.keys[row]), row))
    seen: dict[str, int] = {}
    counts = np.zeros(len(names), dtype=np.bool_)
    for row in order:
        seen[names[row]] = seen.get(names[row], 0) + 1
        counts[row] = seen[names[row]] <= unit.max_rows
    # Numbered by the names themselves: as NumPy's text, those that differ in trailing NULs would be one unit.
    number = {name: place for place, name in enumerate(seen)}
    places = np.array([number[names[row]] for row in np.flatnonzero(counts).tolist()], dtype=np.int64)
    return _Rows(table.rows(counts), places, len(number))


def _rank(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
