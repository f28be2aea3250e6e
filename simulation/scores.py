"""How good a model is on rows that are really there: what a simulation can look at, and a real centre cannot."""

from __future__ import annotations

import numpy as np

from client.data import Table
from client.data.table import Part
from client.training import held_out_rows
from client.training.encoded import Encoded
from protos.contract import Contract
from protos.plan import Plan
from strategies.analytics.histograms import metrics_from, score_counts
from strategies.encoding import Vector
from strategies.features import Scaling

_SCORE_BINS = 100_000


def held_out_auc(
    plan: Plan, contract: Contract, table: Table, model: Vector, scaling: Scaling
) -> float | None:
    """The area under the ROC curve on a table's held-out rows, outside the protocol; None where a class has none."""
    part = Part(table, np.flatnonzero(held_out_rows(plan, contract, table)))
    if len(set(part.target.tolist())) < 2:  # noqa: PLR2004 (classes)
        return None
    scores = probabilities(plan, contract, part, model, scaling)
    return metrics_from(score_counts(np.nan_to_num(scores, nan=0.5), part.target, _SCORE_BINS)).auc


def probabilities(plan: Plan, contract: Contract, part: Part, model: Vector, scaling: Scaling) -> Vector:
    """(n,) float64 of the n rows of `part`, some rows at a time."""
    spec = contract.feature_spec(plan.features)
    shape = plan.dense_model(spec.width)
    blocks = Encoded(spec, part, scaling, most_kept=0).by_blocks()
    return np.concatenate([shape.probabilities(model, block) for block in blocks])
