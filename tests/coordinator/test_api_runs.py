"""Launching, stopping and resuming over the control API: each request once, whatever is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest

from coordinator.api.client import ControlClient
from coordinator.api.errors import problem_of
from coordinator.db.engine import writing
from coordinator.db.schema import Round, RoundState
from coordinator.office.desk import LocalDesk
from coordinator.rounds.store import RoundStore
from coordinator.runs import end
from protos import control_pb2 as control
from protos.approvals import PlanEvidence
from protos.log_office import CallDenied
from protos.log_run_events import Tripped
from strategies.errors import Refused, Unreachable, UsageError
from strategies.ids import RunId
from tests.coordinator.api_for_tests import Bank, approved, new_id, plan_of, serving

LAUNCH = "covenant.control.v1.Runs/LaunchRun"
STOP = "covenant.control.v1.Runs/StopRun"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bank(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Bank]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield from serving(tmp_path / "bank", database_url=url)


@pytest.fixture
def quick(tmp_path: Any) -> Iterator[Bank]:
    """On SQLite only."""
    yield from serving(tmp_path / "bank")


def launching(seed: int = 1, request_id: str | None = None) -> control.LaunchRunRequest:
    what = approved(plan_of(seed))
    documents = control.Documents(
        plan=what.plan.canonical, contract=what.contract.canonical, evidence=what.evidence.canonical
    )
    return control.LaunchRunRequest(request_id=request_id or new_id(), documents=documents)


def launch(client: ControlClient, request: control.LaunchRunRequest) -> str:
    return client.ask(LAUNCH, request, control.LaunchRunResponse).run


def runs_of(bank: Bank) -> list[str]:
    return [each.run for each in bank.desk("author-1").runs()]


def test_a_launch_that_is_sent_again_gets_the_same_run(quick: Bank) -> None:
    client, request = quick.client("author-1"), launching()
    first = launch(client, request)
    assert [launch(client, request) for _ in range(3)] == [first] * 3
    assert runs_of(quick) == [first]
    assert quick.transport.started == [first]
    assert launch(client, launching()) != first


def test_many_that_race_for_one_request_launch_one_run(bank: Bank) -> None:
    client, request = bank.client("author-1"), launching()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: launch(client, request), range(6)))
    assert set(found) == set(runs_of(bank))
    assert len(bank.transport.started) == len(runs_of(bank)) == 1
    assert len(bank.told("launch")) == 1
    bank.audited()


def test_a_request_id_belongs_to_one_content_and_one_officer(quick: Bank) -> None:
    client, id_ = quick.client("author-1"), new_id()
    launch(client, launching(1, id_))
    with pytest.raises(Refused, match="was used for another request"):
        launch(client, launching(2, id_))
    with pytest.raises(Refused, match="was used for another request"):
        launch(quick.client("author-2"), launching(1, id_))
    assert len(runs_of(quick)) == 1
    assert [(each.officer, each.request_id) for each in quick.told("denied")] == [
        ("author-1", id_),
        ("author-2", id_),
    ]
    quick.audited()


@pytest.mark.parametrize("id_", ["", "1", "{" + "0" * 36 + "}", "ABCDEF00-0000-4000-8000-000000000000"])
def test_a_change_takes_a_uuid(id_: str, quick: Bank) -> None:
    request = launching()
    request.request_id = id_
    with pytest.raises(UsageError, match="use a UUID"):
        launch(quick.client("author-1"), request)
    assert runs_of(quick) == []


def test_a_refused_launch_changes_nothing_is_told_once_and_stays_refused(quick: Bank) -> None:
    request = launching()
    request.documents.evidence = PlanEvidence().canonical
    for _ in range(2):
        with pytest.raises(Refused, match="nobody has signed plan lending-default"):
            launch(quick.client("author-1"), request)
    (told,) = quick.told("denied")
    assert isinstance(told, CallDenied)
    assert (told.officer, told.method, told.request_id) == ("author-1", LAUNCH, request.request_id)
    assert "nobody has signed plan" in told.reason
    assert (runs_of(quick), quick.transport.started) == ([], [])
    quick.audited()


@pytest.fixture
def poor(tmp_path: Any) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank", accounts=False)


def test_a_budget_that_is_too_small_is_named(poor: Bank) -> None:
    client = poor.client("author-1")
    call = client.channel.unary_unary(
        f"/{LAUNCH}",
        request_serializer=control.LaunchRunRequest.SerializeToString,
        response_deserializer=control.LaunchRunResponse.FromString,
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(launching(), timeout=30)
    problem = problem_of(caught.value)
    assert problem is not None
    assert (problem.rule, problem.exit_code) == ("budget", 3)


def test_where_nobody_carries_runs_nothing_is_recorded(quick: Bank) -> None:
    quick.transport.absent = Unreachable("no coordinator runs")
    request = launching()
    with pytest.raises(Unreachable, match="no coordinator runs"):
        launch(quick.client("author-1"), request)
    assert runs_of(quick) == []
    quick.transport.absent = None
    assert [launch(quick.client("author-1"), request)] == runs_of(quick)


def test_a_stop_that_is_sent_again_stops_nothing_that_was_resumed(quick: Bank) -> None:
    author, officer = quick.client("author-1"), quick.client("privacy-1")
    run = launch(author, launching())
    stopping = control.ChangeRunRequest(request_id=new_id(), run=run)
    assert officer.ask(STOP, stopping, control.Run).state == "stopped"
    assert officer.ask(STOP, stopping, control.Run).reason == "stopped by privacy-1"
    quick.desk("author-1").resume(RunId(run))
    assert officer.ask(STOP, stopping, control.Run).state == "submitted"
    assert len(quick.told("resumed")) == len(quick.told("ended")) == 1
    quick.audited()


def test_a_resume_that_is_sent_again_resumes_once(quick: Bank) -> None:
    client = quick.client("author-1")
    run = launch(client, launching())
    end(quick.centre, RunId(run), "failed", "a site was lost")
    request = control.ChangeRunRequest(request_id=new_id(), run=run)
    resume = "covenant.control.v1.Runs/ResumeRun"
    assert client.ask(resume, request, control.Run).state == "submitted"
    end(quick.centre, RunId(run), "failed", "and another")
    assert client.ask(resume, request, control.Run).state == "failed"
    quick.desk("author-1").resume(RunId(run))
    with pytest.raises(Refused, match="only a failed or a stopped run"):
        quick.desk("author-1").resume(RunId(run))


def test_a_run_that_its_gate_ended_is_resumed_through_no_door(quick: Bank) -> None:
    """The console asks what the API is asked, as `covenant run resume` does from afar; on the coordinator's machine it asks the desk there."""
    client = quick.client("author-1")
    run = RunId(launch(client, launching()))
    centre = quick.centre
    with writing(centre.engine, "settling") as session:
        opened_at, east = centre.clock(), ["east"]
        row = Round(run_id=run, number=1, attempt=1, state=RoundState.OPEN, roster=east, opened_at=opened_at)
        row.survivors, row.opening = east, b"shares"
        session.add(row)
    store = RoundStore(centre.engine, centre.artifacts, run, centre.clock)
    store.finish("failed", "the gate", Tripped(round=1, attempt=1, norm=9.0))
    request = control.ChangeRunRequest(request_id=new_id(), run=run)
    refusal = "was ended by its plan's gate at round 1, .* it cannot go on"
    for _ in range(2):
        with pytest.raises(Refused, match=refusal):
            client.ask("covenant.control.v1.Runs/ResumeRun", request, control.Run)
    with pytest.raises(Refused, match=refusal):
        LocalDesk(centre).resume(run)
    assert not quick.told("resumed")
    assert not quick.told("voided")


def test_a_run_is_watched_to_its_end(quick: Bank) -> None:
    desk = quick.desk("auditor-1")
    run = RunId(launch(quick.client("author-1"), launching()))
    states = []
    for each in desk.watch(run):
        states.append(each.state)
        if len(states) == 1:
            quick.desk("admin-1").stop(run)
    assert states == ["submitted", "stopped"]
    assert replace(each, aucs={}) == each


def test_a_run_that_is_not_there(quick: Bank) -> None:
    with pytest.raises(UsageError, match="there is no run run-00"):
        list(quick.desk("auditor-1").watch(RunId("run-0000000000000000")))
