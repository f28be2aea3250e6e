"""The list of runs for pages: by key, in order, in one query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event

from coordinator.console.reads import runs
from coordinator.db import writing
from coordinator.db.schema import Round, RoundState, Run, RunState
from strategies.errors import UsageError
from strategies.ids import RunId
from tests.coordinator.conftest import DIGEST

_BEGAN = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
_STATES = (RunState.COMPLETED, RunState.FAILED, RunState.RUNNING)


def named(number: int) -> RunId:
    return RunId(f"run-{number:016x}")


@dataclass
class Statements:
    """How many statements an engine was asked."""

    count: int = 0

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", lambda *_: self._one())

    def _one(self) -> None:
        self.count += 1


@pytest.fixture
def listed(engine: Engine) -> Engine:
    """Twenty-five runs, two of each moment; run 3 has two committed rounds and a voided attempt."""
    with writing(engine, "filling") as session:
        for number in range(25):
            session.add(_run(number))
        session.flush()
        session.add(_round(1, 1, RoundState.VOIDED))
        session.add(_round(1, 2, RoundState.COMMITTED))
        session.add(_round(2, 1, RoundState.COMMITTED))
    return engine


def _run(number: int) -> Run:
    return Run(
        id=named(number),
        plan_name="odd" if number % 2 else "even",
        plan_digest=DIGEST,
        plan='{"training":{"rounds":7}}',
        contract="{}",
        members="{}",
        state=_STATES[number % 3],
        submitted_at=_BEGAN + timedelta(seconds=number // 2),
    )


def _round(number: int, attempt: int, state: RoundState) -> Round:
    done = {
        "survivors": ["west"],
        "statement_digest": DIGEST,
        "aggregate_digest": DIGEST,
        "model_digest": DIGEST,
    }
    return Round(
        run_id=named(3),
        number=number,
        attempt=attempt,
        state=state,
        roster=["west"],
        opened_at=_BEGAN,
        closed_at=_BEGAN,
        **done,
    )


def test_pages_follow_each_other_and_back(listed: Engine) -> None:
    first = runs.page(listed, limit=10)
    second = runs.page(listed, limit=10, after=first.older)
    third = runs.page(listed, limit=10, after=second.older)
    back = runs.page(listed, limit=10, before=third.newer)
    front = runs.page(listed, limit=10, before=back.newer)

    seen = [each.run for page in (first, second, third) for each in page.rows]
    assert seen == [named(number) for number in reversed(range(25))]
    assert (first.newer, third.older) == (None, None)
    assert [each.run for each in back.rows] == [each.run for each in second.rows]
    assert ([each.run for each in front.rows], front.newer) == ([each.run for each in first.rows], None)
    assert front.older == first.older


def test_a_row_counts_committed_rounds_and_asks_one_statement_a_page(listed: Engine) -> None:
    asked = Statements()
    asked.watch(listed)
    rows = runs.page(listed, limit=25).rows

    assert {each.run: (each.committed, each.rounds) for each in rows}[named(3)] == (2, 7)
    assert sum(each.committed for each in rows) == 2
    assert asked.count <= 2  # SQLite is told to begin as well


def test_filters_hold_across_pages(listed: Engine) -> None:
    first = runs.page(listed, states=[RunState.RUNNING], plan="even", limit=3)
    second = runs.page(listed, states=[RunState.RUNNING], plan="even", limit=3, after=first.older)

    assert [each.run for each in (*first.rows, *second.rows)] == [named(number) for number in (20, 14, 8, 2)]


def test_named_runs_are_read_at_once(listed: Engine) -> None:
    found = runs.of_runs(listed, [named(4), named(99), named(20)])

    assert [each.run for each in found] == [named(20), named(4)]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "~",
        "2026-11-23T11:00:00~run-0000000000000001",
        "now~run-0000000000000001",
        "2026-11-23T11:00:00+00:00~run-1",
    ],
)
def test_a_key_that_no_page_gave_is_refused(engine: Engine, key: str) -> None:
    with pytest.raises(UsageError, match="begin at the first page"):
        runs.page(engine, after=key)
