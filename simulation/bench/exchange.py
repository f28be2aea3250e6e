"""`covenant bench exchange`: what a round costs over a real SuperLink and real agents, beside stock Flower.

The sites hold a few made-up rows and take one step a round, so that what is measured is everything but training: requests,
serialisation, aggregation, the database's flushes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from coordinator.following import follow
from coordinator.office.desk import LocalDesk
from coordinator.runs import RunView, launch
from simulation.bench.processes import resident_mib
from simulation.bench.report import BenchResult
from simulation.bench.stock_peer import measure_stock
from simulation.deployment import Deployment
from strategies.ids import SiteName, site_name
from strategies.secagg.parameters import FEWEST_SURVIVORS

_FEATURES = 100
_ROWS = 64
_WARM_UP = 2
_CONTRACT = "bench.yaml"
_PURPOSE = "benchmark"


def measure(*, sites: int, parameters: int, rounds: int, with_peer: bool) -> BenchResult:
    """Medians over `rounds` rounds, the first two not counted; a model of about `parameters` values."""
    with tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder:
        plain, secure, memory = _run_ours(Path(folder), sites, parameters, rounds + _WARM_UP)
    ours = {
        "exchange_s": median(plain.exchange_s[_WARM_UP:]),
        "round_s": median(plain.round_s[_WARM_UP:]),
        **({} if secure is None else {"secure_round_s": median(secure.round_s[_WARM_UP:])}),
        "agent_memory_mib": memory,
        "parameters": float(model_size(parameters)),
        "sites": float(sites),
    }
    if not with_peer:
        return BenchResult(bench="exchange", ours=ours)
    peer = measure_stock(sites=sites, parameters=parameters)
    measured = [name for name in ("exchange", "round", "secure_round") if f"{name}_s" in ours]
    ratio = {name: peer[f"{name}_s"] / ours[f"{name}_s"] for name in measured}
    return BenchResult(bench="exchange", ours=ours, peer=peer, ratio=ratio)


def hidden_units(parameters: int) -> list[int]:
    """Widths of hidden layers that give a model of about `parameters` values over the benchmark's features."""
    one = (parameters - 1) // (_FEATURES + 2)
    widest = 2048
    if one <= widest:
        return [max(1, one)]
    # Two layers: features x a + a x b, with a at its bound.
    return [widest, max(1, (parameters - widest * (_FEATURES + 1)) // (widest + 2))]


def model_size(parameters: int) -> int:
    """The size of the model that stands for `parameters`."""
    widths = [_FEATURES, *hidden_units(parameters), 1]
    return sum(before * after + after for before, after in pairwise(widths))


@contextmanager
def federation(folder: Path, sites: int, parameters: int, rounds: int) -> Iterator[tuple[Deployment, Path]]:
    """A running federation with made-up rows in `folder`, and the file of a plan for it."""
    names = site_names(sites)
    plan_file = folder / "plan.yaml"
    plan_file.write_text(plan_text(names, parameters, rounds))
    with laid_out(folder, names) as deployment:
        deployment.start_coordinator()
        for name in names:
            deployment.start_agent(name)
        deployment.wait_until_ready()
        yield deployment, plan_file


@contextmanager
def laid_out(folder: Path, names: Sequence[SiteName], sites_in: Path | None = None) -> Iterator[Deployment]:
    """A federation with made-up rows in `folder`, whose contract lies beside it, of which nothing runs yet."""
    contract = folder / _CONTRACT
    contract.write_text(_contract_text())
    tables = {name: _rows(index) for index, name in enumerate(names)}
    with Deployment(folder / "federation", federation="bench", sites_in=sites_in) as deployment:
        deployment.lay_out(tables, contract, purpose=_PURPOSE, allow_plain=True)
        yield deployment


def site_names(sites: int) -> list[SiteName]:
    """What the benchmark's sites are called."""
    return [site_name(f"site-{index:02d}") for index in range(sites)]


def _run_ours(
    folder: Path, sites: int, parameters: int, rounds: int
) -> tuple[RunView, RunView | None, float]:
    """A run with plain aggregation, and one that differs from it in being secure (none below three sites)."""
    with federation(folder, sites, parameters, rounds) as (deployment, plan_file):
        centre = deployment.centre()
        finished: list[RunView] = []
        for mode in ("plain", "secure") if sites >= FEWEST_SURVIVORS else ("plain",):
            plan_file.write_text(plan_file.read_text().replace("{mode: plain}", f"{{mode: {mode}}}"))
            deployment.approve(plan_file)
            views = LocalDesk(centre).watch(launch(centre, plan_file))
            finished.append(follow(views, lambda _: deployment.check()))
        memory = max(resident_mib(deployment.pid(f"site-{index:02d}")) or 0.0 for index in range(sites))
        return finished[0], finished[1] if len(finished) > 1 else None, memory


def _rows(index: int) -> pa.Table:
    random = np.random.default_rng(index)
    values = random.normal(size=(_ROWS, _FEATURES))
    columns = {f"x{place:03d}": values[:, place] for place in range(_FEATURES)}
    target = np.where(np.arange(_ROWS) % 2, "yes", "no")
    return pa.table({"id": np.arange(_ROWS) + _ROWS * index, **columns, "target": target})


def _contract_text() -> str:
    columns = "\n".join(
        f"  x{place:03d}: {{type: number, unit: none, range: [-5, 5]}}" for place in range(_FEATURES)
    )
    return (
        "covenant: contract/v1\nname: bench\nversion: 1\nkey: id\n"
        f"target: {{column: target, positive: 'yes', negative: 'no'}}\ncolumns:\n{columns}\n"
    )


def plan_text(
    names: Sequence[SiteName],
    parameters: int,
    rounds: int,
    *,
    minimum: int | None = None,
    aggregation: str = "{mode: plain}",
    deadline: str = "2m",
) -> str:
    """A plan over a federation of the benchmark; all sites are the minimum unless one is given."""
    features = ", ".join(f"x{place:03d}" for place in range(_FEATURES))
    return f"""\
covenant: plan/v1
name: bench
purpose: {_PURPOSE}
contract: bench@1
features: [{features}]
sites: {{members: bench@1, invite: [{", ".join(names)}], minimum: {minimum or len(names)}, join_within: {deadline}}}
model: {{kind: mlp, hidden: {hidden_units(parameters)}}}
training:
  component: tabular/1
  algorithm: fedavg
  rounds: {rounds}
  local_epochs: 1
  batch_size: {_ROWS}
  learning_rate: 0.01
  round_deadline: {deadline}
  seed: 1
aggregation: {aggregation}
privacy: {{mode: none}}
evaluation: {{every: {rounds}, score_bins: 100, holdout: {{by: id, share: 0.2, salt: bench}}}}
"""
