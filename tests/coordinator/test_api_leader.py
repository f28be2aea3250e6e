"""Only a leader's control API changes anything: what is under way when its term ends is not written, and another one answers the same request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.api.client import ControlClient
from coordinator.api.server import ControlServer
from coordinator.bootstrap import lease_of
from coordinator.db.engine import reading
from coordinator.db.office_schema import StoredRequest
from coordinator.db.schema import Run
from coordinator.leadership import Deposed, Lease, Seat
from coordinator.office import halts, plans, runs
from coordinator.office.actors import here
from coordinator.office.denials import record_denial
from coordinator.office.requests import Asked
from protos import control_pb2 as control
from strategies.errors import CovenantError, Unreachable
from strategies.ids import RunId
from tests.coordinator.api_for_tests import Bank, approved, authored, new_id, plan_of, serving
from tests.coordinator.test_api_runs import LAUNCH, launching
from tests.halts_for_tests import ordered


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


@pytest.fixture
def lease(bank: Bank) -> Lease:
    return lease_of(bank.centre, Seat("", alone=True))


def asked() -> Asked:
    return Asked(id=new_id(), officer="author-1", method="m", digest="0" * 64)


def written(bank: Bank) -> tuple[int, int, int]:
    with reading(bank.centre.engine, "looking") as session:
        counts = (session.query(Run).count(), session.query(StoredRequest).count())
    return (*counts, len(bank.told()))


@pytest.mark.parametrize("what", ["launch", "stop", "resume", "propose", "halt", "denial"])
def test_nothing_is_written_once_the_term_is_over(what: str, bank: Bank, lease: Lease) -> None:
    term = lease.take()
    assert term is not None
    centre, plan = replace(bank.centre, term=term), plan_of()
    run = runs.launch(centre, here(), approved(plan), asked())
    lease.give_back(term)
    before = written(bank)
    late: dict[str, Callable[[], object]] = {
        "launch": lambda: runs.launch(centre, here(), approved(plan_of(2)), asked()),
        "stop": lambda: runs.stop(centre, here(), run, asked()),
        "resume": lambda: runs.resume(centre, here(), run, asked()),
        "propose": lambda: plans.propose(centre, here(), plan.plan, plan.contract, authored(plan), asked()),
        "halt": lambda: halts.give(centre, here(), ordered(), asked()),
        "denial": lambda: record_denial(
            centre, centre.clock(), officer="author-1", method="m", reason="no", asked=asked()
        ),
    }
    with pytest.raises(Deposed, match="led in term 1, which is over"):
        late[what]()
    assert written(bank) == before


def test_a_term_that_ends_while_a_run_is_started_leaves_it_to_the_next_leader(
    bank: Bank, lease: Lease
) -> None:
    """The launch is committed, and says so to whoever asks again; no leader that was says how it ended."""
    term = lease.take()
    assert term is not None
    centre, asking = replace(bank.centre, term=term), asked()

    def start(run: RunId) -> int:
        lease.give_back(term)
        raise Unreachable("the SuperLink is gone")

    bank.transport.start_run = start  # type: ignore[method-assign]
    with pytest.raises(Deposed):
        runs.launch(centre, here(), approved(plan_of()), asking)
    with reading(bank.centre.engine, "looking") as session:
        (row,) = session.query(Run).all()
        assert row.state == "submitted"
    again = replace(bank.centre, term=lease.take())
    assert runs.launch(again, here(), approved(plan_of()), asking) == row.id


def test_a_call_hears_that_another_leads_and_the_next_leader_answers_it(bank: Bank, lease: Lease) -> None:
    port = bank.address
    client, request = bank.client("author-1"), launching()
    bank.server.stop()
    term = lease.take()
    assert term is not None
    with ControlServer(replace(bank.centre, term=term)):
        lease.give_back(term)
        with pytest.raises(CovenantError, match="led in term 1, which is over"):
            client.ask(LAUNCH, request, control.LaunchRunResponse)
    assert bank.transport.started == []
    with (
        ControlServer(replace(bank.centre, term=lease.take())),
        ControlClient(bank.access("author-1")) as other,
    ):
        assert bank.address == port
        run = other.ask(LAUNCH, request, control.LaunchRunResponse).run
    assert bank.transport.started == [run]


def test_a_server_that_is_cut_answers_nobody_and_is_not_waited_for(bank: Bank) -> None:
    client = bank.client("auditor-1")
    assert client.ask(
        "covenant.control.v1.Runs/ListRuns", control.ListRunsRequest(), control.ListRunsResponse
    )
    bank.server.cut()
    with pytest.raises(Unreachable):
        client.ask("covenant.control.v1.Runs/ListRuns", control.ListRunsRequest(), control.ListRunsResponse)
