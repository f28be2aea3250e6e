"""`covenant bench simulation`: simulated clients a second, beside stock Flower's engine at the same work.

A client takes ten SGD steps of batch 64 on a 30-64-1 network, over 640 rows of 30 normal numbers that are made anew from its own seed in every round, the same on both sides. Ours draws a batch order on top
of that, as sites do; stock Flower takes rows as they come.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from client.training.descent import Descent
from protos.egress import child_environment
from simulation.bench.children import told_by
from simulation.bench.report import BenchResult, Figures
from simulation.cohorts.engine import Clients, Threads, TrainRequest, added
from simulation.cohorts.stacked import Rows, descend_stacked
from simulation.ray.cluster import require_ray
from strategies.aggregation import WeightedSum
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.models import DenseModel

if TYPE_CHECKING:
    import torch

MODEL: Final = DenseModel(inputs=30, hidden=(64,))
ROWS: Final = 640
RULE: Final = Descent(
    epochs=1,
    batch_size=64,
    learning_rate=0.1,
    l2=0.0,
    proximal_mu=0.0,
    negative_weight=1.0,
    positive_weight=1.0,
)
SIZES: Final = (100, 1_000, 10_000)
_TIMED_CLIENTS: Final = 10_000
"""How many clients ours is timed over at least, in as many rounds as that takes: a hundred of them are over before a clock says much."""
_TIMEOUT_S: Final = 1800.0
_NO_SCALING: Final = Scaling.identity(0)


def measure(
    *, clients: int, rounds: int, workers: int, with_peer: bool, sizes: Sequence[int] = SIZES
) -> BenchResult:
    """Clients a second over `rounds` of `clients`, or more rounds on our side, on both sides if `with_peer`, and the cost of a client in rounds of `sizes`. Raises UsageError without Ray."""
    if with_peer:
        require_ray("stock Flower's simulation")
    load = os.getloadavg()[0]
    engine = Threads(made_and_trained, workers, "stacked")
    play(engine, clients, 1)  # not timed, as at the peer: libraries are loaded and threads have started once
    played = max(rounds, _TIMED_CLIENTS // clients)
    ours = {"clients_per_s": clients * played / play(engine, clients, played)}
    costs = {size: _cost(engine, size) for size in sizes}
    ours |= {f"per_client_{size}_ms": 1e3 * cost.seconds for size, cost in costs.items()}
    ours |= {
        f"round_{max(sizes)}_s": max(sizes) * costs[max(sizes)].seconds,
        "flatness": _flatness([each.seconds for each in costs.values()]),
        "processor_ms": 1e3 * costs[max(sizes)].processor_s,
        "processor_flatness": _flatness([each.processor_s for each in costs.values()]),
        "workers": float(workers),
        "load": load,
    }
    if not with_peer:
        return BenchResult(bench="simulation", ours=ours)
    peer = measure_stock(clients=clients, rounds=rounds)
    ratio = {"clients_per_s": ours["clients_per_s"] / peer["clients_per_s"]}
    return BenchResult(bench="simulation", ours=ours, peer=peer, ratio=ratio)


def made_and_trained(asked: TrainRequest, clients: Clients) -> WeightedSum:
    """The sum of the updates of a slice, whose rows are made for it and dropped."""
    import torch

    x = torch.empty((len(clients) * ROWS, MODEL.inputs))
    for place, number in enumerate(clients.tolist()):
        make_rows(number, x[place * ROWS : (place + 1) * ROWS])
    labels = (x[:, 0] > 0).to(torch.float32)
    rows = Rows(x, labels, None, [ROWS] * len(clients))
    seeds = [number * 10_007 + asked.number for number in clients.tolist()]
    return added(clients, descend_stacked(RULE, MODEL, asked.model, rows, seeds), None)


def make_rows(client: int, x: torch.Tensor) -> None:
    """Put a client's rows into `x`, (ROWS, inputs) float32: the ones that stock Flower's client makes."""
    import torch

    torch.randn(ROWS, MODEL.inputs, generator=torch.Generator().manual_seed(client), out=x)


def play(engine: Threads, clients: int, rounds: int) -> float:
    """Seconds of `rounds` over clients 0 to `clients` - 1, each from the mean of the one before."""
    model: Vector = MODEL.initial(0)
    everybody = np.arange(clients, dtype=np.int64)
    began = time.perf_counter()
    for number in range(1, rounds + 1):
        model = model + engine.summed(TrainRequest(number, model, _NO_SCALING), everybody).mean
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one client: `seconds` of waiting, and `processor_s` over all threads, which a busy machine tells nearly right."""

    seconds: float
    processor_s: float


def _cost(engine: Threads, clients: int) -> _Cost:
    """Of a client in rounds of `clients`: seconds of the median round, so that one that others on the machine held up does not count."""
    times, began = max(1, _TIMED_CLIENTS // clients), time.process_time()
    seconds = median(play(engine, clients, 1) for _ in range(times))
    return _Cost(seconds / clients, (time.process_time() - began) / (times * clients))


def _flatness(costs: Sequence[float]) -> float:
    """The most over the least: 1 where a client costs the same in a cohort of any size."""
    return max(costs) / max(min(costs), 1e-12)


def measure_stock(*, clients: int, rounds: int) -> Figures:
    """Stock Flower's clients a second, its start and Ray's left out. Raises `CovenantError` where it does not end."""
    figures: Figures = told_by(
        [sys.executable, "-m", "simulation.bench.stock_simulation", str(clients), str(rounds)],
        "stock Flower's simulation",
        environment=child_environment(),
        timeout_s=_TIMEOUT_S,
    )
    return figures
