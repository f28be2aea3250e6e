"""The desk's pages: what waits for the officer, a plan, a version of a model, halts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console.desk import ceiling_pages, halts, model_pages, models, plan_pages, plans
from coordinator.console.desk.looking import Looked
from coordinator.console.desk.parts import checks_table, require_typed
from coordinator.console.desk.visit import DeskVisit, changed
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words
from coordinator.governance.halts import HaltView
from coordinator.office.standing import PlanStanding
from protos.halt_lifts import LIFT_RULE
from protos.halts import SHOWN
from protos.membership import Officer
from strategies.errors import Refused, UsageError

_MOST: Final = 500
Show = Callable[[DeskVisit], Response]


def home(visit: DeskVisit) -> Response:
    """What waits for the officer."""
    looked = visit.session.look()
    officer = looked.officer
    sound = looked.checks.hold_all
    return visit.page(
        "home.html",
        checks=checks_table(looked.checks),
        failed=looked.checks.failed,
        officer=officer,
        plans=_plans(visit, officer) if sound else None,
        models=_models(visit) if sound else None,
        halts=_halts(visit),
    )


def _plans(visit: DeskVisit, officer: Officer | None) -> Table:
    home = visit.session.home
    latest = _allowed(visit.session.desk.plans)
    found = [each for each in latest if _waits_for(each, officer)]
    return Table(
        name="plans",
        caption="Plans that wait for you"
        if len(latest) < _MOST
        else words("Plans that wait for you, of the {most} that were proposed last", most=_MOST),
        columns=[Column("Plan"), Column("Digest"), Column("Author"), Column("Approved by")],
        rows=[
            (
                Cell(each.plan, href=f"{home}/plans/{each.digest}?contract={each.contract_digest}"),
                Cell(each.digest, text=each.digest[: tables.SHOWN], code=True),
                Cell(each.author),
                Cell(", ".join(one.officer for one in each.approvals) or None),
            )
            for each in found
        ],
        empty="No plan waits for your approval.",
    )


def _waits_for(standing: PlanStanding, officer: Officer | None) -> bool:
    return officer is not None and any(officer.name in each.could for each in standing.missing)


def _models(visit: DeskVisit) -> Table:
    home = visit.session.home
    return Table(
        name="models",
        caption="Versions of models that wait for approval",
        columns=[Column("Version"), Column("From"), Column("Digest")],
        rows=[
            (
                Cell(each.ref, href=f"{home}/models/{each.ref}"),
                Cell(each.run_id),
                Cell(each.digest, text=each.digest[: tables.SHOWN], code=True),
            )
            for each in _allowed(lambda: models.waiting(visit.session))
        ],
        empty="No version waits for approval.",
    )


def _halts(visit: DeskVisit) -> Table:
    return Table(
        name="halts",
        caption="Halts that stand",
        columns=[
            Column("Halt"),
            Column("What"),
            Column("By"),
            Column("Why"),
            Column("Since"),
            Column("State"),
        ],
        rows=[_halt_row(each, visit.session.home) for each in halts.standing(visit.session)],
        empty="Nothing is halted.",
    )


def _halt_row(each: HaltView, home: str) -> Sequence[Cell]:
    order = each.order
    return (
        Cell(order.id, text=order.id[:SHOWN], code=True, href=f"{home}/halts/{order.id}"),
        Cell(order.what),
        Cell(order.by.words),
        Cell(order.reason),
        Cell(each.halted_at),
        Cell(each.state, tone="bad"),
    )


def _allowed(make: Callable[[], Iterable[Any]]) -> Sequence[Any]:
    """The first of a list; nothing where the officer's role does not read it."""
    try:
        return list(islice(make(), _MOST))
    except Refused:
        return ()


# --- halts ------------------------------------------------------------------------------------------------------------


def give_halt(visit: DeskVisit) -> Response:
    """Halt, with the officer's key."""
    if visit.form.get("confirmed", "").strip() != "halt":
        raise UsageError("nothing is halted: type the word `halt` to confirm it")
    officer = visit.session.look().officer
    form = visit.form
    given = halts.give(
        visit.session, officer, form.get("scope", ""), form.get("target", ""), form.get("reason", "")
    )
    return visit.go("/", f"{given.order.what} is halted")


def halt(visit: DeskVisit) -> Response:
    """A halt that stands."""
    looked = visit.session.look()
    view = halts.halt_at_desk(visit.session, looked, visit.path["halt"])
    return _halt_page(visit, looked, view)


def _halt_page(
    visit: DeskVisit,
    looked: Looked,
    view: HaltView | None,
    *,
    status: int = 200,
    differs: Sequence[str] = (),
) -> Response:
    officer = looked.officer
    may = officer is not None and bool(set(officer.roles) & set(LIFT_RULE.roles))
    return visit.page(
        "halt.html",
        status=status,
        title=visit.path["halt"][:SHOWN],
        checks=checks_table(looked.checks),
        failed=looked.checks.failed,
        halt=view,
        differs=differs,
        shown="" if view is None else json.dumps(halts.shown(view)),
        may=may,
        rule=LIFT_RULE.words,
        typed_digits=None if view is None else view.order.id[: plans.TYPED],
    )


def lift_halt(visit: DeskVisit) -> Response:
    """Say that a halt may be lifted."""
    session = visit.session
    looked = session.look()
    before = visit.shown()
    view = halts.halt_at_desk(session, looked, visit.path["halt"])
    if view is None:
        return _halt_page(visit, looked, view, status=409)
    if differs := changed(before, halts.shown(view)):
        return _halt_page(visit, looked, view, status=409, differs=differs)
    require_typed(visit, view.order.id[: plans.TYPED])
    said = halts.lift(session, view, looked, visit.form.get("reason", ""))
    now = session.desk.say_lift(view.order.id, said)
    return visit.go("/", f"You said that halt {view.order.id[:SHOWN]} may be lifted: it {now.state}")


ROUTES: Final[Sequence[tuple[str, str, Show]]] = (
    ("GET", "/", home),
    ("GET", "/plans/{plan}", plan_pages.plan),
    ("POST", "/plans/{plan}/approve", plan_pages.approve_plan),
    ("GET", "/models/{model}", model_pages.model),
    ("POST", "/models/{model}/approve", model_pages.approve_model),
    *ceiling_pages.ROUTES,
    ("POST", "/halts", give_halt),
    ("GET", "/halts/{halt}", halt),
    ("POST", "/halts/{halt}/lift", lift_halt),
)
