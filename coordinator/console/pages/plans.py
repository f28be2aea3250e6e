"""Plans: what was proposed, what it changes, what stands in its way, and what was said about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console import plan_views as views
from coordinator.console.reads import log as entries
from coordinator.console.reads.log import Search
from coordinator.console.routes import Route
from coordinator.console.subject_links import about
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.governance.policies.rejudge import Said
from coordinator.ledger.forecast import Forecast, forecast
from coordinator.office import comments, plans
from coordinator.office import policies as packs
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding
from protos import control_pb2 as control
from protos import governance_pb2 as governance
from protos.log_subjects import Subject
from protos.plan_releases import releases_of
from strategies.errors import Refused, UsageError

_LIST: Final = "covenant.governance.v1.Plans/ListPlans"
_GET: Final = "covenant.governance.v1.Plans/GetPlan"
_COMMENT: Final = "covenant.governance.v1.Plans/CommentPlan"
_LAUNCH: Final = "covenant.control.v1.Runs/LaunchRun"
_PAGE: Final = 25
_MOST_START: Final = 1_000_000
_DIGITS: Final = 10
_COMMENTS: Final = 50


def show_all(visit: Visit) -> Response:
    """All plans, the latest first."""
    table = _list(visit)
    return visit.table(table) if visit.query.get("format") == "csv" else visit.page("plans.html", plans=table)


def _list(visit: Visit) -> Table:
    start = start_in(visit.query, "from")
    found = views.lines(visit.centre, start, _PAGE + 1)
    return Table(
        name="plans",
        caption="Plans that were proposed",
        columns=[
            Column("Plan"),
            Column("Digest"),
            Column("Proposed"),
            Column("Author"),
            Column("Approved by"),
            Column("Standing"),
            Column("Who must still sign"),
        ],
        rows=[_row(each) for each in found[:_PAGE]],
        empty="No plan was proposed yet. An engineer proposes one with `covenant plan sign --access`.",
        newer=visit.with_query(**{"from": str(max(0, start - _PAGE)) if start > _PAGE else None})
        if start
        else None,
        older=visit.with_query(**{"from": str(start + _PAGE)}) if len(found) > _PAGE else None,
    )


def _row(line: views.Line) -> Sequence[Cell]:
    each = line.standing
    return (
        Cell(each.plan, href=address_of(each)),
        Cell(each.digest, text=each.digest[: tables.SHOWN], code=True),
        Cell(line.proposed_at),
        Cell(each.author),
        Cell(", ".join(f"{one.officer} ({one.role})" for one in each.approvals) or None),
        standing_cell(each),
        Cell(_missing(each)),
    )


def address_of(standing: PlanStanding) -> str:
    """Where the page of a plan is."""
    return f"/plans/{standing.digest}?contract={standing.contract_digest}"


def standing_cell(standing: PlanStanding) -> Cell:
    """In one word, how far a plan is."""
    if standing.approved:
        return Cell("approved", tone="good")
    return (
        Cell("waits for approval", tone="warn")
        if standing.missing
        else Cell("cannot be launched", tone="bad")
    )


def _missing(standing: PlanStanding) -> str | None:
    lacking = [
        f"{each.asked - each.given} {each.role}: {' or '.join(each.could) or 'nobody on the list could'}"
        for each in standing.missing
    ]
    return "; ".join(lacking) or None


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
            before = views.earlier(visit.centre, found)
            return visit.table(_changes(found, before))
    return _page(visit, found)


def _page(
    visit: Visit, found: ProposedPlan, changed: Sequence[str] = (), said: str = "", status: int = 200
) -> Response:
    standing = plans.standing(visit.centre, found)
    judged, latest = _judged(visit, found), views.newest(visit.centre, found.plan.name)
    expected, newer = _forecast(visit, found), views.newer(found, latest)
    before = views.earlier(visit.centre, found)
    entry = views.proposal_entry(visit.centre, found.plan.digest, found.contract.digest)
    context: dict[str, Any] = {
        "found": found,
        "standing": standing,
        "identity": (
            ("Standing", standing_cell(standing)),
            *tables.content_facts(found.plan, found.contract),
        ),
        "missing": _missing(standing),
        "until": None if standing.until is None else datetime.fromisoformat(standing.until),
        "words": views.words(found.plan, found.contract),
        "before": before,
        "changes": _changes(found, before),
        "statements": tables.statements_table(found.plan.digest, found.contract.digest, found.evidence),
        "verdicts": tables.verdicts_table(judged),
        "forecast": tables.forecast_table(expected),
        "refusals": expected.refusals,
        "chart_of": tables.forecast_chart(expected),
        "runs": _runs(visit, found),
        "comments": _comments(visit, found),
        "comment": said,
        "longest_comment": comments.LONGEST,
        "newest": latest,
        "newer": None if newer is None else tables.changes_table(newer, "the plan on this page"),
        "changed": changed,
        "shown": json.dumps(views.shown(standing, judged, latest.plan.digest)),
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


_TABLES: Final = ("changes", "forecast", "verdicts", "statements", "comments")


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


def _changes(found: ProposedPlan, before: views.Earlier | None) -> Table:
    if before is None:
        return Table(
            name="changes",
            caption="What changed",
            columns=[Column("About"), Column("Change"), Column("Protection")],
            empty="No plan of this name was approved or launched before it: all of it is new.",
        )
    return tables.changes_table(
        views.changes(before.plan, before.contract, found.plan, found.contract), f"plan {before.words}"
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


def start_in(query: Mapping[str, str], name: str) -> int:
    """Where a list begins, by a field of the address; 0 for what is no number."""
    given = query.get(name, "0")
    return (
        min(int(given), _MOST_START) if given.isascii() and given.isdecimal() and len(given) < _DIGITS else 0
    )


def _runs(visit: Visit, found: ProposedPlan) -> Table:
    return Table(
        name="runs",
        caption="Runs of this plan",
        columns=[Column("Run"), Column("State"), Column("Launched")],
        rows=[
            (Cell(run, href=f"/runs/{run}"), Cell(state), Cell(at))
            for run, state, at in views.runs_of(visit.centre, found.plan)
        ],
        empty="It was not launched yet.",
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
    before = views.read_shown(visit.form.get("shown", ""))
    latest = views.newest(visit.centre, found.plan.name)
    now = views.shown(plans.standing(visit.centre, found), _judged(visit, found), latest.plan.digest)
    if changed := list(views.changed(before, now)):
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
    Route("/plans", show_all, _LIST),
    Route("/plans/{digest}", show, _GET),
    Route("/plans/{digest}/comments", say, _COMMENT, "POST"),
    Route("/plans/{digest}/launch", launch, _LAUNCH, "POST"),
)
