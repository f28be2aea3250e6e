"""The desk's pages: what waits for the officer, a plan, a version of a model, halts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console.desk import halts, models, plans
from coordinator.console.desk.accounts import expected
from coordinator.console.desk.checks import Checks
from coordinator.console.desk.looking import Looked
from coordinator.console.desk.visit import DeskVisit, changed
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.governance.halts import HaltView
from coordinator.office.standing import PlanStanding
from protos.halt_lifts import LIFT_RULE
from protos.halts import SHOWN
from protos.membership import Officer
from protos.plan_page import page as words_of
from strategies.errors import Refused, UsageError

_MOST: Final = 500
_DIGEST_DIGITS: Final = 64
_TONES: Final[dict[str, Tone]] = {"good": "good", "bad": "bad", "open": "quiet"}
_SAID: Final = {"good": "holds", "bad": "does not hold", "open": "not looked at"}
Show = Callable[[DeskVisit], Response]


def checks_table(checks: Checks) -> Table:
    """The checks, one a row."""
    return Table(
        name="checks",
        caption="What this desk has checked",
        columns=[Column("Check"), Column("Result"), Column("What was found")],
        rows=[
            (Cell(each.name), Cell(_SAID[each.state], tone=_TONES[each.state]), Cell(each.words))
            for each in checks.made
        ],
    )


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
    found = [each for each in _allowed(visit.session.desk.plans) if _waits_for(each, officer)]
    return Table(
        name="plans",
        caption="Plans that wait for you",
        columns=[Column("Plan"), Column("Digest"), Column("Author"), Column("Approved by")],
        rows=[
            (
                Cell(each.plan, href=f"/plans/{each.digest}?contract={each.contract_digest}"),
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
    return Table(
        name="models",
        caption="Versions of models that wait for approval",
        columns=[Column("Version"), Column("From"), Column("Digest")],
        rows=[
            (
                Cell(each.ref, href=f"/models/{each.ref}"),
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
        rows=[_halt_row(each) for each in halts.standing(visit.session)],
        empty="Nothing is halted.",
    )


def _halt_row(each: HaltView) -> Sequence[Cell]:
    order = each.order
    return (
        Cell(order.id, text=order.id[:SHOWN], code=True, href=f"/halts/{order.id}"),
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


# --- plans ------------------------------------------------------------------------------------------------------------


def plan(visit: DeskVisit) -> Response:
    """A plan, as it would be signed."""
    looked = visit.session.look()
    view = plans.plan_at_desk(visit.session, looked, *_digests(visit))
    return _plan_page(visit, view)


def _digests(visit: DeskVisit) -> tuple[str, str]:
    """The digests of plan and contract, whole: what is signed is not named by its first digits."""
    names = visit.path["plan"], visit.form.get("contract") or visit.query.get("contract", "")
    for what, each in zip(("plan", "contract"), names, strict=True):
        if len(each) != _DIGEST_DIGITS or set(each) - set("0123456789abcdef"):
            raise UsageError(
                f"name the {what} by all {_DIGEST_DIGITS} digits of its digest; open it from the list of what waits for you"
            )
    return names


def _plan_page(
    visit: DeskVisit, view: plans.PlanAtDesk, differs: Sequence[str] = (), status: int = 200
) -> Response:
    found, before = view.found, view.before
    context: dict[str, Any] = {
        "view": view,
        "checks": checks_table(view.checks),
        "failed": view.checks.failed,
        "differs": differs,
    }
    if found is None or view.standing is None:
        return visit.page(
            "plan.html", status=status, found=None, title=visit.path["plan"][: tables.SHOWN], **context
        )
    cost = expected(visit.session.desk, found.plan, found.contract)
    return visit.page(
        "plan.html",
        status=status,
        **context,
        title=found.plan.name,
        found=found,
        identity=tables.content_facts(found.plan, found.contract),
        canonical=found.plan.canonical.decode(),
        contract_text=found.contract.canonical.decode(),
        words=words_of(found.plan, found.contract),
        changes=None
        if view.changes is None or before is None
        else tables.changes_table(view.changes, f"plan {before.words}"),
        statements=tables.statements_table(found.plan.digest, found.contract.digest, found.evidence),
        forecast=tables.forecast_table(cost.forecast),
        refusals=cost.forecast.refusals,
        chart_of=tables.forecast_chart(cost.forecast),
        short=cost.short,
        verdicts=tables.verdicts_table(visit.session.desk.policies.judge_plan(found)),
        newer=None if view.newest in {None, found.plan.digest} else view.newest,
        shown=json.dumps(view.shown),
        typed_digits=found.plan.digest[: plans.TYPED],
        path=f"/plans/{found.plan.digest}",
    )


def approve_plan(visit: DeskVisit) -> Response:
    """Sign what was shown, if it is there still and every check holds, and hand it in."""
    session, before = visit.session, visit.shown()
    looked = session.look()
    view = plans.plan_at_desk(session, looked, *_digests(visit))
    if not view.checks.hold_all:
        return _plan_page(visit, view, status=409)
    if differs := changed(before, view.shown):
        return _plan_page(visit, view, differs, status=409)
    _require_typed(visit, visit.path["plan"][: plans.TYPED])
    said = plans.sign(session, view, looked, visit.form.get("role", ""))
    session.desk.approve(said)
    return visit.go(
        f"/plans/{said.plan}?contract={said.contract}",
        f"You approved it as {said.role}, until {said.expires:%Y-%m-%d %H:%M} UTC. The coordinator took it; below is what the log has.",
    )


def _require_typed(visit: DeskVisit, word: str) -> None:
    if visit.form.get("confirmed", "").strip() != word:
        raise UsageError(f"nothing was signed: type {word}, the first digits of the digest, to confirm it")


# --- models -----------------------------------------------------------------------------------------------------------


def model(visit: DeskVisit) -> Response:
    """A version, as it would be signed."""
    looked = visit.session.look()
    return _model_page(visit, models.model_at_desk(visit.session, looked, _ref(visit)))


def _ref(visit: DeskVisit) -> str:
    name, _, number = visit.path["model"].partition("@")
    if not name or not (number.isascii() and number.isdecimal()):
        raise UsageError("name the version as NAME@NUMBER")
    return f"{name}@{number}"


def _model_page(
    visit: DeskVisit, view: models.ModelAtDesk, differs: Sequence[str] = (), status: int = 200
) -> Response:
    subject, found = view.subject, view.found
    files = Table(
        name="files",
        caption="Its files",
        columns=[Column("File"), Column("SHA-256")],
        rows=[]
        if found is None
        else [(Cell(name), Cell(each, code=True)) for name, each in found.version.artifacts.items()],
    )
    gates = Table(
        name="gates",
        caption="What the gate said, by the log",
        columns=[Column("Gate"), Column("Result"), Column("Why")],
        rows=[]
        if view.verdict is None
        else [
            (
                Cell(each.gate.words),
                Cell("passed" if each.passed else "failed", tone="good" if each.passed else "bad"),
                Cell(each.reason or None),
            )
            for each in view.verdict.gates
        ],
    )
    given = Table(
        name="given",
        caption="Approvals, by the log",
        columns=[Column("Officer"), Column("As"), Column("Good until")],
        rows=[(Cell(each.officer), Cell(str(each.role)), Cell(each.expires)) for each in view.given],
        empty="Nobody has approved it yet.",
    )
    return visit.page(
        "model.html",
        status=status,
        title=_ref(visit),
        view=view,
        checks=checks_table(view.checks),
        failed=view.checks.failed,
        differs=differs,
        subject=subject,
        files=files,
        gates=gates,
        given=given,
        shown=json.dumps(view.shown),
        typed_digits="" if subject is None else subject.digest[: plans.TYPED],
        path=f"/models/{_ref(visit)}",
    )


def approve_model(visit: DeskVisit) -> Response:
    """Sign the version that was shown, and hand it in."""
    session, before = visit.session, visit.shown()
    looked = session.look()
    view = models.model_at_desk(session, looked, _ref(visit))
    if not view.checks.hold_all or view.subject is None:
        return _model_page(visit, view, status=409)
    if differs := changed(before, view.shown):
        return _model_page(visit, view, differs, status=409)
    _require_typed(visit, view.subject.digest[: plans.TYPED])
    said = models.sign_model(session, view, looked, visit.form.get("role", ""))
    standing = session.models.approve(said)
    return visit.go("/", f"You approved {said.subject.ref} as {said.role}; it is {standing.words}.")


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


def _halt_page(visit: DeskVisit, looked: Looked, view: HaltView | None, status: int = 200) -> Response:
    officer = looked.officer
    may = officer is not None and bool(set(officer.roles) & set(LIFT_RULE.roles))
    return visit.page(
        "halt.html",
        status=status,
        title=visit.path["halt"][:SHOWN],
        checks=checks_table(looked.checks),
        failed=looked.checks.failed,
        halt=view,
        may=may,
        rule=LIFT_RULE.words,
        typed_digits=None if view is None else view.order.id[: plans.TYPED],
    )


def lift_halt(visit: DeskVisit) -> Response:
    """Say that a halt may be lifted."""
    session = visit.session
    looked = session.look()
    view = halts.halt_at_desk(session, looked, visit.path["halt"])
    if view is None:
        return _halt_page(visit, looked, view, status=409)
    _require_typed(visit, view.order.id[: plans.TYPED])
    said = halts.lift(session, view, looked, visit.form.get("reason", ""))
    now = session.desk.say_lift(view.order.id, said)
    return visit.go("/", f"You said that halt {view.order.id[:SHOWN]} may be lifted: it {now.state}")


ROUTES: Final[Sequence[tuple[str, str, Show]]] = (
    ("GET", "/", home),
    ("GET", "/plans/{plan}", plan),
    ("POST", "/plans/{plan}/approve", approve_plan),
    ("GET", "/models/{model}", model),
    ("POST", "/models/{model}/approve", approve_model),
    ("POST", "/halts", give_halt),
    ("GET", "/halts/{halt}", halt),
    ("POST", "/halts/{halt}/lift", lift_halt),
)
