"""Where models run: all targets, rollouts and recalls."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.pages.deploy_tables import recalls_table, rollouts_table, targets_table
from coordinator.console.reads import deployments as reads
from coordinator.console.routes import Route
from coordinator.console.visit import Visit

SERVICE: Final = "covenant.deploy.v1.Deployments/"


def show(visit: Visit) -> Response:
    """Targets; rollouts and recalls for who may read those."""
    engine = visit.centre.engine
    found, more = reads.places(engine, after=visit.query.get("after"))
    tables = [
        targets_table(
            found,
            visit.with_query(after=more) if more else None,
            running=visit.may(f"{SERVICE}ListRunning"),
            chosen=visit.query.get("model", ""),
        )
    ]
    if visit.may(f"{SERVICE}ListRollouts"):
        rollouts, further = reads.rollouts(engine, after=visit.query.get("rollout"))
        tables.append(rollouts_table(rollouts, older=visit.with_query(rollout=further) if further else None))
    if visit.may(f"{SERVICE}ListRecalls"):
        tables.append(recalls_table(reads.recalls(engine)))
    return asked_for(visit, tables) or visit.page(
        "deployments.html",
        tables=[(each, link_to(visit, each)) for each in tables],
        chosen=visit.query.get("model", ""),
    )


ROUTES: Final = (Route("/deployments", show, f"{SERVICE}ListTargets"),)
