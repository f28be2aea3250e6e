"""What privacy costs in accuracy: one model on the UCI credit default data without privacy, with distributed and with local privacy.

    python tests/benchmarks/private_utility.py DATA.parquet [--epsilon 2] [--seeds 5] [--json]

Four sites of equal size, threshold 3, one colluding site (and none, beside). Every sum is what sites and centre compute in production
(`simulation.unmasked`): scaling moments, sampling, clipping, noise, and evaluation all included in the epsilon. AUC is on all sites' held-out
rows, scored outside the protocol. Noise is calibrated to the epsilon by bisection; nothing else of a plan depends on the data or on the seed.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from rich.table import Table as RichTable

from client.data import Table, table_from
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_calibration import calibrate
from protos.shell import emit, people
from simulation.baselines import pooled_table
from simulation.scores import held_out_auc
from simulation.unmasked import UnmaskedRun
from strategies.ids import SiteName, site_name

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
DELTA = 1e-5
_PAY = {f"PAY_{n}": {"type": "number", "unit": "months", "range": [-2, 8]} for n in (0, 2, 3, 4, 5, 6)}
_BILL = {
    f"BILL_AMT{n}": {"type": "number", "unit": "NTD", "range": [-200_000, 1_000_000]} for n in range(1, 7)
}
_PAID = {
    f"PAY_AMT{n}": {"type": "number", "unit": "NTD", "range": [0, 1_000_000], "transform": "log1p"}
    for n in range(1, 7)
}
_LIMIT = {"LIMIT_BAL": {"type": "number", "unit": "NTD", "range": [0, 1_000_000]}}
COLUMNS: dict[str, dict[str, Any]] = {**_LIMIT, **_PAY, **_BILL, **_PAID}
MODEL = {"kind": "mlp", "hidden": [64, 32]}


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    privacy: Mapping[str, Any]
    training: Mapping[str, Any]
    colluding: int = 1


NONE = Setting(
    "none",
    {"mode": "none"},
    {
        "component": "tabular/1",
        "algorithm": "fedavg",
        "rounds": 30,
        "local_epochs": 1,
        "batch_size": 64,
        "learning_rate": 0.1,
    },
)
_STEP = {"component": "tabular/2", "nominal_rows": 5250, "clip": 1.0}


def private(mode: str, noise: Mapping[str, float]) -> dict[str, Any]:
    """The privacy of a plan, before its training noise is calibrated."""
    return {
        "mode": mode,
        "unit": {"kind": "record"},
        "limit": {"epsilon": 50.0, "delta": DELTA},
        "noise": {"training": 1.0, **noise},
        "retries": 0,
    }


def distributed(colluding: int) -> Setting:
    """One noisy gradient sum a round."""
    return Setting(
        f"distributed, {colluding} colluding",
        private("distributed", {"preparation": 24.0, "evaluation": 4.0}),
        {
            **_STEP,
            "algorithm": "dp-fedsgd",
            "server_optimiser": {"kind": "fedavgm", "learning_rate": 1.3, "momentum": 0.9},
            "rounds": 110,
            "expected_batch": 1024,
        },
        colluding,
    )


LOCAL = Setting(
    "local",
    private("local", {"preparation": 24.0, "evaluation": 4.0}),
    {
        **_STEP,
        "algorithm": "dp-sgd",
        "server_optimiser": {"kind": "fedavgm", "learning_rate": 0.8, "momentum": 0.9},
        "rounds": 100,
        "expected_batch": 1024,
        "local_steps": 1,
        "learning_rate": 1.0,
    },
)


def contract() -> Contract:
    """The data contract: ranges are public and round."""
    return Contract.model_validate_json(
        _text({
            "covenant": "contract/v1", "name": "credit-default", "version": 1, "key": "id",
            "target": {"column": "default", "positive": "1", "negative": "0"}, "columns": COLUMNS,
        })
    )  # fmt: skip


def _text(value: object) -> str:
    import json

    return json.dumps(value)


def plan_of(setting: Setting, seed: int) -> Plan:
    """The plan of a setting; the seed is that of the model, of the split and of the shuffle."""
    rounds = setting.training["rounds"]
    facts: dict[str, Any] = {
        "covenant": "plan/v1", "name": "utility", "purpose": "study", "contract": "credit-default@1",
        "features": list(COLUMNS), "model": MODEL,
        "sites": {"members": "study@1", "invite": list(SITES), "minimum": 3, "join_within": "1m"},
        "training": {**setting.training, "round_deadline": "1m", "seed": seed},
        "aggregation": {"mode": "secure", "colluding": setting.colluding},
        "privacy": setting.privacy,
        "evaluation": {"every": rounds, "score_bins": 32, "holdout": {"by": "id", "share": 0.3, "salt": str(seed)}},
    }  # fmt: skip
    from protos.documents import read_document

    return read_document(_text(facts), Plan, "the study's plan")


def dealt(rows: pa.Table, agreed: Contract, seed: int) -> dict[SiteName, Table]:
    """The rows shuffled and dealt to the sites in equal parts."""
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    parts = zip(SITES, np.array_split(order, len(SITES)), strict=True)
    return {site: table_from(rows.take(part), agreed, renamed={}, named=site) for site, part in parts}


def auc(plan: Plan, agreed: Contract, tables: dict[SiteName, Table]) -> float:
    """The AUC of one run of `plan`, outside the protocol."""
    model, scaling = UnmaskedRun(plan, agreed, tables, os.urandom).train()
    found = held_out_auc(plan, agreed, pooled_table(tables), model, scaling)
    assert found is not None
    return found


def measure(settings: list[Setting], rows: pa.Table, seeds: int, epsilon: float) -> dict[str, list[float]]:
    """AUC by setting and seed."""
    agreed = contract()
    found: dict[str, list[float]] = {setting.name: [] for setting in settings}
    for setting in settings:
        for seed in range(1, seeds + 1):
            plan = plan_of(setting, seed)
            if plan.privacy.mode != "none":
                plan = calibrate(plan, agreed, epsilon=epsilon, delta=DELTA).plan
            found[setting.name].append(auc(plan, agreed, dealt(rows, agreed, seed)))
            people.print(f"{setting.name}, seed {seed}: {found[setting.name][-1]:.4f}", highlight=False)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--epsilon", type=float, default=2.0, help=f"per record, at delta {DELTA:g}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = pq.read_table(options.data)
    rows = rows.append_column("id", pa.array([str(n) for n in range(rows.num_rows)]))
    settings = [NONE, distributed(1), distributed(0), LOCAL]
    found = measure(settings, rows, options.seeds, options.epsilon)
    summary = {
        name: {"mean": mean(each), "sd": stdev(each) if len(each) > 1 else 0.0, "seeds": each}
        for name, each in found.items()
    }
    if options.json:
        emit(
            {
                "epsilon": options.epsilon,
                "delta": DELTA,
                "unit": "record",
                "neighbours": "add-or-remove-one",
                "auc": summary,
            }
        )
        return
    table = RichTable(
        "privacy",
        *(f"seed {n + 1}" for n in range(options.seeds)),
        "mean",
        "sd",
        title=f"AUC; epsilon {options.epsilon:g} at delta {DELTA:g} per record (add-or-remove-one), everything included",
    )
    for name, each in summary.items():
        table.add_row(
            name, *(f"{value:.4f}" for value in found[name]), f"{each['mean']:.4f}", f"{each['sd']:.4f}"
        )
    people.print(table)


if __name__ == "__main__":
    main()
