"""Rounds over the real engine: what a run leaves behind, and what happens when something dies in the middle of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RunState
from coordinator.registry.versions import list_versions
from simulation.bench.processes import resident_mib
from strategies.ids import RunId
from tests.e2e.conftest import ROUNDS, Federation

pytestmark = [pytest.mark.engine]


def model_digest(federation: Federation, run: RunId) -> str:
    with Session(federation.deployment.centre().engine) as session:
        query = select(Round.model_digest).where(Round.run_id == run, Round.number == ROUNDS)
        return str(session.scalar(query))


def superlink(federation: Federation) -> int:
    child = federation.deployment.coordinators_child("superlink_process")
    assert child is not None
    return child


def test_a_run_commits_every_round_and_registers_a_candidate(federation: Federation) -> None:
    run = federation.launch()
    finished = federation.finish(run)
    assert finished.state is RunState.COMPLETED
    assert finished.committed == ROUNDS
    assert set(finished.aucs) == {2, ROUNDS}
    version = list_versions(federation.deployment.centre().engine)[-1]
    assert (version.run_id, version.stage) == (run, "candidate")
    assert set(version.artifacts) == {"model.safetensors", "model.onnx", "plan.json", "contract.json"}


@pytest.mark.slow
def test_the_same_plan_gives_the_same_model_to_the_bit(federation: Federation) -> None:
    runs = [federation.launch() for _ in range(2)]
    for run in runs:
        federation.finish(run)
    assert model_digest(federation, runs[0]) == model_digest(federation, runs[1])


def test_a_plan_whose_purpose_the_sites_do_not_admit_is_refused_in_words(
    federation: Federation, failing: Callable[[Federation, RunId], str]
) -> None:
    run = federation.launch(federation.variant("marketing", purpose="marketing"))
    reason = failing(federation, run)
    assert "`policy.accept` at this site admits purpose credit-risk; the plan has marketing" in reason
    assert federation.view(run).committed == 0


def test_an_agent_at_rest_stays_below_600_mb(federation: Federation) -> None:
    for site in federation.sites:
        assert 0 < (resident_mib(federation.deployment.pid(site)) or 0) < 600


@pytest.mark.slow
def test_an_agent_killed_in_the_middle_of_a_round_is_missed_and_the_round_goes_on(
    federation: Federation,
) -> None:
    plan = federation.variant("long", rounds="16", round_deadline="4s")
    run = federation.launch(plan)
    federation.wait(lambda: federation.view(run).committed >= 2, "the second round")
    federation.deployment.kill("south")
    try:
        finished = federation.finish(run)
        assert finished.committed == 16
        with Session(federation.deployment.centre().engine) as session:
            survivors = session.scalars(select(Round.survivors).where(Round.run_id == run)).all()
        assert ["midwest", "northeast", "west"] in survivors
    finally:
        federation.restart("south")


@pytest.mark.slow
def test_fewer_survivors_than_the_minimum_void_the_round_and_fail_the_run(
    federation: Federation, failing: Callable[[Federation, RunId], str]
) -> None:
    plan = federation.variant(
        "everyone", minimum="4", every="1000", rounds="200", round_deadline="2s", join_within="1s"
    )
    run = federation.launch(plan)
    federation.wait(lambda: federation.view(run).committed >= 2, "the second round")
    federation.deployment.kill("south")
    try:
        reason = failing(federation, run)
        assert "3 of at least 4 sites" in reason
        with Session(federation.deployment.centre().engine) as session:
            states = session.scalars(select(Round.state).where(Round.run_id == run)).all()
        assert states.count("voided") >= 1
        assert "open" not in states
    finally:
        federation.restart("south")


def test_agents_survive_a_superlink_that_dies_and_forgets_them(federation: Federation) -> None:
    before = {site: federation.connections(site) for site in federation.sites}
    os.kill(superlink(federation), signal.SIGKILL)
    federation.wait(
        lambda: all(federation.connections(site) > before[site] for site in federation.sites),
        "the reconnection of all agents",
    )
    assert federation.finish(federation.launch()).committed == ROUNDS


def test_an_agent_ends_cleanly_on_sigterm(federation: Federation) -> None:
    federation.wait(lambda: federation.connections("west") > 0, "the connection of west")
    assert federation.deployment.end("west") == 0
    federation.restart("west")
