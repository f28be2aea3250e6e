"""Whoever follows a run sees each view of it, and is told where it did not complete."""

from __future__ import annotations

import pytest

from coordinator.db.schema import RunState
from coordinator.following import follow
from coordinator.runs import RunView
from strategies.errors import CovenantError
from strategies.ids import run_id

RUN = run_id("run-0123456789abcdef")


def seen(state: RunState, committed: int, reason: str | None = None) -> RunView:
    return RunView(run=RUN, plan="loans", state=state, reason=reason, rounds=2, committed=committed)


def test_every_view_is_looked_at_and_the_last_one_is_what_came_of_it() -> None:
    views = [seen(RunState.RUNNING, 0), seen(RunState.RUNNING, 1), seen(RunState.COMPLETED, 2)]
    looked: list[RunView] = []
    assert follow(iter(views), looked.append) is views[-1]
    assert looked == views


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ([seen(RunState.RUNNING, 1), seen(RunState.FAILED, 1, "too few sites")], "failed: too few sites"),
        ([seen(RunState.STOPPED, 1)], "stopped: no reason was recorded"),
        ([], "told nothing of the run; ask again with `covenant run watch`"),
    ],
)
def test_a_run_that_did_not_complete_is_an_error(views: list[RunView], sentence: str) -> None:
    with pytest.raises(CovenantError, match=sentence):
        follow(views, lambda _: None)


def test_what_whoever_looks_raises_ends_the_following() -> None:
    def look(_: RunView) -> None:
        raise CovenantError("an agent has ended")

    with pytest.raises(CovenantError, match="an agent has ended"):
        follow([seen(RunState.RUNNING, 0), seen(RunState.COMPLETED, 2)], look)
