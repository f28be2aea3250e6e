"""One site's part in one run: its rows, divided once into training and held-out, and the three things it computes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from client.training.pace import Pace, unhurried
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_training import LocalTraining
from strategies.analytics.histograms import score_counts
from strategies.analytics.moments import moments
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.models import DenseModel
from strategies.sampling import held_out

if TYPE_CHECKING:
    import torch

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
        holdout = plan.evaluation.holdout
        evaluating = held_out(table.keys, holdout.salt, holdout.share)
        self._training = table.rows(~evaluating)
        self._evaluating = table.rows(evaluating)
        # No row left to train on is no reason to refuse: a plan's hold-out could be made to leave exactly one key, and ask whether it is there.
        self._tensors: tuple[Scaling, torch.Tensor, torch.Tensor] | None = None

    @property
    def model(self) -> DenseModel:
        """The shape of the model that this session trains."""
        return self._plan.dense_model(self._spec.width)

    @property
    def deadline_s(self) -> float:
        """How long a round may take, seconds."""
        return self._plan.training.round_deadline

    @property
    def rows(self) -> tuple[int, int]:
        """Number of training and of held-out rows. Stays at the site."""
        return len(self._training.keys), len(self._evaluating.keys)

    def moments(self) -> Vector:
        """Counts, sums and sums of squares of the k numeric features over the training rows, (3k,) float64.

        Data-dependent. In unit values, so every row adds between 0 and 1 to each entry.
        """
        return moments(self._spec.unit_values(self._training.columns))

    def train(self, model: Vector, scaling: Scaling, round_number: int, pace: Pace = unhurried) -> Vector:
        """Local minus global after this round's passes over the training rows, (d,) float64. Data-dependent."""
        import torch

        from client.training.descent import descend

        torch.set_num_threads(self._threads)
        x, y = self._training_tensors(scaling)
        seed = self._seed(round_number)
        return descend(_descent(self._rule), self.model, model, x, y, seed=seed, pace=pace)

    def evaluate(self, model: Vector, scaling: Scaling) -> npt.NDArray[np.int64]:
        """Counts of held-out scores, (2, bins) int64: negatives, then positives. Data-dependent.

        Scored by the reference forward, which is also what an exported model is held to.
        """
        counts = np.zeros((2, self._plan.evaluation.score_bins), dtype=np.int64)
        for columns, target in self._evaluating.blocks():
            scores = self.model.probabilities(model, self._spec.encode(columns, scaling))
            # A model with huge weights can score NaN, depending on the row. To refuse then would tell of that row.
            counts += score_counts(np.nan_to_num(scores, nan=_NO_SCORE), target, counts.shape[1])
        return counts

    def _training_tensors(self, scaling: Scaling) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoded training rows and labels, kept from round to round because a run has one scaling."""
        from client.training.network import tensor

        if self._tensors is None or self._tensors[0] != scaling:
            x = tensor(self._spec.encode(self._training.columns, scaling))
            self._tensors = (scaling, x, tensor(self._training.target))
        return self._tensors[1], self._tensors[2]

    def _seed(self, round_number: int) -> int:
        """Names plan seed, site and round, length-prefixed: equal when a round is repeated, unrelated otherwise."""
        digest = hashlib.sha256()
        for part in (COMPONENT, str(self._plan.training.seed), self._site, str(round_number)):
            text = part.encode()
            digest.update(len(text).to_bytes(4, "big") + text)
        return int.from_bytes(digest.digest()[:8], "big") >> 1  # torch takes seeds below 2^63


def _descent(training: LocalTraining) -> Descent:
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
