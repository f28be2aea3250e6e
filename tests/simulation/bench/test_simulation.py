"""The benchmark of simulations measures the work that it says, and the same on both sides."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from simulation.bench import simulation as bench_of
from simulation.bench.simulation import MODEL, ROWS, RULE, made_and_trained, make_rows, measure, play
from simulation.bench.stock_simulation import BATCH, HIDDEN, INPUTS, RATE, network, take_steps
from simulation.bench.stock_simulation import ROWS as PEER_ROWS
from simulation.cli.bench import bench
from simulation.cohorts.engine import Clients, Threads, TrainRequest
from simulation.cohorts.stacked import Rows, descend_stacked
from strategies.errors import UsageError
from strategies.features import Scaling


def test_both_sides_have_the_same_work() -> None:
    assert (MODEL.inputs, MODEL.hidden) == (INPUTS, (HIDDEN,))
    assert (ROWS, RULE.batch_size, RULE.learning_rate, RULE.epochs) == (PEER_ROWS, BATCH, RATE, 1)
    assert sum(each.numel() for each in network().parameters()) == MODEL.size


def test_a_client_of_the_peer_takes_ours_steps_but_for_the_order_of_rows() -> None:
    """Its rows through our training, in its order."""
    model = network()
    start = np.concatenate([each.detach().numpy().ravel() for each in model.parameters()]).astype(np.float64)
    take_steps(model, 3)
    peer = np.concatenate([each.detach().numpy().ravel() for each in model.parameters()]) - start
    rows = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(3))
    found = np.zeros(MODEL.size)
    for batch in rows.split(BATCH):  # one batch after the other: an order is drawn within a batch only
        made = Rows(batch.contiguous(), (batch[:, 0] > 0).to(torch.float32), None, [BATCH])
        found += descend_stacked(RULE, MODEL, start + found, made, [1])[0]
    assert np.abs(peer).max() > 0.01
    assert np.abs(found - peer).max() < 1e-5


def test_ours_makes_rows_anew_for_each_client_and_round(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    own = bench_of.make_rows

    def counting(client: int, x: torch.Tensor) -> None:
        made.append(client)
        own(client, x)

    monkeypatch.setattr(bench_of, "make_rows", counting)
    play(Threads(made_and_trained, 1, ""), 50, 2)
    assert sorted(made) == sorted([*range(50)] * 2)


def test_ours_makes_the_rows_that_stock_flower_makes() -> None:
    made = torch.empty((ROWS, MODEL.inputs))
    make_rows(7, made)
    assert torch.equal(made, torch.randn(ROWS, MODEL.inputs, generator=torch.Generator().manual_seed(7)))


def test_ours_learns_the_label() -> None:
    model = MODEL.initial(0)
    clients = np.arange(4, dtype=np.int64)
    for number in range(1, 17):
        model = model + made_and_trained(TrainRequest(number, model, Scaling.identity(0)), clients).mean
    x = np.random.default_rng(9).normal(size=(1000, 30)).astype(np.float32)
    right = (MODEL.probabilities(model, x) > 0.5) == (x[:, 0] > 0)
    assert right.mean() > 0.9


def test_figures_are_of_the_rounds_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that goes on by a second at each look."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(bench_of.time, "perf_counter", lambda: float(next(ticks)))
    played: list[int] = []

    def counted(_: TrainRequest, some: Clients):
        played.append(len(some))
        return made_and_trained(TrainRequest(1, MODEL.initial(0), Scaling.identity(0)), some[:1])

    monkeypatch.setattr(bench_of, "made_and_trained", counted)
    monkeypatch.setattr(bench_of, "_TIMED_CLIENTS", 40)
    result = measure(clients=30, rounds=2, workers=1, with_peer=False, sizes=(10, 40))
    assert result.ours["clients_per_s"] == 60.0
    assert (result.ours["per_client_10_ms"], result.ours["per_client_40_ms"]) == (100.0, 25.0)
    assert (result.ours["round_40_s"], result.ours["flatness"]) == (1.0, 4.0)
    assert sum(played) == 30 + 60 + 40 + 40
    assert result.ours["processor_ms"] > 0
    assert (result.peer, result.ratio) == (None, {})


def test_without_ray_the_benchmark_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = "stock Flower's simulation needs Ray, which is not installed; install it with: pip install 'covenant-fl[ray]'"
    with pytest.raises(UsageError, match=re.escape(said)):
        measure(clients=1, rounds=1, workers=1, with_peer=True)


@pytest.mark.slow
def test_the_peer_runs_and_ours_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # somebody else's cluster, which is not joined
    result = measure(clients=4, rounds=1, workers=1, with_peer=True, sizes=(4, 40))
    assert result.peer is not None
    assert result.ratio["clients_per_s"] > 1  # how much more is measured on a machine that does nothing else


@pytest.mark.slow
def test_the_command_prints_one_json_object() -> None:
    ran = CliRunner().invoke(bench, ["simulation", "--clients", "40", "--rounds", "1", "--json"])
    facts = json.loads(ran.stdout)
    assert (facts["bench"], facts["peer"]) == ("simulation", None)
    assert facts["ours"]["round_10000_s"] > 0
