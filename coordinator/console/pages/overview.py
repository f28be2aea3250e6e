"""What needs whoever looks, now."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from coordinator.console.pages.halt import halts_table
from coordinator.console.reads import runs as reads
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit

_FEW: Final = 10


def show(visit: Visit) -> Response:
    """The overview."""
    runs = Table(
        name="latest-runs",
        caption="Latest runs",
        columns=[Column("Run"), Column("Plan"), Column("State"), Column("Rounds", number=True)],
        rows=[
            [
                Cell(each.run, href=f"/runs/{each.run}"),
                Cell(each.plan),
                Cell(each.state),
                Cell(each.committed, text=f"{each.committed} of {each.rounds}"),
            ]
            for each in reads.page(visit.centre.engine, limit=_FEW).rows
        ],
        empty="No run was launched yet. An engineer proposes a plan with `covenant plan sign --access`.",
    )
    return visit.page("overview.html", halts=halts_table(visit, standing=True), runs=runs)


ROUTES: Final = (Route("/", show, "covenant.control.v1.Runs/ListRuns"),)
