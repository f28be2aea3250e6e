"""What needs whoever looks, now; and below it the runs that go, and the latest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.attention import budgets, deployments, halts, loop, models, plans, runs, seals, terms
from coordinator.console.attention.matter import Looking, Matter, Part, Urgency
from coordinator.console.pages.run_tables import STATE_TONES
from coordinator.console.reads import runs as run_reads
from coordinator.console.reads.approved import waiting
from coordinator.console.reads.runs import RunRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.visit import Visit
from coordinator.db.schema import FINAL_STATES, RunState
from coordinator.documents import read_members

_FEW: Final = 10
_PLANS: Final = "covenant.governance.v1.Plans/ListPlans"
_PARTS: Final[Sequence[Part]] = (
    halts.find,
    seals.find,
    deployments.find,
    plans.find,
    models.find,
    loop.find,
    runs.find,
    budgets.find,
    terms.find,
)
_TONES: Final[dict[Urgency, Tone]] = {Urgency.NOW: "bad", Urgency.SOON: "warn", Urgency.TO_KNOW: "quiet"}


def show(visit: Visit) -> Response:
    """The overview; `?format=csv` is what needs whoever looks, or with `table=latest-runs` the runs."""
    engine = visit.centre.engine
    going = run_reads.page(engine, states=[each for each in RunState if each not in FINAL_STATES], limit=_FEW)
    latest = _runs("latest-runs", "Latest runs", run_reads.page(engine, limit=_FEW).rows)
    if visit.query.get("format") == "csv" and visit.query.get("table") == latest.name:
        return visit.table(latest)
    found = matters(visit)
    if visit.query.get("format") == "csv":
        return visit.table(_as_table(found))
    return visit.page(
        "overview.html",
        desk_needed=any(each.desk for each in found),
        matters=[(each, _TONES[each.urgency]) for each in found],
        going=_runs("going-runs", "Runs that go now", going.rows),
        latest=latest,
    )


def matters(visit: Visit) -> Sequence[Matter]:
    """All that needs whoever looks, the most urgent first."""
    trusted, now = read_members(visit.centre.settings)[1], visit.now
    looking = Looking(
        visit=visit,
        now=now,
        trusted=trusted,
        plans=tuple(waiting(visit.centre.engine, trusted, now)) if visit.may(_PLANS) else (),
    )
    return sorted((each for part in _PARTS for each in part(looking)), key=lambda each: each.order)


def _as_table(found: Sequence[Matter]) -> Table:
    return Table(
        name="needs-you",
        caption="What needs you now",
        columns=[Column("Urgency"), Column("What"), Column("What to do"), Column("Where"), Column("Since")],
        rows=[
            (
                Cell(each.urgency.words),
                Cell(each.what),
                Cell(each.todo),
                Cell(f"your desk, {each.path}" if each.desk else each.path),
                Cell(each.at),
            )
            for each in found
        ],
    )


def _runs(name: str, caption: str, rows: Sequence[RunRow]) -> Table:
    return Table(
        name=name,
        caption=caption,
        columns=[
            Column("Run"),
            Column("Plan"),
            Column("State"),
            Column("Rounds", number=True),
            Column("Submitted"),
            Column("Ended"),
        ],
        rows=[
            (
                Cell(each.run, href=f"/runs/{each.run}"),
                Cell(each.plan),
                Cell(str(each.state), tone=STATE_TONES[each.state]),
                Cell(each.committed, text=f"{each.committed} of {each.rounds}"),
                Cell(each.submitted_at),
                Cell(each.finished_at),
            )
            for each in rows
        ],
        empty="No run was launched yet. An engineer proposes a plan with `covenant plan sign --access`, officers approve it at their desks, and the engineer launches it.",
    )


ROUTES: Final = (Route("/", show, "covenant.control.v1.Runs/ListRuns"),)
