"""Runs whose driver died go on; runs that ended stay ended; on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from coordinator.bootstrap import Centre
from coordinator.db import reading, writing
from coordinator.db.halt_schema import LeadershipRow
from coordinator.db.schema import Run, RunState
from coordinator.flower.executor import Executor
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.store import RoundStore
from coordinator.runs import carry, resume, stop
from coordinator.supervisor import MOST_IDLE_STARTS, Supervisor
from strategies.errors import CovenantError, DiskError, Refused, Unreachable, UsageError
from strategies.ids import RunId
from tests.coordinator.conftest import RUN, Clock, submitted


@dataclass
class Starts:
    """A transport that counts; `failing` is what it raises instead of starting."""

    started: list[RunId] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    failing: CovenantError | None = None

    def require(self) -> None:
        if self.failing is not None:
            raise self.failing

    def start_run(self, run: RunId) -> int:
        self.require()
        self.started.append(run)
        return 100 + len(self.started)

    def stop_run(self, flower_run: int) -> None:
        self.stopped.append(flower_run)


@pytest.fixture
def transport() -> Starts:
    return Starts()


@pytest.fixture
def centre(engine: Engine, artifacts: ArtifactStore, clock: Clock, transport: Starts, run: RunId) -> Centre:
    return Centre(
        settings=cast("Any", None),
        engine=engine,
        artifacts=artifacts,
        clock=clock,
        monotonic=time.monotonic,
        sleep=time.sleep,
        new_run_id=lambda: RUN,
        entropy=os.urandom,
        transport=transport,
    )


def driven(centre: Centre, flower_run: int = 7) -> RoundStore:
    """The run with a driver in Flower run `flower_run`."""
    store = RoundStore(centre.engine, centre.artifacts, RUN, centre.clock)
    store.start(flower_run)
    return store


def row(centre: Centre) -> Run:
    with reading(centre.engine, "looking") as session:
        return session.get_one(Run, RUN)


def test_a_run_whose_process_ended_goes_on_in_another_flower_run(centre: Centre, transport: Starts) -> None:
    driven(centre)
    Supervisor(centre).process_ended(7, -9)
    assert (transport.started, transport.stopped) == ([RUN], [7])
    assert (row(centre).flower_run_id, row(centre).idle_starts, row(centre).state) == (
        101,
        1,
        RunState.RUNNING,
    )


def test_the_end_of_a_process_that_was_replaced_changes_nothing(centre: Centre, transport: Starts) -> None:
    driven(centre, 7)
    driven(centre, 8)
    Supervisor(centre).process_ended(7, 1)
    assert transport.started == []


@pytest.mark.parametrize("state", ["completed", "failed", "stopped"])
def test_a_run_that_is_over_is_left_alone(centre: Centre, transport: Starts, state: str) -> None:
    driven(centre).finish(cast("Any", state), "because")
    Supervisor(centre).process_ended(7, 0)
    Supervisor(centre).resume_leftovers()
    assert transport.started == []
    assert row(centre).reason == "because"


def test_too_many_drivers_without_a_commit_end_the_run_in_words(centre: Centre, transport: Starts) -> None:
    driven(centre)
    for number in range(MOST_IDLE_STARTS):
        Supervisor(centre).process_ended(row(centre).flower_run_id or 0, -11)
        assert len(transport.started) == number + 1
    Supervisor(centre).process_ended(row(centre).flower_run_id or 0, -11)
    assert len(transport.started) == MOST_IDLE_STARTS
    assert row(centre).state == RunState.FAILED
    assert f"exit code -11, and {MOST_IDLE_STARTS} times before that" in str(row(centre).reason)
    assert f"covenant run resume {RUN}" in str(row(centre).reason)


def test_while_no_superlink_takes_it_a_run_waits(centre: Centre, transport: Starts) -> None:
    """The executor says it again; meanwhile the run neither fails nor is counted."""
    driven(centre)
    transport.failing = Unreachable("the SuperLink is away")
    with pytest.raises(Unreachable):
        Supervisor(centre).process_ended(7, -9)
    assert (row(centre).state, row(centre).idle_starts, row(centre).flower_run_id) == (RunState.RUNNING, 0, 7)
    transport.failing = None
    Supervisor(centre).process_ended(7, -9)
    assert transport.started == [RUN]


def test_leftovers_are_resumed_each_on_its_own(centre: Centre, transport: Starts) -> None:
    second = RunId("run-00000000000000aa")
    with writing(centre.engine, "submitting") as session:
        session.add(submitted(second))
    driven(centre)
    Supervisor(centre).resume_leftovers()
    assert sorted(transport.started) == sorted([RUN, second])


def test_a_leftover_that_cannot_be_started_fails_with_the_reason(centre: Centre, transport: Starts) -> None:
    driven(centre)
    transport.failing = CovenantError("the SuperLink says no")
    Supervisor(centre).resume_leftovers()
    assert (row(centre).state, row(centre).reason) == (
        RunState.FAILED,
        "it could not be resumed: the SuperLink says no",
    )


def test_people_resume_what_failed_or_was_stopped_and_nothing_else(centre: Centre, transport: Starts) -> None:
    with pytest.raises(Refused, match="is submitted; only a failed or a stopped run is resumed"):
        resume(centre, RUN)
    driven(centre)
    stop(centre, RUN)
    assert (transport.stopped, row(centre).state) == ([7], RunState.STOPPED)
    resume(centre, RUN)
    assert (transport.started, row(centre).state, row(centre).reason) == ([RUN], RunState.SUBMITTED, None)
    assert row(centre).finished_at is None
    driven(centre, 101).finish("completed")
    with pytest.raises(Refused, match="is completed"):
        resume(centre, RUN)
    with pytest.raises(UsageError, match="there is no run run-00000000000000ff"):
        resume(centre, RunId("run-00000000000000ff"))


def test_without_a_superlink_a_stopped_run_stays_stopped(centre: Centre, transport: Starts) -> None:
    driven(centre)
    stop(centre, RUN)
    transport.failing = Unreachable("nobody")
    with pytest.raises(Unreachable):
        resume(centre, RUN)
    assert row(centre).state == RunState.STOPPED


def test_a_run_that_cannot_be_started_is_recorded_as_failed(centre: Centre, transport: Starts) -> None:
    transport.failing = CovenantError("the SuperLink says no")
    with pytest.raises(CovenantError, match="says no"):
        carry(centre, RUN)
    assert (row(centre).state, row(centre).reason) == (RunState.FAILED, "the SuperLink says no")


def test_an_executor_stops_claiming_when_the_disk_fails(tmp_path) -> None:
    class Desk:
        def __init__(self, _: object) -> None:
            self.claimed = 0

        def claim(self) -> None:
            raise DiskError("the disk is gone")

        def close(self) -> None:
            pass

    executor = Executor(address=cast("Any", None), home=tmp_path, desk=cast("Any", Desk))
    executor.start()
    for _ in range(100):
        if executor.failed is not None:
            break
        time.sleep(0.05)
    executor.stop()
    assert str(executor.failed) == "the disk is gone"


def test_a_launch_that_ends_when_another_coordinator_leads_takes_no_run_from_it(
    centre: Centre, transport: Starts, tmp_path: Path
) -> None:
    """The new leader has given the run a driver on its own SuperLink; the Flower run that was started here is ended."""
    start = transport.start_run

    def deposed(run: RunId) -> int:
        with writing(centre.engine, "taking the lead elsewhere") as session:
            row = session.get_one(LeadershipRow, 1)
            row.holder, row.home, row.until = "second", "elsewhere", datetime(2100, 1, 1, tzinfo=UTC)
            session.get_one(Run, RUN).flower_run_id = 777
        return start(run)

    transport.start_run = deposed  # type: ignore[method-assign]
    here = replace(centre, settings=cast("Any", SimpleNamespace(home=tmp_path)))
    with pytest.raises(Refused, match="another coordinator leads: second"):
        carry(here, RUN)
    assert transport.stopped == [101]
    with reading(centre.engine, "looking") as session:
        assert session.get_one(Run, RUN).flower_run_id == 777
