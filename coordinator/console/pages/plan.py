"""One plan: what it changes, what stands in its way, what was said about it, and its launch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console.pages import plan_shown
from coordinator.console.pages.plans import missing_words, standing_cell, start_in
from coordinator.console.reads import log as entries
from coordinator.console.reads import plans as reads
from coordinator.console.reads.log import Search
from coordinator.console.routes import Route
from coordinator.console.subject_links import about
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.documents import read_members
from coordinator.governance.policies.rejudge import Said
from coordinator.ledger.forecast import Forecast, forecast
from coordinator.office import comments, plans
from coordinator.office import policies as packs
from coordinator.office.plans import ProposedPlan
from protos import control_pb2 as control
from protos import governance_pb2 as governance
from protos.log_subjects import Subject
from protos.plan_releases import releases_of
from strategies.errors import Refused, UsageError

_GET: Final = "covenant.governance.v1.Plans/GetPlan"
_COMMENT: Final = "covenant.governance.v1.Plans/CommentPlan"
_LAUNCH: Final = "covenant.control.v1.Runs/LaunchRun"
_TABLES: Final = ("changes", "forecast", "verdicts", "statements", "comments")
_COMMENTS: Final = 50
_REFUSALS: Final = 20


def show(visit: Visit) -> Response:
    """One plan; of one that was never proposed here, as runs from files are, what the log has."""
    told = Subject("plan", visit.path["digest"])
    try:
        found = _find(visit)
    except UsageError:
        if not entries.page(visit.centre.engine, Search(about=[told]), limit=1).rows:
            raise
        return visit.go(about(told))
    return _shown(visit, found)


def _shown(visit: Visit, found: ProposedPlan) -> Response:
    """A plan, or one of its tables as a file."""
    match visit.query.get("format"), visit.query.get("table"):
        case "csv", "forecast":
            return visit.table(tables.forecast_table(_forecast(visit, found)))
        case "csv", "verdicts":
            return visit.table(tables.verdicts_table(_judged(visit, found)))
        case "csv", "statements":
            key = found.plan.digest, found.contract.digest
            return visit.table(tables.statements_table(*key, found.evidence))
        case "csv", "comments":
            key = found.plan.digest, found.contract.digest
            return visit.table(
                tables.comments_table(comments.list_comments(visit.centre, *key, 0, comments.MOST))
            )
        case "csv", _:
            before = reads.earlier(visit.centre, found)
            return visit.table(_changes(found, before))
    return _page(visit, found)


def _page(visit: Visit, found: ProposedPlan, changed: Sequence[str] = (), status: int = 200) -> Response:
    # A member list of many sites takes as long to read as the rest of the page: once.
    trusted = read_members(visit.centre.settings)[1]
    standing = plans.standing(visit.centre, found, trusted)
    judged, latest = _judged(visit, found), reads.newest(visit.centre, found.plan.name)
    expected, newer = _forecast(visit, found), reads.newer(found, latest)
    before = reads.earlier(visit.centre, found, trusted)
    entry = reads.proposal_entry(visit.centre, found.plan.digest, found.contract.digest)
    context: dict[str, Any] = {
        "found": found,
        "standing": standing,
        "identity": (
            ("Standing", standing_cell(standing)),
            *tables.content_facts(found.plan, found.contract),
        ),
        "missing": missing_words(standing),
        "until": None if standing.until is None else datetime.fromisoformat(standing.until),
        "words": reads.words(found.plan, found.contract),
        "before": before,
        "changes": _changes(found, before),
        "statements": tables.statements_table(found.plan.digest, found.contract.digest, found.evidence),
        "verdicts": tables.verdicts_table(judged),
        "forecast": tables.forecast_table(expected, tables.SHOWN_ACCOUNTS),
        "refusals": expected.refusals[:_REFUSALS],
        "more_refusals": max(0, len(expected.refusals) - _REFUSALS),
        "chart_of": tables.forecast_chart(expected),
        "runs": _runs(visit, found),
        "comments": _comments(visit, found),
        "longest_comment": comments.LONGEST,
        "newest": latest,
        "newer": None if newer is None else tables.changes_table(newer, "the plan on this page"),
        "changed": changed,
        "shown": json.dumps(plan_shown.shown(standing, judged, latest.plan.digest)),
        "blocked": any(each.blocked_by(pack) for pack, each in judged),
        "entry": None if entry is None else {"seq": entry.seq, "body": entry.body.decode()},
        "canonical": found.plan.canonical.decode(),
        "csv": {name: visit.with_query(format="csv", table=name) for name in _TABLES},
        "path": f"/plans/{found.plan.digest}",
        "contract": found.contract.digest,
        "may_launch": visit.may(_LAUNCH),
        "may_comment": visit.may(_COMMENT),
    }
    return visit.page("plan.html", status=status, **context)


def _find(visit: Visit) -> ProposedPlan:
    contract = visit.form.get("contract") or visit.query.get("contract", "")
    return plans.find_plan(visit.centre, visit.path["digest"], contract)


def _judged(visit: Visit, found: ProposedPlan) -> Sequence[Said]:
    return packs.judge_plan(visit.centre, found)


def _forecast(visit: Visit, found: ProposedPlan) -> Forecast:
    planned = releases_of(found.plan, found.contract)
    if planned is None:
        return Forecast(accounts=(), missing=(), wanted=1, possible=1)
    with reading(visit.centre.engine, f"forecasting plan {found.plan.name}") as session:
        return forecast(session, found.plan, planned)


def _changes(found: ProposedPlan, before: reads.Earlier | None) -> Table:
    if before is None:
        return Table(
            name="changes",
            caption="What changed",
            columns=tables.CHANGE_COLUMNS,
            empty="No plan of this name was approved or launched before it: all of it is new.",
        )
    return tables.changes_table(
        reads.changes(before.plan, before.contract, found.plan, found.contract), f"plan {before.words}"
    )


def _comments(visit: Visit, found: ProposedPlan) -> Table:
    """A page of comments, the earliest first."""
    start, key = start_in(visit.query, "comments"), (found.plan.digest, found.contract.digest)
    said = comments.list_comments(visit.centre, *key, start, _COMMENTS + 1)
    return replace(
        tables.comments_table(said[:_COMMENTS]),
        newer=visit.with_query(comments=str(max(0, start - _COMMENTS))) if start else None,
        older=visit.with_query(comments=str(start + _COMMENTS)) if len(said) > _COMMENTS else None,
    )


def _runs(visit: Visit, found: ProposedPlan) -> Table:
    return Table(
        name="runs",
        caption="Runs of this plan",
        columns=[Column("Run"), Column("State"), Column("Launched")],
        rows=[
            (Cell(run, href=f"/runs/{run}"), Cell(state), Cell(at))
            for run, state, at in reads.runs_of(visit.centre, found.plan)
        ],
        empty="It was not launched yet. An engineer launches it from this page once its officers have approved it.",
    )


def say(visit: Visit) -> Response:
    """Comment."""
    found = _find(visit)
    request = governance.CommentPlanRequest(
        request_id=visit.form.get("request_id", ""),
        plan=found.plan.digest,
        contract=found.contract.digest,
        text=visit.form.get("text", ""),
    )
    visit.ask(_COMMENT, request)
    return visit.go(
        f"/plans/{found.plan.digest}?contract={found.contract.digest}#comments", "Your comment is kept"
    )


def launch(visit: Visit) -> Response:
    """Launch what was shown; where that has changed meanwhile, show how, and launch nothing."""
    found = _find(visit)
    before = plan_shown.read(visit.form.get("shown", ""))
    latest = reads.newest(visit.centre, found.plan.name)
    now = plan_shown.shown(plans.standing(visit.centre, found), _judged(visit, found), latest.plan.digest)
    if changed := list(plan_shown.changed(before, now)):
        return _page(visit, found, changed, status=409)
    if latest.plan.digest != found.plan.digest and visit.form.get("confirmed", "").strip() != "older":
        raise Refused(
            f"nothing is launched: {latest.plan.digest[: tables.SHOWN]} of the same name was proposed after this plan. Type the word `older` to launch"
            " this one all the same"
        )
    request = control.LaunchRunRequest(
        request_id=visit.form.get("request_id", ""),
        proposed=control.PlanName(plan=found.plan.digest, contract=found.contract.digest),
    )
    run = visit.ask(_LAUNCH, request).run
    return visit.go(f"/runs/{run}", f"{run} is launched")


ROUTES: Final = (
    Route("/plans/{digest}", show, _GET),
    Route("/plans/{digest}/comments", say, _COMMENT, "POST", form="/plans/{digest}?contract={contract}"),
    Route("/plans/{digest}/launch", launch, _LAUNCH, "POST", form="/plans/{digest}?contract={contract}"),
)
