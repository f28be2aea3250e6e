"""One site's part in a private run: bounded sums over its units, exact, before any noise (behaviour "tabular/2").

1. A unit is a row, all rows of one customer, or the site. What one unit adds is bounded before it is summed up, whatever its rows hold, so
   no row can be the reason for a refusal: values that are no numbers count as nothing.
2. The rows of a unit beyond the plan's bound do not count: in every run the same ones, first by a hash of their keys.
3. Which units a step takes is the site's secret, drawn anew for every attempt. Nothing here keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.data.table import BLOCK_ROWS, Integers, Part, Table, Texts, blocks, texts
from client.training.champion import Scorer
from client.training.encoded import Encoded
from client.training.holdout import held_out_rows
from client.training.pace import Pace, unhurried
from client.training.panels import Evaluated, importance
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
from strategies.ids import SiteName
from strategies.models import DenseModel, sigmoid
from strategies.secagg.secrets import MaskSeed

COMPONENT: Final = "tabular/2"
"""The behaviour version of private training; another behaviour takes another name."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one part, each with the number of its unit, from 0 to `units` - 1."""

    table: Part
    unit: Integers
    units: int


class PrivateSession:
    """What a site computes for `plan` from `table`. A part without rows gives zeros.

    Raises UsageError when plan and contract do not fit this component, or dp-sgd is asked for where Opacus is not installed.
    """

    def __init__(
        self,
        plan: Plan,
        contract: Contract,
        table: Table,
        *,
        site: SiteName | None = None,
        threads: int = 1,
    ) -> None:
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
        unit = privacy.unit.unit
        if unit.kind is UnitKind.CUSTOMER and table.customers is None:
            raise UsageError(f"units are customers by {unit.column}, but the contract has no customer column")
        evaluating = held_out_rows(plan, contract, table)
        self._row_is_unit = unit.kind is UnitKind.RECORD  # by the plan, never by what rows happen to be there
        self._training = _bounded(Part(table, np.flatnonzero(~evaluating)), unit)
        self._evaluating = _bounded(Part(table, np.flatnonzero(evaluating)), unit)
        self._evaluated = Evaluated(
            plan, contract, self._evaluating.table, partial(_unit_names, unit=unit), site
        )
        self._importance = importance(plan, contract, self._training.table)
        self._encoded: Encoded | None = None

    @property
    def model(self) -> DenseModel:
        """The shape of the model that this session trains."""
        return self._plan.dense_model(self._spec.width)

    @property
    def rows(self) -> tuple[int, int]:
        """Number of training and of held-out rows that count. Stays at the site."""
        return len(self._training.table), len(self._evaluating.table)

    def moments(self) -> Integers:
        """Exact moments of the training rows (`MomentCells.sums`). Data-dependent, and to be released with noise only."""
        part, names = self._training.table, [feature.name for feature in self._spec.features]
        sums = (self._cells.sums(self._spec.unit_values(part.at(rows, names))) for rows in blocks(len(part)))
        total: Integers = np.sum(
            list(sums), axis=0, dtype=np.int64
        )  # integers: exact, however they are added
        return total

    def gradient_sum(self, model: Vector, scaling: Scaling, seed: MaskSeed) -> Integers:
        """The clipped gradient sum over the units that `seed` takes, (d,) in 2^-FRACTION_BITS clipping norms. To be released with noise only."""
        rule, part = self._rule, self._training
        taken = sampled(rule.sampling_rate, part.units, seed)
        total = np.zeros(self.model.size, dtype=np.int64)
        inputs, target = self._inputs(scaling), part.table.target
        for rows in _whole_units(part.unit, taken):
            # Integers: exact, however they are added.
            total += clipped_sum(
                self.model,
                model,
                inputs[rows],
                target[rows],
                clip=rule.clip,
                weights=rule.class_weights,
                importance=None if self._importance is None else self._importance[rows],
                units=None if self._row_is_unit else part.unit[rows],
            )
        return total

    def evaluate(self, model: Vector, scaling: Scaling, champion: Scorer | None = None) -> Integers:
        """Counts of held-out scores, then those of a champion on the same rows, then the plan's panels: (dimension,) as `EvaluationCells` orders them.

        To be released with noise only, or by exemption.
        """
        scores = self.score_counts(model, scaling, champion)
        return self._evaluated.joined(scores, self._scorer(model, scaling), _scores)

    def score_counts(self, model: Vector, scaling: Scaling, champion: Scorer | None = None) -> Integers:
        """Counts of held-out scores alone, (2 bins,): negatives, then positives; then those of a champion, (4 bins,). As `evaluate`."""
        scorers = (self._scorer(model, scaling), champion)
        return np.concatenate([self._counts(each) for each in scorers if each is not None])

    def _scorer(self, model: Vector, scaling: Scaling) -> Scorer:
        return Scorer(features=self._spec, shape=self.model, weights=model, scaling=scaling)

    def _counts(self, scorer: Scorer) -> Integers:
        """One model's counts, (2 bins,): each row that counts is in one cell."""
        bins, part = self._plan.evaluation.score_bins, self._evaluating.table
        counts, target, first = np.zeros(2 * bins, dtype=np.int64), part.target, 0
        if not len(part):
            return counts
        for block in Encoded(scorer.features, part, scorer.scaling, most_kept=0).by_blocks():
            logits = row_logits(scorer.shape, scorer.weights, block)
            counts += logit_counts(logits, target[first : first + len(block)], bins).ravel()
            first += len(block)
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
            importance=self._importance,
            seed=seed,
            threads=self._threads,
            pace=pace,
        )

    def _inputs(self, scaling: Scaling) -> Encoded:
        """Training rows as the model sees them, kept from round to round because a run has one scaling."""
        if self._encoded is None or self._encoded.scaling != scaling:
            self._encoded = None  # first, so that two runs' rows are never there at once
            self._encoded = Encoded(self._spec, self._training.table, scaling)
        return self._encoded


