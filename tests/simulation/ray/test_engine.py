"""The same federation on Ray: its model is that of memory to the bit, nothing listens beyond loopback, and nothing is left of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from simulation.demo import data
from simulation.experiment import Experiment, simulate
from simulation.partition import ByColumn, deal, read_rows
from simulation.quiet import silence_logs
from simulation.ray.engine import MEASURED_IN_REAL_TIME
from simulation.world.folders import memory_folder
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.simulation.ray.ray_for_tests import (
    LOOPBACK,
    RayCluster,
    covenant,
    descendants,
    living,
    tcp_addresses,
    without,
    words,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 300.0


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """A plain plan with two sites, as a command line."""
    (tmp_path / "plan.yaml").write_bytes(plan().canonical)
    (tmp_path / "loans.yaml").write_bytes(CONTRACT.canonical)
    rows = loans(400).append_column("branch", [["west", "south"] * 200])
    pq.write_table(rows, tmp_path / "rows.parquet")
    return command(tmp_path, "loans.yaml", "branch")


def command(folder: Path, contract: str, column: str) -> list[str]:
    files = [str(folder / "plan.yaml"), "--contract", str(folder / contract)]
    rows = ["--data", str(folder / "rows.parquet"), "--partition", f"by:{column}", "--seed", "7"]
    return ["simulate", *files, *rows, "--engine", "ray"]


def in_memory(words_of: list[str], contract: str, **changes: Any) -> dict[str, object]:
    folder, column = Path(words_of[1]).parent, ByColumn(words_of[words_of.index("--partition") + 1][3:])
    agreed = load_document(folder / contract, Contract)
    given = load_document(folder / "plan.yaml", Plan)
    tables = deal(
        read_rows(folder / "rows.parquet"), given.sites.invite, column, target=agreed.target.column, seed=7
    )
    tried = Experiment(
        plan=given,
        contract=agreed,
        tables=tables,
        partition="by the values of column " + column.column,
        seed=7,
        **changes,
    )
    silence_logs()
    return simulate(tried).facts()


def require_equal(told: str, facts: dict[str, object]) -> None:
    """Both runs found the same, up to what real time decides."""
    on_ray, memory = json.loads(told), json.loads(json.dumps(facts))
    del on_ray["gates"]
    assert on_ray["completed"]
    assert on_ray["model_digest"] == memory["model_digest"]
    assert without(on_ray, MEASURED_IN_REAL_TIME) == without(memory, MEASURED_IN_REAL_TIME)


def seen(running: subprocess.Popen[str], there: Callable[[set[int]], bool]) -> set[int]:
    """The processes that a command has started, once `there` says that all are there."""
    until = time.monotonic() + PATIENCE_S
    while running.poll() is None and time.monotonic() < until:
        found = descendants(running.pid)
        if there(found):
            return found
        time.sleep(0.5)
    raise AssertionError(running.communicate())


def called(processes: set[int], name: str) -> list[int]:
    return [each for each in processes if name in words(each)]


def left_behind() -> list[Path]:
    """Folders of sites that stay: another test beside this one may have some for as long as it runs."""
    folder = memory_folder()
    assert folder is not None
    until = time.monotonic() + PATIENCE_S
    while True:
        found = [*folder.glob("covenant-south-*"), *folder.glob("covenant-midwest-*")]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.5)


def test_a_private_plan_with_dropouts_has_the_model_of_memory_to_the_bit_on_two_nodes(
    cluster: RayCluster, tmp_path: Path
) -> None:
    """Noise at the sites, masks, and one of four sites lost in each round."""
    private = load_document(Path(data.__file__).parent / data.PLAN, Plan)
    changed = {
        "training": private.training.model_copy(update={"rounds": 2}),
        "evaluation": private.evaluation.model_copy(update={"every": 2}),
    }
    (tmp_path / "plan.yaml").write_bytes(private.model_copy(update=changed).canonical)
    (tmp_path / data.CONTRACT).write_bytes((Path(data.__file__).parent / data.CONTRACT).read_bytes())
    (tmp_path / "rows.parquet").write_bytes(
        (Path(data.__file__).parents[1] / "data" / data.LOANS).read_bytes()
    )
    line = command(tmp_path, data.CONTRACT, "region")
    running = covenant(
        *line, "--dropout", "0.25", "--ray-address", cluster.address, "--json", **cluster.variables
    )
    # Ray spreads the sites as it likes; Flower's workers take every processor of both nodes.
    homes, workers = set[int](), [set[int](), set[int]()]
    while running.poll() is None:
        for place, node in enumerate(cluster.nodes):
            below = descendants(node.pid)
            homes |= set(called(below, "ray::SiteHost"))
            workers[place] |= set(called(below, "ray::ClientAppActor"))
        time.sleep(0.5)
    told, said = running.communicate()
    assert running.returncode == 0, said
    facts = in_memory(line, data.CONTRACT, dropout=0.25)
    on_ray, memory = json.loads(told), json.loads(json.dumps(facts))
    assert on_ray["model_digest"] == memory["model_digest"]
    assert [(each["roster"], each["survivors"]) for each in on_ray["rounds"]] == [(4, 3)] * 2
    assert [each["missed"] for each in on_ray["sites"]] == [each["missed"] for each in memory["sites"]]
    assert all(workers)
    assert len(homes) == 4
    assert left_behind() == []
    assert tcp_addresses(cluster.processes()) <= {LOOPBACK}


def test_a_run_that_fails_says_why_and_leaves_the_cluster_as_it_was(
    cluster: RayCluster, small: list[str]
) -> None:
    """Both sites are lost: the driver gives up after three deadlines of five minutes, none of which is waited for."""
    running = covenant(*small, "--dropout", "0.9", "--ray-address", cluster.address, **cluster.variables)
    _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1
    assert "0 of at least 2 sites answered the train stage of round 1" in " ".join(said.split())
    assert "Traceback" not in said
    left = called(cluster.processes(), "ray::")
    assert not [
        each for each in living(left, within_s=5.0).values() if "SiteHost" in each or "ClientApp" in each
    ]
    assert all(node.poll() is None for node in cluster.nodes)
    assert left_behind() == []


def test_a_ray_of_its_own_stays_on_loopback_and_is_gone_with_the_command(small: list[str]) -> None:
    running = covenant(*small, "--json")
    processes = seen(running, lambda found: len(called(found, "ray::ClientAppActor")) == 2)
    assert called(processes, "ray::SiteHost")
    assert tcp_addresses({running.pid, *processes}) == {LOOPBACK}
    told, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, said
    require_equal(told, in_memory(small, "loans.yaml"))
    assert living(processes) == {}
    assert left_behind() == []


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_takes_its_ray_with_it(small: list[str], told: signal.Signals) -> None:
    running = covenant(*small)
    processes = seen(running, lambda found: len(called(found, "ray::SiteHost")) == 2)
    running.send_signal(told)
    _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert living(processes) == {}
    assert left_behind() == []
