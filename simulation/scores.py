"""How good a model is on rows that are really there: what a simulation can look at, and a real centre cannot."""

from __future__ import annotations

import numpy as np

from client.data import Table
from protos.contract import Contract
from protos.plan import Plan
from strategies.analytics.histograms import metrics_from, score_counts
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.sampling import held_out

_SCORE_BINS = 100_000


def held_out_auc(
    plan: Plan, contract: Contract, table: Table, model: Vector, scaling: Scaling
) -> float | None:
    """The area under the ROC curve on a table's held-out rows, outside the protocol; None where a class has none."""
    holdout = plan.evaluation.holdout
    told_by = table.customers if holdout.by == contract.customer else table.keys
    rows = table.rows(np.asarray(held_out(told_by or table.keys, holdout.salt, holdout.share)))
    if not len(rows.keys) or len(set(rows.target.tolist())) == 1:
        return None
    spec = contract.feature_spec(plan.features)
    scores = plan.dense_model(spec.width).probabilities(model, spec.encode(rows.columns, scaling))
    return metrics_from(score_counts(np.nan_to_num(scores, nan=0.5), rows.target, _SCORE_BINS)).auc
