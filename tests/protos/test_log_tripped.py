"""What a log may say of a run that its plan's gate ended; each entry that could not be so is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from protos.documents import read_document
from protos.log_entries import LogEntry
from protos.log_run_events import (
    AttemptVoided,
    RoundCommitted,
    RoundEvaluated,
    RunEnded,
    RunEvent,
    RunResumed,
    SumSettled,
    Tripped,
)
from protos.log_runs import RunStory
from protos.plan import Plan
from protos.plan_draft import kind_of, written
from strategies.errors import Refused
from strategies.ids import RunId, site_name
from tests.client.loans_for_tests import CONTRACT

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
RUN = RunId("run-0123456789abcdef")
DIGEST = "ab" * 32
TRIP = Tripped(round=1, attempt=1, norm=3.5)


def plan(gate: str = ", gate: {update_norm: 2.5}") -> Plan:
    text = written(kind_of("none"), CONTRACT, name="gated", purpose="x", members="demo@1", sites=SITES)
    assert "colluding: 1}" in text
    return read_document(text.replace("colluding: 1}", f"colluding: 1{gate}}}"), Plan, "plan.yaml")


def story(gated: Plan | None = None) -> RunStory:
    """A run whose first sum of updates is settled."""
    made = RunStory(
        run=RUN,
        plan=gated or plan(),
        contract=cast("Any", DIGEST),
        approved=cast("Any", None),
        releases=None,
        launch=0,
        members=cast("Any", None),
        witnesses=set(SITES),
        prepared=True,
    )
    made.take(
        SumSettled(run=RUN, stage="train", round=1, attempt=1, sites=SITES, statement=cast("Any", DIGEST))
    )
    return made


def ended(tripped: Tripped | None, state: Any = "failed") -> RunEnded:
    return RunEnded(run=RUN, state=state, reason="the gate", tripped=tripped)


def commit(attempt: int = 1, number: int = 1) -> RoundCommitted:
    digests: dict[str, Any] = dict.fromkeys(("statement", "aggregate", "model", "optimizer"), DIGEST)
    return RoundCommitted(run=RUN, round=number, attempt=attempt, roster=SITES, survivors=SITES, **digests)


def test_a_round_that_was_above_the_gate_is_never_committed() -> None:
    run = story()
    run.take(ended(TRIP))
    run.take(RunResumed(run=RUN))
    with pytest.raises(Refused, match="commits round 1, whose sum was above the plan's gate"):
        run.take(commit())
    run.take(ended(TRIP))


def test_the_same_round_is_committed_where_no_gate_ended_the_run() -> None:
    """The control."""
    run = story()
    run.take(ended(None))
    run.take(RunResumed(run=RUN))
    run.take(commit())
    assert run.committed == 1


def test_a_norm_beyond_float64_is_above_every_gate() -> None:
    run = story()
    run.take(ended(Tripped(round=1, attempt=1)))
    assert run.tripped == {("train", 1, 1)}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (ended(Tripped(round=1, attempt=1, norm=2.5)), "which the plan's gate of 2.5 admits"),
        (ended(Tripped(round=1, attempt=1, norm=0.0)), "which the plan's gate of 2.5 admits"),
        (ended(Tripped(round=2, attempt=1, norm=9.0)), "attempt 1 at round 2, which was not opened"),
        (ended(Tripped(round=1, attempt=2, norm=9.0)), "attempt 2 at round 1, which was not opened"),
        (ended(TRIP, "stopped"), "is stopped by a gate"),
    ],
)
def test_what_no_gate_could_have_ended(what: RunEvent, words: str) -> None:
    with pytest.raises(Refused, match=words):
        story().take(what)


def test_a_plan_without_a_gate_is_ended_by_none() -> None:
    with pytest.raises(Refused, match="its plan has no gate"):
        story(plan("")).take(ended(TRIP))


def test_a_round_that_is_committed_was_not_above_the_gate() -> None:
    run = story()
    run.take(commit())
    with pytest.raises(Refused, match="was not opened, or was committed"):
        run.take(ended(TRIP))


def test_an_entry_is_the_same_after_it_was_written_down() -> None:
    """Canonical JSON has one kind of number; an end without a gate has the bytes that it always had."""
    whole = ended(Tripped(round=1, attempt=1, norm=3.0))
    entry = LogEntry(at=datetime(2026, 1, 1, tzinfo=UTC), what=whole)
    assert LogEntry.from_canonical(entry.canonical).what == whole
    assert b"tripped" not in LogEntry(at=entry.at, what=ended(None)).canonical


# A round above the gate is had in no other attempt either: two sums of one round differ by one site's update.


def voided(attempt: int = 1) -> AttemptVoided:
    return AttemptVoided(run=RUN, round=1, attempt=attempt, reason="again")


def settled(attempt: int, stage: Any = "train", number: int = 1) -> SumSettled:
    statement = cast("Any", DIGEST) if stage == "train" else None
    return SumSettled(run=RUN, stage=stage, round=number, attempt=attempt, sites=SITES, statement=statement)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_attempt_above_the_gate_is_not_voided(state: str) -> None:
    run = story()
    run.take(ended(TRIP))
    if state == "running":
        run.take(RunResumed(run=RUN))
    with pytest.raises(Refused, match="voids attempt 1 at round 1, whose sum was opened: it was above"):
        run.take(voided())


def test_nothing_more_is_settled_of_a_round_above_the_gate_even_where_its_attempt_had_been_given_up() -> None:
    run = story()
    run.take(ended(TRIP))
    run.take(RunResumed(run=RUN))
    run.voided.add(("train", 1, 1))  # as an auditor that takes the entry has it
    with pytest.raises(Refused, match="settles another sum of round 1, whose sum was above the plan's gate"):
        run.take(settled(2))
    run.settled["train", 1, 2] = settled(2)
    with pytest.raises(Refused, match="commits round 1, whose sum was above the plan's gate"):
        run.take(commit(attempt=2))


def test_an_attempt_that_no_gate_ended_is_voided_and_made_again() -> None:
    """The control."""
    run = story()
    run.take(ended(None))
    run.take(RunResumed(run=RUN))
    run.take(voided())
    run.take(settled(2))
    run.take(commit(attempt=2))
    assert run.committed == 1


# Sites judge a round when they are asked about its model, and of the last that is its evaluation.


def whole() -> RunStory:
    """A run with all its rounds."""
    run = story()
    for number in range(1, run.plan.training.rounds + 1):
        if number > 1:
            run.take(settled(1, number=number))
        run.take(commit(number=number))
    assert run.is_complete
    return run


def evaluated(number: int) -> list[RunEvent]:
    return [
        settled(1, "evaluate", number),
        RoundEvaluated(run=RUN, round=number, attempt=1, survivors=SITES, metrics=None),
    ]


COMPLETED = RunEnded(run=RUN, state="completed")


def test_a_run_completes_with_an_evaluation_of_its_last_round_and_be_it_without_metrics() -> None:
    run = whole()
    last = run.plan.training.rounds
    earlier = run.plan.evaluated[0]
    assert earlier < last
    for told in ([], evaluated(earlier), evaluated(last)[:1]):
        for each in told:
            run.take(each)
        with pytest.raises(Refused, match=f"completed, and round {last}, its last, was not evaluated"):
            run.take(COMPLETED)
    run.take(evaluated(last)[1])
    run.take(COMPLETED)
    assert run.state == "completed"


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_run_that_ends_otherwise_needs_no_evaluation(state: Any) -> None:
    run = whole()
    run.take(RunEnded(run=RUN, state=state))
    assert run.state == state
