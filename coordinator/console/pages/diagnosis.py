"""Why a run went as it did: what `covenant diagnose` says, as a page.

What the server processes have logged is shown to those who may stop a run; everybody else gets what the database and the log say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.pages.run import GET, STOP
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.diagnosis.diagnose import Finding, diagnose
from coordinator.diagnosis.evidence import gather, read_events
from strategies.ids import run_id

_LOG: Final = "serverapp.log"


def show(visit: Visit) -> Response:
    """The findings, the most serious first."""
    run = run_id(visit.path["run"])
    events = read_events(visit.centre.settings.logs / _LOG, run) if visit.may(STOP) else []
    evidence = gather(visit.centre.engine, run, events)
    found = diagnose(evidence)
    if visit.query.get("format") == "csv":
        return visit.table(_table(found))
    return visit.page("diagnosis.html", evidence=evidence, findings=found, with_events=visit.may(STOP))


def _table(found: Sequence[Finding]) -> Table:
    return Table(
        name="findings",
        caption="Findings",
        columns=[
            Column("Cause"),
            Column("What it means"),
            Column("Sites"),
            Column("Seen", number=True),
            Column("Evidence"),
            Column("Next"),
            Column("Runbook"),
        ],
        rows=[
            (
                Cell(each.cause),
                Cell(each.means),
                Cell(", ".join(each.sites)),
                Cell(each.seen),
                Cell(" | ".join(each.evidence)),
                Cell(" | ".join(each.next)),
                Cell(each.page),
            )
            for each in found
        ],
    )


ROUTES: Final = (Route("/runs/{run}/diagnosis", show, GET),)
