"""The list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.pages import run_tables as tables
from coordinator.console.reads import runs as reads
from coordinator.console.reads.runs import RunRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.db.schema import FINAL_STATES, RunState
from strategies.errors import UsageError

LIST: Final = "covenant.control.v1.Runs/ListRuns"
_GOING: Final = tuple(each for each in RunState if each not in FINAL_STATES)
_FILTERS: Final[dict[str, tuple[RunState, ...]]] = {
    "going": _GOING,
    **{str(each): (each,) for each in (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED)},
}
_MOST_IN_FILE: Final = 1000


def show_all(visit: Visit) -> Response:
    """The list. Raises UsageError for a filter that there is not."""
    state, plan = visit.query.get("state", ""), visit.query.get("plan", "").strip()
    if state and state not in _FILTERS:
        raise UsageError(f"runs are listed by state as one of {', '.join(_FILTERS)}, or all of them")
    as_file = visit.query.get("format") == "csv"
    found = reads.page(
        visit.centre.engine,
        after=visit.query.get("after") or None,
        before=visit.query.get("before") or None,
        states=_FILTERS.get(state, ()),
        plan=plan or None,
        limit=_MOST_IN_FILE if as_file else reads.MOST,
    )
    table = runs_table(
        found.rows,
        newer=None if found.newer is None else visit.with_query(before=found.newer, after=None),
        older=None if found.older is None else visit.with_query(after=found.older, before=None),
        file_rows=_MOST_IN_FILE,
        empty="No run is like that. Look at all states, or for another plan."
        if state or plan
        else _no_runs(visit),
    )
    if as_file:
        return visit.table(table)
    return visit.page(
        "runs.html",
        runs=table,
        csv=visit.with_query(format="csv"),
        states=list(_FILTERS),
        state=state,
        plan=plan,
    )


def runs_table(
    rows: Sequence[RunRow],
    *,
    empty: str,
    newer: str | None = None,
    older: str | None = None,
    file_rows: int | None = None,
) -> Table:
    """Runs as every list shows them."""
    return Table(
        name="runs",
        caption="Runs, the latest first",
        columns=[
            Column("Run"),
            Column("Plan"),
            Column("State"),
            Column("Rounds", number=True),
            Column("Submitted"),
            Column("Ended"),
            Column("Why"),
        ],
        rows=[
            (
                Cell(each.run, href=f"/runs/{each.run}", code=True),
                Cell(each.plan),
                Cell(str(each.state), tone=tables.STATE_TONES[each.state]),
                Cell(each.committed, text=f"{each.committed} of {each.rounds}"),
                Cell(each.submitted_at),
                Cell(each.finished_at),
                tables.shortened(each.reason or ""),
            )
            for each in rows
        ],
        empty=empty,
        newer=newer,
        older=older,
        file_rows=file_rows,
    )


def _no_runs(visit: Visit) -> str:
    if visit.may("covenant.control.v1.Runs/LaunchRun"):
        return "No run was launched yet. Propose a plan with `covenant plan sign --access`, have it approved, and launch it from the page of the plan."
    return "No run was launched yet. An engineer proposes a plan; once its officers have approved it, it is launched from the page of the plan."


ROUTES: Final = (Route("/runs", show_all, LIST),)
