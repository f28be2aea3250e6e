"""A run that its plan's gate ended goes nowhere from there: not resumed, not restored, and its log is believed whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from coordinator.db import reading, writing
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.governance.exports import export_log
from coordinator.recovery.endings import end_open_runs, require_resumable
from coordinator.rounds.driver import Driver
from coordinator.runs import resume, stop
from protos.frames import Stage
from protos.log_audit import Audit, audit
from protos.log_entries import LogEntry
from protos.log_run_events import AttemptVoided, RunEnded, SumSettled, Tripped
from strategies.errors import Refused
from tests.coordinator.private_for_tests import Make, Private, Templates, make, private_plan, templates
from tests.coordinator.recovery_for_tests import Life, empty, restored
from tests.coordinator.test_log_export import RUN, log_of, open_again, pinned_by
from tests.coordinator.test_replay import require_same

__all__ = ["empty", "make", "templates"]

GATED = {"aggregation: {mode: secure}": "aggregation: {mode: secure, gate: {update_norm: 1.0e-6}}"}
"""Noise alone is above it."""
NO_WAY_ON = "was ended by its plan's gate at round 1, and sites open one sum a round: it cannot go on"


@pytest.fixture
def life(templates: Templates, tmp_path: Path) -> Iterator[Life]:
    """A run that was backed up before its first sum of updates, which was above the gate."""
    federation = templates.copy(private_plan(GATED))
    made = Life(federation, tmp_path, tmp_path / "early.jsonl", tmp_path / "copy.jsonl")

    def back_up_once(ask: object) -> None:
        if getattr(ask, "stage", None) is Stage.TRAIN and not made.backups.exists():
            made.back_up()

    federation.wire.before = back_up_once
    trips(federation)
    yield made
    federation.close()


def trips(federation: Private) -> None:
    with pytest.raises(Refused, match="and the plan's gate is 1e-06"):
        federation.drive()


def audited(federation: Private, engine: Engine | None = None) -> Audit:
    log = log_of(federation) if engine is None else Life(federation, Path(), Path(), Path()).log_in(engine)
    return audit([each.body for each in log.entries()], pinned_by(federation))


def told(federation: Private) -> list[object]:
    return [LogEntry.from_canonical(each.body).what for each in log_of(federation).entries()]


def attempts(engine: Engine) -> list[tuple[int, int, str, bool]]:
    """Round, attempt, state, and whether its sum could still be opened."""
    with reading(engine, "looking") as session:
        rows = session.execute(
            select(Round.number, Round.attempt, Round.state, Round.opening.is_not(None)).order_by(
                Round.attempt
            )
        )
        return [(number, attempt, state, opens) for number, attempt, state, opens in rows]


def as_before(federation: Private) -> None:
    """The tables as coordinators left them that did not close such an attempt."""
    with writing(federation.engine, "opening") as session:
        row = session.get_one(Round, (RUN, 1, 1))
        row.state, row.reason, row.closed_at = RoundState.OPEN, None, None


def test_a_run_that_its_gate_ended_is_not_resumed_and_its_log_replays(make: Make, tmp_path: Path) -> None:
    federation = make(GATED)
    trips(federation)
    before = told(federation)
    with pytest.raises(Refused, match=NO_WAY_ON):
        resume(federation.centre, RUN)
    assert told(federation) == before
    assert attempts(federation.engine) == [(1, 1, RoundState.VOIDED, False)]
    assert not [each for each in before if isinstance(each, AttemptVoided)]
    assert audited(federation).runs[RUN].tripped == {("train", 1, 1)}
    require_same(federation, str(tmp_path))


def test_a_run_that_failed_by_anything_else_is_resumed(make: Make) -> None:
    """The control: its sum was settled, and nobody has opened it."""
    federation = make(GATED)
    trips_after(federation, stopped=True)
    with reading(federation.engine, "looking") as session:
        require_resumable(session, session.get_one(Run, RUN))
    assert attempts(federation.engine) == [(1, 1, RoundState.OPEN, True)]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_driver_that_died_between_the_settled_sum_and_the_end_leaves_both_to_the_next(
    make: Make, stopped: bool, tmp_path: Path
) -> None:
    federation = make(GATED)
    trips_after(federation, stopped=stopped)
    if stopped:
        open_again(federation)
    trips(federation)
    assert attempts(federation.engine) == [(1, 1, RoundState.VOIDED, False)]
    assert [each.stage for each in told(federation) if isinstance(each, SumSettled)] == ["prepare", "train"]
    assert audited(federation).runs[RUN].tripped == {("train", 1, 1)}
    require_same(federation, str(tmp_path))


class _PowerCutError(Exception):
    pass


def trips_after(federation: Private, *, stopped: bool) -> None:
    """The driver dies with the sum settled and opened; perhaps the run is stopped then."""

    def dies(*_: object) -> None:
        raise _PowerCutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_require_gate", dies)
        with pytest.raises(_PowerCutError):
            federation.drive()
    if stopped:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(federation.centre.transport, "stop_run", lambda _: None)
            stop(federation.centre, RUN)


def test_a_restored_run_that_its_gate_ended_is_not_resumed(life: Life, empty: Engine) -> None:
    export_log(life.log, "demo", life.copy)
    assert restored(life, life.reach(life.copy), empty).ended == 0
    assert attempts(empty) == [(1, 1, RoundState.VOIDED, False)]
    with reading(empty, "looking") as session, pytest.raises(Refused, match=NO_WAY_ON):
        require_resumable(session, session.get_one(Run, RUN))
    story = audited(life.federation, empty)
    assert story.runs[RUN].tripped == {("train", 1, 1)}
    assert [each.body for each in life.log_in(empty).entries()] == [each.body for each in life.log.entries()]


def test_restore_ends_a_run_that_went_on_after_its_gate_by_nothing_that_auditors_refuse(
    life: Life, empty: Engine
) -> None:
    """Coordinators once let such a run be resumed, to end the same way."""
    open_again(life.federation)
    export_log(life.log, "demo", life.copy)
    audited(life.federation)
    assert restored(life, life.reach(life.copy), empty).ended == 1
    audited(life.federation, empty)
    (last,) = life.log_in(empty).entries(life.log.size())
    what = LogEntry.from_canonical(last.body).what
    assert isinstance(what, RunEnded)
    assert (what.state, what.tripped) == ("failed", None)
    with reading(empty, "looking") as session, pytest.raises(Refused, match=NO_WAY_ON):
        require_resumable(session, session.get_one(Run, RUN))


def test_a_backup_from_between_the_settled_sum_and_the_end_is_restored_to_a_run_that_may_go_on(
    make: Make, tmp_path: Path, empty: Engine
) -> None:
    """Nobody knows there that its sum is above the gate; whoever opens it will."""
    federation = make(GATED)
    trips_after(federation, stopped=False)
    life = Life(federation, tmp_path, tmp_path / "early.jsonl", tmp_path / "copy.jsonl")
    life.back_up()
    export_log(life.log, "demo", life.early)
    assert restored(life, life.reach(life.early), empty).ended == 1
    audited(federation, empty)
    assert attempts(empty)[0] == (1, 1, RoundState.OPEN, True)
    with reading(empty, "looking") as session:
        require_resumable(session, session.get_one(Run, RUN))


def test_tables_in_which_such_an_attempt_was_left_open_tell_of_none_that_is_voided(make: Make) -> None:
    federation = make(GATED)
    trips(federation)
    as_before(federation)
    with pytest.raises(Refused, match=NO_WAY_ON):
        resume(federation.centre, RUN)
    open_again(federation)
    with writing(federation.engine, "restoring") as session:
        entries = list(end_open_runs(session, federation.clock.wall(), "restored"))
        assert session.get_one(Run, RUN).state == RunState.FAILED
    assert entries == [RunEnded(run=RUN, state="failed", reason="restored")]
    assert attempts(federation.engine) == [(1, 1, RoundState.VOIDED, False)]


def test_a_driver_closes_the_attempt_that_its_gate_ends_the_run_by_before_any_other_is_voided(
    make: Make,
) -> None:
    """Also where nothing is left with which it could be opened again."""
    federation = make(GATED)
    trips_after(federation, stopped=False)
    with writing(federation.engine, "losing") as session:
        session.get_one(Round, (RUN, 1, 1)).opening = None
    federation.store.finish("failed", "the gate", Tripped(round=1, attempt=1, norm=1.0))
    assert attempts(federation.engine) == [(1, 1, RoundState.VOIDED, False)]
    audited(federation)
