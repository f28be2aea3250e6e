"""Cohorts on two nodes have the model of threads to the bit, and what a slice raises is raised here."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from coordinator.main import build
from protos.shell import run_command
from simulation.cohorts.engine import TrainRequest
from simulation.cohorts.engines import engine_of
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.run import CohortRun, Sizes
from simulation.cohorts.sources import FileSource, SyntheticSource
from simulation.partition import Dirichlet
from simulation.ray.slices import SliceHost, ray_slices, slice_sum_of
from strategies.errors import CovenantError, UsageError
from strategies.features import Scaling
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.client.private_for_tests import private_plan
from tests.simulation.cohorts.cohorts_for_tests import MLP, generated
from tests.simulation.ray.ray_for_tests import RayCluster, environment, without

SCRIPT = """
import sys
from dataclasses import replace
import numpy as np
from coordinator.main import build
from protos.shell import run_command
from simulation.ray.slices import RaySlices
from strategies.errors import Refused

summed = RaySlices.summed

def refused_first(engine, asked, clients):
    if asked.number == 2:
        try:
            summed(engine, replace(asked, model=np.full_like(asked.model, 1e300)), clients)
        except Refused as refusal:
            print("refused:", refusal, file=sys.stderr)
    return summed(engine, asked, clients)

RaySlices.summed = refused_first
run_command(lambda: build()(sys.argv[1:], standalone_mode=False))
"""
"""The command; in round 2 it asks for what is refused before it asks for the round."""
MEASURED = ("computed", "seconds", "clients_per_s")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_bytes(plan(model=MLP).canonical)
    (tmp_path / "loans.yaml").write_bytes(CONTRACT.canonical)
    pq.write_table(loans(400), tmp_path / "rows.parquet")
    return tmp_path


def command(files: Path, *options: str) -> list[str]:
    data = ["--data", str(files / "rows.parquet"), "--partition", "dirichlet:0.5", "--seed", "5"]
    sizes = ["--population", "5000", "--cohort", "200", "--rows", "30", "--evaluated", "100"]
    return ["simulate", "cohorts", str(files / "plan.yaml"), *data, *sizes, *options]


def left(words: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: build()(words, standalone_mode=False))
    return int(caught.value.code or 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_has_the_model_of_threads_to_the_bit_and_goes_on_after_a_refusal(
    cluster: RayCluster, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(files, "--json")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, "--engine", "ray", "--ray-address", cluster.address],
        env=environment(**cluster.variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert left([*words, "--workers", "1"]) == 0
    on_ray, threads = json.loads(done.stdout), json.loads(capsys.readouterr().out)
    assert on_ray["computed"] == "stacked in 2 processes on Ray"
    assert on_ray["model_digest"] == threads["model_digest"]
    assert without(on_ray, MEASURED) == without(threads, MEASURED)
    assert "sent a value that is NaN or infinite" in done.stderr


@pytest.mark.parametrize("of_file", [True, False])
def test_what_computes_slices_survives_the_way_to_another_process(files: Path, of_file: bool) -> None:
    chosen = plan(model=MLP)
    source = (
        FileSource(files / "rows.parquet", Dirichlet(0.5), 1000, 20, 3)
        if of_file
        else SyntheticSource(1000, 20, 3)
    )
    maker = partial(slice_sum_of, chosen.canonical, CONTRACT.canonical, source.pinned())
    there = pickle.loads(pickle.dumps(maker))()
    here = engine_of(
        ClientRows(chosen, CONTRACT, source.population(chosen, CONTRACT)),
        workers=1,
        warn=lambda _: None,
    )
    model = chosen.dense_model(CONTRACT.feature_spec(chosen.features).width).initial(5)
    asked = TrainRequest(1, model, Scaling(mean=(0.4, 0.6), std=(0.3, 0.2)))
    clients = np.arange(0, 90, 3, dtype=np.int64)
    model.flags.writeable = False  # as Ray's store hands arrays out
    assert there(asked, clients).total.tobytes() == here.slice_sum(asked, clients).total.tobytes()
    assert there(asked, clients).weight == len(clients)


def test_a_machine_with_another_file_is_named(files: Path) -> None:
    source = FileSource(files / "rows.parquet", Dirichlet(0.5), 1000, 20, 3).pinned()
    maker = partial(slice_sum_of, plan(model=MLP).canonical, CONTRACT.canonical, source)
    pq.write_table(loans(401), files / "rows.parquet")
    host = SliceHost.__new__(SliceHost)  # what `__init__` does is to the whole process
    with pytest.raises(CovenantError, match=rf"on {socket.gethostname()}, .* put the same file there"):
        host.make(maker)


@pytest.mark.parametrize("private", [True, False])
def test_what_ray_cannot_compute_is_said_before_it_is_started(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.ray.slices.ray_for", None)
    chosen = private_plan() if private else plan(model=MLP)
    sizes = Sizes(cohort=12 if private else 1001)
    run = CohortRun(chosen, CONTRACT, generated(chosen=chosen), sizes, 1)
    why = "dp-fedsgd draws each client's sample" if private else "a cohort of 1001 clients cannot be drawn"
    with (
        pytest.raises(UsageError, match=why),
        ray_slices(None, run, SyntheticSource(1000, 20, 3), lambda _: None),
    ):
        pass


def test_a_plan_that_is_computed_one_by_one_is_warned_of_once_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulation.cohorts.engines.MOST_STACKED_PARAMETERS", 1)
    said: list[str] = []
    run = CohortRun(plan(model=MLP), CONTRACT, generated(), Sizes(cohort=50), 1)
    with (
        pytest.raises(UsageError, match="HOST:PORT"),
        ray_slices("nowhere", run, SyntheticSource(1000, 20, 3), said.append),
    ):
        pass
    assert len(said) == 1
    assert said[0].startswith("clients are computed one by one: its model has")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--engine", "ray"),
            "the engine ray needs Ray, which is not installed; install it with: pip install",
        ),
        (("--ray-address", "auto"), "--ray-address names a Ray cluster; give --engine ray with it"),
    ],
)
def test_without_ray_the_command_says_what_is_missing(
    files: Path,
    options: tuple[str, ...],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert left(command(files, *options)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert why in said
    assert "Traceback" not in said
