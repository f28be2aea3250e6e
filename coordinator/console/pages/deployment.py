"""One target: what serves there and what is on trial, its figures live, its rollouts and orders, and what can be decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.pages.deploy_tables import (
    orders_table,
    recalls_table,
    rollouts_table,
    state_of,
    step_words,
    version_cell,
)
from coordinator.console.pages.deployment_live import live_of
from coordinator.console.pages.deployments import SERVICE
from coordinator.console.reads import deployments as reads
from coordinator.console.reads.deployments import Place
from coordinator.console.reads.models import releasable
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Table
from coordinator.console.visit import Visit
from protos.rollouts import Canary, RolloutRules, State, standing_of

START: Final = f"{SERVICE}StartRollout"
PROMOTE: Final = f"{SERVICE}PromoteRollout"
ROLL_BACK: Final = f"{SERVICE}RollBack"
RENEW: Final = f"{SERVICE}RenewRelease"
RECALL: Final = f"{SERVICE}RecallModel"
_ROLLOUTS: Final = f"{SERVICE}ListRollouts"


def show(visit: Visit) -> Response:
    """The page of a target."""
    return page_of(visit, reads.place(visit.centre.engine, visit.path["target"]))


def page_of(visit: Visit, place: Place, *, changed: Table | None = None) -> Response:
    """The page; with `changed`, the orders that came since somebody looked who wanted to decide something."""
    tables = _tables(visit, place.view.name)
    live = visit.may(_ROLLOUTS)
    return asked_for(visit, tables) or visit.page(
        "deployment.html",
        status=200 if changed is None else 409,
        changed=changed,
        place=place,
        facts=_facts(visit, place),
        tables=[(each, link_to(visit, each)) for each in tables],
        may=_may(visit, place),
        back=None if place.newest is None else reads.goes_back_to(visit.centre.engine, place.newest),
        following=_following(place),
        versions=[each.ref for each in releasable(visit.centre.engine)] if visit.may(START) else [],
        chosen=visit.query.get("model", ""),
        rules=RolloutRules(),
        live=live_of(visit, place) if live and visit.query.get("live") else None,
        watches=live and place.view.kind == "local",
    )


def show_live(visit: Visit) -> Response:
    """The figures of a target's arms, as its service tells them now: a part of its page."""
    place = reads.place(visit.centre.engine, visit.path["target"])
    if not visit.partial:
        return visit.go(f"/deployments/{place.view.name}?live=1")
    return visit.page("deployment_live.html", live=live_of(visit, place))


def _tables(visit: Visit, target: str) -> Sequence[Table]:
    engine, tables = visit.centre.engine, list[Table]()
    if visit.may(_ROLLOUTS):
        found, further = reads.rollouts(engine, target, after=visit.query.get("rollout"))
        tables.append(rollouts_table(found, older=visit.with_query(rollout=further) if further else None))
    orders, more = reads.orders(engine, target, after=visit.query.get("order"))
    tables.append(orders_table(orders, older=visit.with_query(order=more) if more else None))
    if visit.may(f"{SERVICE}ListRecalls"):
        tables.append(recalls_table(reads.recalls(engine, target=target)))
    return tables


def _facts(visit: Visit, place: Place) -> Sequence[tuple[str, Cell]]:
    facts = [
        ("State", state_of(place)),
        ("Newest order", Cell(place.view.revision)),
        ("Kind", Cell(place.view.kind)),
        ("Release ends", Cell(place.view.expires)),
        ("Added", Cell(place.view.added_at)),
        ("Added by", Cell(place.view.added_by)),
    ]
    if not visit.may(f"{SERVICE}ListRunning"):
        return facts
    stable, trial = place.stable, place.challenger
    found = place.under_way
    told = [
        ("Serves", Cell(None) if stable is None else version_cell(stable.model, stable.version)),
        ("Since", Cell(None if stable is None else stable.since)),
        ("Digest", Cell(None) if stable is None else Cell(stable.digest, text=stable.digest[:12], code=True)),
        ("On trial", Cell(None) if trial is None else version_cell(trial.model, trial.version)),
    ]
    if found is not None:
        words = f"{found.ref}: {step_words(found.state, found.share)}"
        told.append(("Under way", Cell(words)))
    return [*told, *facts]


def _may(visit: Visit, place: Place) -> Mapping[str, Any]:
    """What whoever looks is offered here, as things stand."""
    settled = place.under_way is None and not place.view.waits
    return {
        "start": visit.may(START) and settled,
        "promote": visit.may(PROMOTE) and place.under_way is not None and not place.view.waits,
        "roll_back": visit.may(ROLL_BACK) and place.newest is not None,
        "renew": visit.may(RENEW) and settled and place.serving is not None,
        "recall": visit.may(RECALL) and (place.stable is not None or place.challenger is not None),
    }


def _following(place: Place) -> str | None:
    """What the rules of the rollout under way have next."""
    if place.under_way is None:
        return None
    now = standing_of(State(place.under_way.state), place.under_way.share)
    step = RolloutRules.model_validate(place.under_way.rules).after(now)
    return f"canary {step.share:.0%}" if isinstance(step, Canary) else "full"


ROUTES: Final = (
    Route("/deployments/{target}", show, f"{SERVICE}ListTargets"),
    Route("/deployments/{target}/live", show_live, _ROLLOUTS),
)
