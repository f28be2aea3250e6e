"""What a federation is compared with: each site alone, and all rows in one place.

1. The training is the sites' own (`client.training`): same batches, rate, penalties and number of passes. Only the rows differ.
2. Every model is scored on the same rows: the held-out rows of all sites, added up as counts the way a federated evaluation is.
3. A baseline takes its scaling from its own training rows and starts from the plan's initial model.

These functions see all sites' rows at once, which no party of a federation may: for simulations only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from client.data import Table
from client.training import TrainingSession
from protos.contract import Contract
from protos.plan import Plan
from strategies.analytics.histograms import metrics_from
from strategies.analytics.moments import scaling_from
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName, site_name

_POOLED = site_name("pooled")


def local_auc(plan: Plan, contract: Contract, tables: Mapping[SiteName, Table]) -> dict[SiteName, float]:
    """AUC, on all sites' held-out rows, of each site's model trained on its own training rows alone."""
    sessions = _sessions(plan, contract, tables)
    return {site: _auc(*trained(plan, session), sessions.values()) for site, session in sessions.items()}


def pooled_auc(plan: Plan, contract: Contract, tables: Mapping[SiteName, Table]) -> float:
    """AUC, on all sites' held-out rows, of one model trained on all sites' training rows in one place."""
    pooled = TrainingSession(plan, contract, pooled_table(tables), site=_POOLED)
    return _auc(*trained(plan, pooled), _sessions(plan, contract, tables).values())


def pooled_table(tables: Mapping[SiteName, Table]) -> Table:
    """All sites' rows, site by site in the order of their names. Raises UsageError without a site."""
    if not tables:
        raise UsageError("there are no tables to pool; at least one site is needed")
    ordered = [tables[site] for site in sorted(tables)]
    return Table(
        columns={
            name: np.concatenate([table.columns[name] for table in ordered]) for name in ordered[0].columns
        },
        target=np.concatenate([table.target for table in ordered]),
        keys=[key for table in ordered for key in table.keys],
        customers=None
        if any(table.customers is None for table in ordered)
        else [customer for table in ordered for customer in table.customers or ()],
    )


def _sessions(
    plan: Plan, contract: Contract, tables: Mapping[SiteName, Table]
) -> dict[SiteName, TrainingSession]:
    return {site: TrainingSession(plan, contract, tables[site], site=site) for site in sorted(tables)}


def trained(plan: Plan, session: TrainingSession) -> tuple[Vector, Scaling]:
    """The model after all the plan's rounds at one place, (d,) float64, and its scaling."""
    scaling = scaling_from(session.moments())
    model = session.model.initial(plan.training.seed)
    for round_number in range(1, plan.training.rounds + 1):
        model = model + session.train(model, scaling, round_number)
    return model, scaling


def _auc(model: Vector, scaling: Scaling, sessions: Iterable[TrainingSession]) -> float:
    counts = [session.score_counts(model, scaling) for session in sessions]
    return metrics_from(np.sum(counts, axis=0, dtype=np.int64)).auc
