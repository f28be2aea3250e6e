"""Whether private intervals of fairness figures hold the truth: high-priced loans of black and other applicants in HMDA data.

    python tests/benchmarks/fairness_hmda.py DATA.parquet [--epsilon 1] [--repetitions 100] [--json]

The data are those of the US Home Mortgage Disclosure Act as the package GWU_rml prepares them; exact duplicates are dropped first. Every repetition is a whole
run of four sites with distributed privacy, threshold 3 and one colluding: rows dealt anew, another hold-out, scaling, training and evaluation with the
sites' own sampling, clipping, counting and noise (`simulation.unmasked`), all of it within the epsilon. Noise and samples come from the repetition's seed.

A share of a group is compared with that of all rows in the data, which the held-out ones are a sample of; a figure about decisions with what exact counts of
all rows would have given for the same model.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from rich.table import Column
from rich.table import Table as RichTable

from client.data import Table, table_from
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_calibration import calibrate
from protos.plan_panels import groups_of
from protos.shell import emit, people
from simulation.unmasked import UnmaskedRun
from strategies.analytics.comparisons import Metric
from strategies.analytics.fairness import Fairness, fairness_of
from strategies.analytics.group_rates import Rate
from strategies.analytics.groups import group_codes, group_counts, group_edges
from strategies.analytics.panels import GroupPanel
from strategies.analytics.shares import Interval
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName, site_name

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
DELTA = 1e-6
FLAGS = ("term_360", "conforming", "debt_to_income_ratio_missing")
NUMBERS = tuple(
    f"{each}_std"
    for each in (
        *("loan_amount", "loan_to_value_ratio", "no_intro_rate_period", "intro_rate_period"),
        *("property_value", "income", "debt_to_income_ratio"),
    )
)
ATTRIBUTE, GROUP, REFERENCE = "race", "black", "other"
DECLINE_AT = 0.15
NEEDED = 0.93


@dataclass(frozen=True)
class Told:
    """One figure of one repetition: its private interval, if it can be said, and the truth."""

    figure: str
    interval: Interval | None
    truth: float

    @property
    def holds(self) -> bool:
        """Whether the truth is inside."""
        return self.interval is not None and self.interval.low <= self.truth <= self.interval.high


def contract() -> Contract:
    """Ranges are public and round; what is standardised lies within 5 deviations for nearly all."""
    number = {"type": "number", "unit": "deviations", "range": [-5, 5], "missing": "indicator"}
    return Contract.model_validate(
        {
            "covenant": "contract/v1",
            "name": "hmda",
            "version": 1,
            "key": "id",
            "target": {"column": "high_priced", "positive": "1", "negative": "0"},
            "columns": {
                **dict.fromkeys(NUMBERS, number),
                **{each: {"type": "boolean"} for each in FLAGS},
                ATTRIBUTE: {"type": "category", "vocabulary": (GROUP, REFERENCE)},
            },
            "protected": (ATTRIBUTE,),
        }
    )


def plan(seed: int, rounds: int, epsilon: float) -> Plan:
    """The plan of one repetition, its noise fitted to the epsilon."""
    facts = {
        "covenant": "plan/v1",
        "name": "fairness",
        "purpose": "study",
        "contract": "hmda@1",
        "features": [*NUMBERS, *FLAGS],
        "protected": [ATTRIBUTE],
        "model": {"kind": "logistic"},
        "sites": {"members": "study@1", "invite": list(SITES), "minimum": 3, "join_within": "1m"},
        "training": {
            "component": "tabular/2",
            "algorithm": "dp-fedsgd",
            "rounds": rounds,
            "expected_batch": 2048,
            "nominal_rows": 27_000,
            "clip": 1.0,
            "server_optimiser": {"kind": "fedavgm", "learning_rate": 1.0, "momentum": 0.9},
            "round_deadline": "1m",
            "seed": seed,
        },
        "aggregation": {"mode": "secure", "colluding": 1},
        "privacy": {
            "mode": "distributed",
            "unit": {"kind": "record"},
            "limit": {"epsilon": 50.0, "delta": DELTA},
            "noise": {"preparation": 24.0, "training": 4.0, "evaluation": 8.0},
            "retries": 0,
        },
        "evaluation": {
            "every": rounds,
            "score_bins": 16,
            "holdout": {"by": "id", "share": 0.3, "salt": str(seed)},
            "fairness": {"decline_at": DECLINE_AT},
        },
    }
    split = {"preparation": 0.1, "evaluation": 0.3}
    written = read_document(json.dumps(facts), Plan, "the study's plan")
    return calibrate(written, contract(), epsilon=epsilon, delta=DELTA, split=split).plan


def rows_of(data: Path) -> pa.Table:
    """The rows without duplicates, with keys, and with the race in words where it is given."""
    frame = pq.read_table(data).to_pandas().drop_duplicates(ignore_index=True)
    frame[ATTRIBUTE] = frame["black"].map({1.0: GROUP, 0.0: REFERENCE})
    frame["id"] = frame.index.astype(str)
    return pa.Table.from_pandas(
        frame[["id", "high_priced", ATTRIBUTE, *NUMBERS, *FLAGS]], preserve_index=False
    )


def dealt(rows: pa.Table, agreed: Contract, seed: int) -> dict[SiteName, Table]:
    """The rows shuffled and dealt to the sites in equal parts."""
    parts = np.array_split(np.random.default_rng(seed).permutation(rows.num_rows), len(SITES))
    return {
        site: table_from(rows.take(part), agreed, renamed={}, named=site, protected=(ATTRIBUTE,))
        for site, part in zip(SITES, parts, strict=True)
    }


def exactly(
    chosen: Plan, agreed: Contract, tables: Mapping[SiteName, Table], model: Vector, scaling: Scaling
) -> Fairness:
    """What exact counts of all rows say of the model's decisions."""
    spec, asked = agreed.feature_spec(chosen.features), chosen.evaluation.fairness
    assert asked is not None
    groups, edges = groups_of(agreed, ATTRIBUTE), group_edges(asked.decline_at, asked.bins)
    counts = np.zeros((len(groups), 2, asked.bins), dtype=np.int64)
    for table in tables.values():
        scores = chosen.dense_model(spec.width).probabilities(model, spec.encode(table.columns, scaling))
        codes = group_codes(table.protected[ATTRIBUTE], groups)
        counts += group_counts(codes, table.target, np.asarray(scores, dtype=np.float64), edges, len(groups))
    panel = GroupPanel(
        attribute=ATTRIBUTE,
        edges=tuple(edges.tolist()),
        declines=asked.bins // 2,
        counts={
            group: (tuple(counts[place, 0].tolist()), tuple(counts[place, 1].tolist()))
            for place, group in enumerate(groups)
        },
    )
    return fairness_of(panel, 0.0, reference=REFERENCE)


