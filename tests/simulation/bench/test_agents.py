"""The benchmark of many agents runs real ones, counts what its SuperLink answered, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protos.egress import child_environment
from simulation.bench import agents
from simulation.bench.agents import measure, running
from simulation.bench.processes import cpu_seconds, folder_bytes, own_mib, peak_mib, share_mib
from strategies.errors import CovenantError


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def all_gone(pids: list[int], within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(is_alive, pids))


@pytest.mark.slow
def test_twelve_agents_go_through_the_whole_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_QUIET_S", 1.0)
    monkeypatch.setattr(agents, "_REST_S", 3.0)
    found = measure(sites=12, rounds=4, parameters=5_000).ours
    assert found["sites"] == 12
    assert 10 < found["agent_own_mib"] < found["agent_share_mib"] < 390
    assert found["idle requests_a_s"] * 3.0 >= 12
    for mode, exchanges in (("plain", 1), ("secure", 3)):
        assert found[f"{mode} survivors"] == 12
        assert found[f"{mode} refused"] == 0
        # Each site pulls a message, its objects and says that it has them, and pushes a reply: no fewer requests than that.
        assert found[f"{mode} requests"] - found[f"{mode} polls"] > 12 * 8 * exchanges
        assert 0 < found[f"{mode} round_s"] <= found[f"{mode} worst_round_s"] < found[f"{mode} run_s"]
        # A site sends its update, and is sent the model.
        assert found[f"{mode} site_up_bytes"] > 2 * found["parameters"]
        assert found[f"{mode} site_down_bytes"] > 8 * found["parameters"]
        assert min(found[f"{mode} {each}_cpu_s"] for each in ("superlink", "server", "agent")) > 0


@pytest.mark.slow
def test_an_agent_that_ends_by_itself_ends_all_and_none_is_left(tmp_path: Path) -> None:
    with running(tmp_path, 3) as fleet:
        pids = list(fleet.deployment.agent_pids().values())
        assert len(set(pids)) == 3
        assert all(map(is_alive, pids))
        os.kill(pids[0], signal.SIGKILL)
        assert fleet.deployment._children["agents"].wait(30) == 1
        assert all_gone(pids)
        with pytest.raises(CovenantError, match="agents ended with exit code 1"):
            fleet.deployment.check()
    assert "site-0000 ended by itself with exit code -9" in fleet.deployment.log_of("agents").read_text()


@pytest.mark.slow
def test_agents_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, 3) as fleet:
        pids = list(fleet.deployment.agent_pids().values())
        fleet.deployment.kill("agents")
        assert all_gone(pids)


def test_a_process_with_a_second_thread_is_not_forked() -> None:
    code = (
        "import threading, time\n"
        "from simulation.agents_process import _require_one_thread\n"
        "_require_one_thread()\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "_require_one_thread()\n"
    )
    environment = child_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "threads run already, and a fork has one" in done.stderr
    assert "line 5, in <module>" in done.stderr  # the first time it went through


def test_figures_of_processes_are_the_kernels_and_none_of_one_that_is_gone() -> None:
    mine = os.getpid()
    assert 0 < (own_mib(mine) or 0) <= (share_mib(mine) or 0) <= (peak_mib(mine) or 0)
    assert (cpu_seconds(mine) or 0) > 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert {cpu_seconds(gone.pid), peak_mib(gone.pid), share_mib(gone.pid), own_mib(gone.pid)} == {None}


def test_bytes_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "one").write_bytes(bytes(10))
    (tmp_path / "in" / "two").write_bytes(bytes(5))
    assert folder_bytes(tmp_path) == 15
