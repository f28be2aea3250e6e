"""The desk's page of a plan, and its signature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console.desk import plans
from coordinator.console.desk.accounts import expected
from coordinator.console.desk.parts import checks_table, require_typed
from coordinator.console.desk.visit import DeskVisit, changed
from protos.plan_page import page as words_of
from strategies.errors import UsageError

_DIGEST_DIGITS: Final = 64


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
        path=f"{visit.session.home}/plans/{found.plan.digest}",
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
    require_typed(visit, visit.path["plan"][: plans.TYPED])
    said = plans.sign(session, view, looked, visit.form.get("role", ""))
    session.desk.approve(said)
    return visit.go(
        f"/plans/{said.plan}?contract={said.contract}",
        f"You approved it as {said.role}, until {said.expires:%Y-%m-%d %H:%M} UTC. The coordinator took it; below is what the log has.",
    )
