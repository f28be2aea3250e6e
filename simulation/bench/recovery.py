"""`covenant bench recovery`: how long a run stands still when its ServerApp is killed, over the real engine.

Each time, the server process is killed with SIGKILL in the middle of a run. What is measured, in seconds: from the kill to the start of the
next server process, from that to its first commit (a whole round included), and how many rounds were lost. There is no peer: a run of
stock Flower whose ServerApp dies has ended.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from sqlalchemy import func, select

from coordinator.db.engine import reading
from coordinator.db.schema import Round, RoundState
from coordinator.runs import launch, stop, view
from simulation.bench.exchange import federation
from simulation.bench.report import BenchResult
from simulation.deployment import Deployment
from strategies.errors import CovenantError
from strategies.ids import RunId

_SERVER = "server_process"
_SETTLED_ROUNDS = 3
_WITHIN_S = 60.0
_POLL_S = 0.01
_ROUNDS = 2000


def measure(*, sites: int, kills: int) -> BenchResult:
    """Medians and worst values over `kills` kills of one run."""
    with (
        tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder,
        federation(Path(folder), sites, 10_000, _ROUNDS) as (deployment, plan_file),
    ):
        centre = deployment.centre()
        deployment.approve(plan_file)
        run = launch(centre, plan_file)
        found = [_kill_once(deployment, run) for _ in range(kills)]
        with reading(centre.engine, "counting the rounds that were lost") as session:
            lost = select(func.count()).where(Round.run_id == run, Round.state == RoundState.VOIDED)
            voided = session.scalar(lost) or 0
        rounds = view(centre.engine, run).round_s
        stop(centre, run)
        _wait(lambda: deployment.coordinators_child(_SERVER) is None, "the end of the run")
    restart, recovery = zip(*found, strict=True)
    return BenchResult(
        bench="recovery",
        ours={
            "restart_s": median(restart),
            "recovery_s": median(recovery),
            "worst_recovery_s": max(recovery),
            "rounds_lost_per_kill": voided / kills,
            "round_s": median(rounds),
            "sites": float(sites),
        },
    )


def _kill_once(deployment: Deployment, run: RunId) -> tuple[float, float]:
    """Seconds from a kill to the next server process, and from that to its first commit."""
    engine = deployment.centre().engine
    begun = view(engine, run).committed
    _wait(lambda: view(engine, run).committed >= begun + _SETTLED_ROUNDS, "rounds before the kill")
    victim = deployment.coordinators_child(_SERVER)
    if victim is None:
        raise CovenantError(f"{run} has no server process to kill")
    os.kill(victim, signal.SIGKILL)
    killed = time.perf_counter()
    _wait(lambda: deployment.coordinators_child(_SERVER) not in {None, victim}, "the next server process")
    started, before = time.perf_counter(), view(engine, run).committed
    _wait(lambda: view(engine, run).committed > before, "the next commit")
    return started - killed, time.perf_counter() - started


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise CovenantError(f"{what} did not come within {_WITHIN_S:.0f} s")
        time.sleep(_POLL_S)