def figures(found: Fairness) -> Iterator[tuple[str, Interval | None]]:
    """Base rates of both groups, and every comparison of the one with the other."""
    groups = {each.group: each for each in found.groups}
    for name in (GROUP, REFERENCE):
        one = groups.get(name)
        yield f"base rate, {name}", None if one is None else one.rates[Rate.BASE].interval
    black = groups.get(GROUP)
    for metric in Metric:
        figure = None if black is None else black.against.get(metric)
        yield metric.value, None if figure is None else figure.interval


def repeat(rows: pa.Table, seed: int, rounds: int, epsilon: float) -> tuple[list[Told], float]:
    """The figures of one repetition, and the standard deviation of the noise on a count."""
    agreed, chosen = contract(), plan(seed, rounds, epsilon)
    tables = dealt(rows, agreed, seed)
    run = UnmaskedRun(chosen, agreed, tables, np.random.default_rng(seed).bytes)
    model, scaling = run.train()
    panels = run.evaluate(model, scaling).panels
    assert panels is not None
    private = fairness_of(panels.groups[0], panels.noise_std, reference=REFERENCE)
    truth = dict(figures(exactly(chosen, agreed, tables, model, scaling)))
    told = [
        Told(name, interval, known.value)
        for name, interval in figures(private)
        if (known := truth[name]) is not None
    ]
    return told, panels.noise_std


def main() -> None:
    """Measure and print; leaves with 1 where a base rate is held too seldom."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--epsilon", type=float, default=1.0, help=f"per record, at delta {DELTA:g}")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows, found, stds = rows_of(options.data), [], []
    for seed in range(1, options.repetitions + 1):
        told, std = repeat(rows, seed, options.rounds, options.epsilon)
        found.append(told)
        stds.append(std)
    summary = {
        name: _summary(name, found) for name in dict.fromkeys(each.figure for told in found for each in told)
    }
    facts = {
        "rows": rows.num_rows,
        "epsilon": options.epsilon,
        "delta": DELTA,
        "unit": "record",
        "neighbours": "add-or-remove-one",
        "repetitions": options.repetitions,
        "noise_std": mean(stds),
        "figures": summary,
    }
    if options.json:
        emit(facts)
    else:
        _show(facts)
    rates = [each for name, each in summary.items() if name.startswith("base rate,")]
    if any(each["held"] < NEEDED * options.repetitions for each in rates):
        raise SystemExit(1)


def _summary(name: str, found: list[list[Told]]) -> dict[str, float]:
    told = [each for one in found for each in one if each.figure == name]
    said = [(each.interval, each.truth) for each in told if each.interval is not None]
    return {
        "truth": mean(each.truth for each in told),
        "held": sum(each.holds for each in told),
        "said": len(said),
        "mean": mean(each.value for each, _ in said) if said else float("nan"),
        "mean_width": mean(each.high - each.low for each, _ in said) if said else float("nan"),
    }


def _show(facts: dict[str, object]) -> None:
    table = RichTable(
        Column("figure", no_wrap=True),
        *("truth", "mean", "mean width of the interval", "truth inside", "said"),
        title=f"{facts['rows']} rows; epsilon {facts['epsilon']:g} at delta {DELTA:g} per record (add-or-remove-one), everything included;"
        f" noise of {facts['noise_std']:.1f} rows on each count; {facts['repetitions']} repetitions",
    )
    summary = facts["figures"]
    assert isinstance(summary, dict)
    for name, each in summary.items():
        shown = (f"{each[key]:.4f}" for key in ("truth", "mean", "mean_width"))
        table.add_row(name, *shown, f"{each['held']}", f"{each['said']}")
    people.print(table)


if __name__ == "__main__":
    main()
