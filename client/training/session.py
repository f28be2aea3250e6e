"""One site's part in one run: its rows, divided once into training and held-out, and the three things it computes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from client.data.table import Part, Table, blocks
from client.training.champion import Scorer
from client.training.encoded import Batches, Encoded
from client.training.holdout import held_out_rows
from client.training.pace import Pace, unhurried
from client.training.panels import Evaluated, importance
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_training import LocalTraining
from strategies.analytics.histograms import score_counts
from strategies.analytics.moments import moments_by_feature
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import NumericFeature, Scaling
from strategies.ids import SiteName
from strategies.models import DenseModel

if TYPE_CHECKING:
    from client.training.descent import Descent

COMPONENT: Final = "tabular/1"
"""The behaviour version of this training; another behaviour takes another name."""


_NO_SCORE: Final = 0.5
"""What a row counts as whose score is no number."""


class TrainingSession:
    """What `site` computes for `plan` from `table`; `threads` is torch's, for the whole process.

    Raises UsageError when plan and contract do not fit this component. A part without rows gives zeros.
    """

    def __init__(
        self, plan: Plan, contract: Contract, table: Table, *, site: SiteName, threads: int = 1
    ) -> None:
        check_plan(plan, contract)
        rule = plan.training
        if rule.component != COMPONENT or not isinstance(rule, LocalTraining):
            raise UsageError(
                f"the plan asks for training component {rule.component!r} with {rule.algorithm}; this is {COMPONENT!r} with fedavg and fedprox"
            )
        self._plan = plan
        self._rule = rule
        self._site = site
        self._threads = threads
        self._spec = contract.feature_spec(plan.features)
        evaluating = held_out_rows(plan, contract, table)
        self._training = Part(table, np.flatnonzero(~evaluating))
        self._evaluating = Part(table, np.flatnonzero(evaluating))
        self._evaluated = Evaluated(plan, contract, self._evaluating, lambda part: part.keys, site)
        self._importance = importance(plan, contract, self._training)
        # No row left to train on is no reason to refuse: a plan's hold-out could be made to leave exactly one key, and ask whether it is there.
        self._batches: tuple[Scaling, Batches] | None = None

    @property
    def model(self) -> DenseModel:
        """The shape of the model that this session trains."""
        return self._plan.dense_model(self._spec.width)

    @property
    def rows(self) -> tuple[int, int]:
        """Number of training and of held-out rows. Stays at the site."""
        return len(self._training), len(self._evaluating)

    def moments(self) -> Vector:
        """Counts, sums and sums of squares of the k numeric features over the training rows, (3k,) float64.

        Data-dependent. In unit values, so every row adds between 0 and 1 to each entry.
        """
        return moments_by_feature(self._units(feature) for feature in self._spec.numeric)

    def train(self, model: Vector, scaling: Scaling, round_number: int, pace: Pace = unhurried) -> Vector:
        """Local minus global after this round's passes over the training rows, (d,) float64. Data-dependent."""
        import torch

        from client.training.descent import descend

        torch.set_num_threads(self._threads)
        rows, seed = self._rows_for(scaling), batch_seed(self._plan, self._site, round_number)
        return descend(descent_of(self._rule), self.model, model, rows, seed=seed, pace=pace)

    def evaluate(
        self, model: Vector, scaling: Scaling, champion: Scorer | None = None
    ) -> npt.NDArray[np.int64]:
        """Counts of held-out scores, then those of a champion, then the plan's panels: (dimension,) as `EvaluationCells` orders them. Data-dependent.

        Scored by the reference forward, which is also what an exported model is held to.
        """
        scores = self.score_counts(model, scaling, champion)
        return self._evaluated.joined(scores, self._scorer(model, scaling), _scores)

    def score_counts(
        self, model: Vector, scaling: Scaling, champion: Scorer | None = None
    ) -> npt.NDArray[np.int64]:
        """Counts of held-out scores alone, (2, bins): negatives, then positives; then those of a champion, (4, bins). Data-dependent."""
        scorers = (self._scorer(model, scaling), champion)
        return np.concatenate([self._counts(each) for each in scorers if each is not None])

    def _scorer(self, model: Vector, scaling: Scaling) -> Scorer:
        return Scorer(features=self._spec, shape=self.model, weights=model, scaling=scaling)

    def _counts(self, scorer: Scorer) -> npt.NDArray[np.int64]:
        """One model's counts, (2, bins)."""
        bins = self._plan.evaluation.score_bins
        counts, first = np.zeros((2, bins), dtype=np.int64), 0
        if not len(self._evaluating):
            return counts
        target = self._evaluating.target
        for block in Encoded(scorer.features, self._evaluating, scorer.scaling, most_kept=0).by_blocks():
            scores = scorer.shape.probabilities(scorer.weights, block)
            # A model with huge weights can score NaN, depending on the row. To refuse then would tell of that row.
            labels = target[first : first + len(block)]
            counts += score_counts(np.nan_to_num(scores, nan=_NO_SCORE), labels, bins)
            first += len(block)
        return counts

    def _units(self, feature: NumericFeature) -> Vector:
        """One feature's unit values of the training rows, (n,)."""
        units = np.empty(len(self._training))
        for rows in blocks(len(units)):
            units[rows] = feature.unit_values(self._training.at(rows, [feature.name]))
        return units

    def _rows_for(self, scaling: Scaling) -> Batches:
        """Training rows and labels, kept from round to round because a run has one scaling."""
        if self._batches is None or self._batches[0] != scaling:
            self._batches = None  # first, so that two runs' rows are never there at once
            encoded = Encoded(self._spec, self._training, scaling)
            self._batches = (scaling, Batches(encoded, self._training.target, self._importance))
        return self._batches[1]


def batch_seed(plan: Plan, site: SiteName, round_number: int) -> int:
    """The seed of a site's batch orders: names plan seed, site and round, length-prefixed: equal when a round is repeated, unrelated otherwise."""
    digest = hashlib.sha256()
    for part in (COMPONENT, str(plan.training.seed), site, str(round_number)):
        text = part.encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return int.from_bytes(digest.digest()[:8], "big") >> 1  # torch takes seeds below 2^63


def _scores(scorer: Scorer, encoded: npt.NDArray[np.float32]) -> Vector:
    """Probabilities of encoded rows, (n,)."""
    return scorer.shape.probabilities(scorer.weights, encoded)


def descent_of(training: LocalTraining) -> Descent:
    """The constants of the plan that a descent goes by."""
    from client.training.descent import Descent

    return Descent(
        epochs=training.local_epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        l2=training.l2,
        proximal_mu=training.proximal_mu or 0.0,
        negative_weight=training.class_weights.negative,
        positive_weight=training.class_weights.positive,
    )
