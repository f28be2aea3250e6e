"""Which rows a plan holds out: the same wherever training, scores and simulations ask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client.data.table import Part, Table
from protos.contract import Contract
from protos.plan import Plan
from strategies.sampling import held_out


def held_out_rows(plan: Plan, contract: Contract, rows: Table | Part) -> npt.NDArray[np.bool_]:
    """Which of n `rows` evaluation scores and nobody trains on, (n,): by their customers where the plan tells rows apart by those, else by their keys."""
    holdout = plan.evaluation.holdout
    told_by = rows.customers if holdout.by == contract.customer else rows.keys
    return held_out(rows.keys if told_by is None else told_by, holdout.salt, holdout.share)
