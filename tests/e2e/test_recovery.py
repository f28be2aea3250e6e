"""SIGKILL at chosen points of real runs over the real engine: nothing committed is lost, and the model is the same to the bit."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.documents import read_plan
from coordinator.runs import resume, stop
from simulation.demo.data import regional_loans
from simulation.experiment import Experiment, simulate
from strategies.errors import Refused
from strategies.ids import RunId
from tests.e2e.conftest import Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROUNDS = 14
CONTINUES_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def plan(federation: Federation):
    """Fixed participants: every round waits for all four sites, so an undisturbed run has one possible model."""
    return federation.variant("steady", minimum="4", rounds=str(ROUNDS), every="5", round_deadline="60s")


@pytest.fixture(scope="module")
def undisturbed(federation: Federation, plan) -> list[str]:
    run = federation.launch(plan)
    federation.finish(run)
    return digests(federation, run)


def digests(federation: Federation, run: RunId) -> list[str]:
    """The model after each committed round."""
    with Session(federation.deployment.centre().engine) as session:
        query = (
            select(Round.model_digest)
            .where(Round.run_id == run, Round.state == RoundState.COMMITTED)
            .order_by(Round.number)
        )
        return [str(digest) for digest in session.scalars(query)]


def flower_run(federation: Federation, run: RunId) -> int | None:
    with Session(federation.deployment.centre().engine) as session:
        return session.get_one(Run, run).flower_run_id


def kill_child(federation: Federation, module: str) -> int:
    """Its process id, by which a successor is told from it."""
    child = federation.deployment.coordinators_child(module)
    assert child is not None
    os.kill(child, signal.SIGKILL)
    return child


def kill_server_app(federation: Federation) -> int:
    return kill_child(federation, "server_process")


def kill_superlink(federation: Federation) -> int:
    return kill_child(federation, "superlink_process")


def kill_coordinator(federation: Federation) -> None:
    federation.deployment.kill("coordinator")
    federation.deployment.start_coordinator()


def kill_agent(federation: Federation) -> None:
    federation.deployment.kill("south")
    federation.deployment.start_agent("south")


def kill_everything(federation: Federation) -> None:
    for name in ("coordinator", *federation.sites):
        federation.deployment.kill(name)
    federation.deployment.start_coordinator()
    for site in federation.sites:
        federation.deployment.start_agent(site)


def launched(federation: Federation, plan, rounds: int) -> RunId:
    """A run that has committed at least `rounds` rounds."""
    run = federation.launch(plan)
    federation.wait(lambda: federation.view(run).committed >= rounds, f"round {rounds}")
    return run


@pytest.mark.slow
def test_a_simulation_gives_the_same_models_as_the_real_deployment(
    federation: Federation, plan, undisturbed: list[str]
) -> None:
    """Processes, TLS, a SuperLink and four agents change nothing: to the bit, in every round."""
    parsed, contract = read_plan(plan)
    found = simulate(
        Experiment(plan=parsed, contract=contract, tables=regional_loans(), partition="by region", seed=5)
    )
    assert found.model_digest == undisturbed[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "disaster", [kill_everything, kill_server_app, kill_superlink, kill_agent, kill_coordinator]
)
def test_whatever_is_killed_the_model_is_that_of_an_undisturbed_run(
    federation: Federation, plan, undisturbed: list[str], disaster: Callable[[Federation], None]
) -> None:
    run = launched(federation, plan, 3)
    before = digests(federation, run)
    disaster(federation)
    federation.deployment.wait_until_ready()
    assert federation.finish(run).state is RunState.COMPLETED
    assert digests(federation, run) == undisturbed
    assert digests(federation, run)[: len(before)] == before
    if disaster is kill_everything:
        assert "the coordinator or its SuperLink ended" in federation.log("coordinator")


@pytest.mark.slow
def test_killed_again_and_again_at_other_points_it_loses_at_most_the_round_in_flight(
    federation: Federation, plan, undisturbed: list[str]
) -> None:
    federation.wait(lambda: not has_server_process(federation), "the end of the last run's process")
    run = federation.launch(plan)
    carried = set()
    for kill, committed in enumerate((0, 2, 6, 11)):
        federation.wait(partial(has_committed, federation, run, committed), f"round {committed}")
        federation.wait(lambda: has_server_process(federation), "a server process")
        time.sleep(0.11 * kill)  # not always just after a commit
        carried.add(flower_run(federation, run))
        before = digests(federation, run)
        kill_server_app(federation)
        assert digests(federation, run)[: len(before)] == before
        federation.wait(lambda: flower_run(federation, run) not in carried, "another Flower run")
    assert federation.finish(run).state is RunState.COMPLETED
    assert digests(federation, run) == undisturbed
    with Session(federation.deployment.centre().engine) as session:
        voided = select(func.count()).where(Round.run_id == run, Round.state == RoundState.VOIDED)
        assert (session.scalar(voided) or 0) <= 4


def has_committed(federation: Federation, run: RunId, rounds: int) -> bool:
    return federation.view(run).committed >= rounds


def server_process(federation: Federation) -> int | None:
    return federation.deployment.coordinators_child("server_process")


def has_server_process(federation: Federation) -> bool:
    return server_process(federation) is not None


def test_the_run_continues_within_seconds_of_the_restart_of_its_server_app(
    federation: Federation, plan
) -> None:
    """Recovery time, counted from the new process's start to its first commit, a whole round included."""
    run = launched(federation, plan, 2)
    killed = kill_server_app(federation)
    before = federation.view(run).committed
    federation.wait(
        lambda: server_process(federation) not in {None, killed}, "the restart of the server process"
    )
    restarted = time.time()
    federation.wait(lambda: federation.view(run).committed > before, "the next commit")
    assert (
        time.time() - restarted < CONTINUES_WITHIN_S + 10.0
    )  # the machine may be busy; `covenant bench recovery` measures
    assert re.search(r"its server process ended with exit code -9.*resuming", federation.log("coordinator"))
    federation.finish(run)


@pytest.mark.slow
def test_a_stopped_run_stays_stopped_until_a_person_resumes_it(
    federation: Federation, plan, undisturbed: list[str]
) -> None:
    run = launched(federation, plan, 2)
    stop(federation.deployment.centre(), run)
    federation.wait(lambda: not has_server_process(federation), "the end of the server process")
    time.sleep(1.0)
    assert federation.view(run).state is RunState.STOPPED
    assert not has_server_process(federation)
    resume(federation.deployment.centre(), run)
    assert federation.finish(run).state is RunState.COMPLETED
    assert digests(federation, run) == undisturbed
    with pytest.raises(Refused, match="is completed; only a failed or a stopped run is resumed"):
        resume(federation.deployment.centre(), run)