def _whole_units(unit: Integers, taken: npt.NDArray[np.bool_]) -> Iterator[Integers]:
    """The rows of units that were taken, some units at a time, all rows of each: `BLOCK_ROWS` or a few more. None where nobody was."""
    rows = np.flatnonzero(taken[unit]) if len(taken) else np.zeros(0, dtype=np.int64)
    if len(rows) <= BLOCK_ROWS:
        yield rows
        return
    rows = rows[np.argsort(unit[rows], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(unit[rows])) + 1, len(rows))
    first = 0
    while first < len(rows):
        last = int(ends[np.searchsorted(ends, min(first + BLOCK_ROWS, len(rows)))])
        yield rows[first:last]
        first = last


def _scores(scorer: Scorer, encoded: npt.NDArray[np.float32]) -> Vector:
    """Probabilities of encoded rows, (n,)."""
    return sigmoid(row_logits(scorer.shape, scorer.weights, encoded))


def _unit_names(part: Part, unit: PrivacyUnit) -> Sequence[str]:
    """What tells the units of `part` apart; of a site, which is one, its rows."""
    return (part.customers or ()) if unit.kind is UnitKind.CUSTOMER else part.keys


def _bounded(part: Part, unit: PrivacyUnit) -> _Rows:
    """The rows that count: at most `unit.max_rows` of each unit. A record is a row, also where two rows have one key."""
    match unit.kind:
        case UnitKind.RECORD:
            return _Rows(part, np.arange(len(part)), len(part))
        case UnitKind.SITE:
            number, units = np.zeros(len(part), dtype=np.int64), min(len(part), 1)
        case UnitKind.CUSTOMER:
            number, units = _numbered(texts(part.customers or ()))
    counts = _first_of_each(number, part, unit.max_rows)
    return _Rows(part.some(counts), number[counts], units)


def _numbered(names: Texts) -> tuple[Integers, int]:
    """The number of each name among all names in order, (n,), and how many there are."""
    coded = names.arrow.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = pa.concat_arrays(coded.chunks)
    order = np.asarray(pc.sort_indices(coded.dictionary).to_numpy(), dtype=np.int64)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[np.asarray(coded.indices.to_numpy(), dtype=np.int64)], len(order)


def _first_of_each(number: Integers, part: Part, most: int) -> npt.NDArray[np.bool_]:
    """The rows that are among the first `most` of their unit by a hash of their keys, (n,)."""
    counts = np.ones(len(number), dtype=np.bool_)
    crowded = np.flatnonzero(np.bincount(number)[number] > most) if len(number) else number
    if not len(crowded):
        return counts
    digests = b"".join(_rank(key) for key in part.some(crowded).keys)
    high, low = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).T
    order = crowded[np.lexsort((low, high, number[crowded]))]
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    counts[order[rank >= most]] = False
    return counts


def _rank(key: str) -> bytes:
    """The first half of a digest: two keys of one unit with the same are left in the order of rows."""
    return hashlib.sha256(key.encode()).digest()[:16]
