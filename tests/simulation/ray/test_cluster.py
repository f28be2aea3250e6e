"""What can't be had is said in a sentence, at once and not after a hang."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from coordinator.main import build
from protos.shell import run_command
from simulation.ray import cluster
from simulation.ray.cluster import Cluster, _cpus, _require_loopback, _share, ray_for
from strategies.errors import CovenantError, UsageError
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.simulation.ray.ray_for_tests import free_port


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_bytes(plan().canonical)
    (tmp_path / "loans.yaml").write_bytes(CONTRACT.canonical)
    pq.write_table(loans(100), tmp_path / "rows.parquet")
    return tmp_path


def left(files: Path, *options: str) -> int:
    words = ["simulate", str(files / "plan.yaml"), "--data", str(files / "rows.parquet"), *options]
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: build()(words, standalone_mode=False))
    return int(caught.value.code or 0)


def test_without_ray_the_command_says_how_to_install_it(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert left(files, "--engine", "ray") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "the engine ray needs Ray, which is not installed; install it with: pip install 'covenant-fl[ray]'"
        in said
    )
    assert "Traceback" not in said


def test_without_ray_memory_is_simulated_all_the_same(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert left(files) == 0


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head", "head:", "local", "head:6379:1", "", "a b:6379"]
)
def test_an_address_is_a_host_and_a_port_or_auto(address: str) -> None:
    with pytest.raises(UsageError, match="use HOST:PORT of a cluster's head"), ray_for(address, 2):
        pass


def test_an_address_without_the_engine_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert left(files, "--ray-address", "auto") == 2
    assert "give --engine ray with it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("engine", ["memory", "ray"])
def test_a_dropout_is_judged_before_anything_is_started(
    files: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.ray.engine.ray_for", None)
    assert left(files, "--engine", engine, "--dropout", "1.5") == 2


def a_ray(*cpus: float, free: float | None = None) -> Any:
    """A stand-in for the module, connected to nodes with so many processors."""
    nodes: Sequence[dict[str, object]] = [
        {"Alive": True, "Resources": {"CPU": each} if each else {}} for each in cpus
    ]
    nodes = [*nodes, {"Alive": False, "Resources": {"CPU": 64.0}}]
    return SimpleNamespace(
        nodes=lambda: nodes, available_resources=lambda: {"CPU": sum(cpus) if free is None else free}
    )


@pytest.mark.parametrize(
    ("cpus", "sites", "each"),
    [((2.0,), 4, 1), ((4.0,), 4, 1), ((8.0,), 4, 2), ((8.0, 8.0), 4, 4), ((8.0, 0.0), 3, 2), ((64.0,), 1, 64), ((1.0, 1.0), 2, 1)],
)  # fmt: skip
def test_flower_starts_no_more_workers_than_sites_and_never_none(
    cpus: tuple[float, ...], sites: int, each: int
) -> None:
    """The largest share with which there are workers enough: by node, since a worker is on one."""
    assert _share(_cpus(a_ray(*cpus)), sites) == each


def test_a_cluster_without_processors_is_refused() -> None:
    with pytest.raises(CovenantError, match="has no CPU to give; start one of its machines with"):
        _cpus(a_ray(0.0, 0.0))


def test_a_cluster_that_somebody_uses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_FREE_WITHIN_S", 0.0)
    with pytest.raises(CovenantError, match="1 of the Ray cluster's 4 CPUs are in use by somebody else"):
        _cpus(a_ray(2.0, 2.0, free=3.0))


def test_a_ray_that_listens_elsewhere_is_not_used() -> None:
    _require_loopback([{"NodeManagerAddress": "127.0.0.1"}])
    with pytest.raises(CovenantError, match=r"listens on 10\.0\.0\.7 and was to listen on 127\.0\.0\.1 only"):
        _require_loopback([{"NodeManagerAddress": "10.0.0.7"}])


def test_more_sites_than_fit_into_memory_are_refused() -> None:
    has = Cluster(2, 1, 4 << 30, on_this_machine=True)
    has.require_memory(16)
    with pytest.raises(
        CovenantError, match=r"17 sites take at least 4\.2 GiB, .* Ray has 4\.0 GiB; simulate fewer sites"
    ):
        has.require_memory(17)


@pytest.mark.parametrize("chosen", [None, 1, 99999])
def test_a_head_that_is_not_there_is_said_at_once(
    files: Path, chosen: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray itself would look for it for minutes."""
    port = chosen or free_port()
    assert left(files, "--engine", "ray", "--ray-address", f"127.0.0.1:{port}") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"there is no Ray cluster to join at 127.0.0.1:{port}" in said
    assert "Traceback" not in said
