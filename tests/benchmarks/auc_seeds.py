"""AUC of the demo's plans over several seeds: federated with and without privacy, pooled and local models on the same held-out loans.

    python tests/benchmarks/auc_seeds.py [--seeds 5] [--plan FILE] [--json]

A seed sets the plan's training seed and the salt of its hold-out, so each seed is another split. The federated model is computed
by the sites' own training, the aggregation and the server optimiser, in one process; over the real engine the same plan gives
the same model, which the demo shows for seed 1. With privacy, noise and samples are drawn anew each time, so figures vary a little from run
to run; they are of the model's own scores, outside the protocol.
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import structlog
from rich.table import Table as RichTable

from client.data import Table
from client.training import TrainingSession
from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.shell import emit, people
from simulation.baselines import local_auc, pooled_auc, pooled_table
from simulation.demo import data
from simulation.scores import held_out_auc
from simulation.unmasked import UnmaskedRun
from strategies.aggregation import Contribution, total, weighted_mean
from strategies.analytics.histograms import metrics_from
from strategies.analytics.moments import scaling_from
from strategies.ids import SiteName

DEMO = Path(data.__file__).parent


@dataclass(frozen=True)
class Row:
    """AUC for one seed."""

    seed: int
    private: float
    federated: float
    pooled: float
    local_mean: float


def federated_auc(plan: Plan, contract: Contract, tables: dict[SiteName, Table]) -> float:
    """AUC of the plan's federated model on all sites' held-out rows."""
    sessions = {site: TrainingSession(plan, contract, tables[site], site=site) for site in plan.sites.invite}
    scaling = scaling_from(total([Contribution(s, each.moments()) for s, each in sessions.items()]))
    shape, optimizer = plan.dense_model(contract.feature_spec(plan.features).width), plan.server_optimizer()
    model, state = shape.initial(plan.training.seed), optimizer.initial(shape.size)
    for number in range(1, plan.training.rounds + 1):
        updates = [
            Contribution(s, each.train(model, scaling, number), plan.weight_of(s))
            for s, each in sessions.items()
        ]
        model, state = optimizer.step(model, weighted_mean(updates), state)
    counts = sum(each.score_counts(model, scaling) for each in sessions.values())
    return metrics_from(counts).auc


def private_auc(plan: Plan, contract: Contract, tables: dict[SiteName, Table]) -> float:
    """AUC of the private plan's model on all sites' held-out rows, as only somebody with all rows can tell."""
    model, scaling = UnmaskedRun(plan, contract, tables, os.urandom).train()
    found = held_out_auc(plan, contract, pooled_table(tables), model, scaling)
    assert found is not None
    return found


def seeded(plan: Plan, seed: int) -> Plan:
    """The plan with another training seed and another split."""
    facts = plan.model_dump(mode="json", exclude_none=True)
    facts["training"]["seed"] = seed
    facts["evaluation"]["holdout"]["salt"] = str(seed)
    return Plan.model_validate(facts)


def measure(plan: Plan, private: Plan, contract: Contract, tables: dict[SiteName, Table], seed: int) -> Row:
    """All figures for one seed."""
    chosen = seeded(plan, seed)
    local = local_auc(chosen, contract, tables)
    return Row(
        seed=seed,
        private=private_auc(seeded(private, seed), contract, tables),
        federated=federated_auc(chosen, contract, tables),
        pooled=pooled_auc(chosen, contract, tables),
        local_mean=mean(local.values()),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plan", type=Path, default=DEMO / data.WITHOUT_PRIVACY)
    parser.add_argument("--private-plan", type=Path, default=DEMO / data.PLAN)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    contract = load_document(DEMO / data.CONTRACT, Contract)
    plan, tables = load_document(options.plan, Plan), data.tables(contract)
    private = load_document(options.private_plan, Plan)
    rows = [measure(plan, private, contract, tables, seed) for seed in range(1, options.seeds + 1)]
    columns = {
        "private": [row.private for row in rows],
        "federated": [row.federated for row in rows],
        "pooled": [row.pooled for row in rows],
        "local_mean": [row.local_mean for row in rows],
        "federated_minus_pooled": [row.federated - row.pooled for row in rows],
        "private_minus_local": [row.private - row.local_mean for row in rows],
        "federated_minus_local": [row.federated - row.local_mean for row in rows],
    }
    summary = {
        name: {"mean": mean(each), "sd": stdev(each), "min": min(each)} for name, each in columns.items()
    }
    if options.json:
        emit({"seeds": options.seeds, **summary})
        return
    table = RichTable("", *(f"seed {row.seed}" for row in rows), "mean", "sd")
    for name, each in columns.items():
        table.add_row(name, *(f"{value:.4f}" for value in each), f"{mean(each):.4f}", f"{stdev(each):.4f}")
    people.print(table)


if __name__ == "__main__":
    main()
