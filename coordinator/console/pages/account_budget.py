"""One privacy account: its figures, its curve, and who spent and decided what."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from starlette.responses import Response

from coordinator.console.pages import account_tables as tables
from coordinator.console.pages.account_charts import Would, epsilon_over_time, would_of
from coordinator.console.pages.budgets import path_of
from coordinator.console.reads import runs as run_reads
from coordinator.console.reads.accounts import AccountRow, rows_of
from coordinator.console.reads.approved import waiting
from coordinator.console.reads.runs import RunRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Table
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.documents import read_members
from coordinator.ledger.audits import kept_audits
from coordinator.ledger.books import all_in_force
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.overlaps import OverlapView, overlap_of
from coordinator.ledger.totals import FirstCharge, runs_charged, totals_of
from coordinator.ledger.units import parse_unit
from coordinator.ledger.views import alerts_of, history_of, run_totals
from strategies.errors import UsageError
from strategies.ids import Digest, RunId, run_id, site_name

GET: Final = "covenant.governance.v1.Ledger/GetAccount"
_RUNS: Final = 25
_BETWEEN: Final = "~"


def show(visit: Visit) -> Response:
    """An account in full; `?table=NAME&format=csv` is one of its tables as a file."""
    now, engine = visit.now, visit.centre.engine
    approved = waiting(engine, read_members(visit.centre.settings)[1], now)
    with reading(engine, "reading an account") as session:
        in_force = all_in_force(session)
        here = [key for key in in_force if (key.site, key.population) == _named(visit)]
        key = _chosen(here, visit)
        row = rows_of(session, [key])[0]
        would = would_of(row.book, approved)
        overlap = overlap_of(session, row.book, in_force)
        history = history_of(session, row.book)
        chart = epsilon_over_time(session, row.book, history, would, now)
        charged = runs_charged(session, row.book.id, _before(visit), _RUNS + 1)
        totals = totals_of(session, [row.book.id], [each.run for each in charged[:_RUNS]])
        spent = run_totals(totals.get(row.book.id, {}), row.book.in_force.ceiling)
        alerts = alerts_of(session, row.book)
    rows = {each.run: each for each in run_reads.of_runs(engine, [each.run for each in charged[:_RUNS]])}
    order = {each.run: place for place, each in enumerate(charged)}
    plans = _plans(rows, would)
    audits = kept_audits(visit.centre.settings.home, plans)
    found = [
        tables.runs_table(sorted(spent, key=lambda each: order[each.run]), rows, _beside(visit, charged)),
        tables.forecast_table(row.book, would),
        tables.audits_table(audits.values()),
        tables.alerts_table(alerts),
        tables.history_table(history),
        tables.releases_table(row.book, row.released),
        tables.overlaps_table(overlap),
    ]
    by_name = {each.name: each for each in found}
    if visit.query.get("format") == "csv":
        return visit.table(_one_of(by_name, visit.query.get("table", "")))
    return visit.page(
        "account_budget.html",
        account=key,
        facts=_facts(row, overlap),
        chart_of_account=chart,
        tables=by_name,
        csv={name: visit.with_query(format="csv", table=name) for name in by_name},
        others=tables.others_table([each for each in here if each != key]),
        unaudited=[tables.plan_words(name, plan) for plan, name in plans.items() if plan not in audits],
        overlap=overlap,
        what_if=f"/budgets/what-if?account={path_of(key).removeprefix('/budgets/')}",
        draft=_draft(key),
    )


def _named(visit: Visit) -> tuple[str, str]:
    return site_name(visit.path["site"]), visit.path["population"]


def _chosen(here: Sequence[AccountKey], visit: Visit) -> AccountKey:
    """The account of the unit that was asked for, or the first one. Raises UsageError where there is none."""
    unit = parse_unit(visit.query["unit"]) if visit.query.get("unit") else None
    chosen = [each for each in here if unit is None or (each.kind, each.column) == (unit.kind, unit.column)]
    if not chosen:
        raise UsageError(
            f"{visit.path['site']}/{visit.path['population']} has no such account; the list of budgets has those there are"
        )
    return min(chosen, key=lambda each: each.stored)


def _before(visit: Visit) -> FirstCharge | None:
    text = visit.query.get("runs", "")
    if not text:
        return None
    at, _, run = text.partition(_BETWEEN)
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("no zone")  # noqa: TRY301  (said below)
        return FirstCharge(run_id(run), moment)
    except (ValueError, UsageError) as error:
        raise UsageError("this page's address is cut or changed; begin at the first page again") from error


def _beside(visit: Visit, charged: Sequence[FirstCharge]) -> tables.Beside:
    """Back is to the first page, because further runs come before it."""
    older = None
    if len(charged) > _RUNS:
        last = charged[_RUNS - 1]
        older = visit.with_query(runs=f"{last.at.isoformat()}{_BETWEEN}{last.run}")
    return tables.Beside(newer=visit.with_query(runs=None) if visit.query.get("runs") else None, older=older)


def _plans(rows: Mapping[RunId, RunRow], would: Sequence[Would]) -> Mapping[Digest, str]:
    """The plans that charged the account, by the runs shown, and those that may be launched."""
    launched = {Digest(each.plan_digest): each.plan for each in rows.values()}
    return {**{Digest(each.digest): each.name for each in would}, **launched}


def _one_of(found: Mapping[str, Table], name: str) -> Table:
    if name not in found:
        raise UsageError(f"this page has the tables {', '.join(found)}; name one of them")
    return found[name]


def _facts(row: AccountRow, overlap: OverlapView | None) -> Sequence[tuple[str, Cell | str]]:
    """The figures of an account, each with its delta, unit and neighbours."""
    ceiling, reserved = row.book.in_force.ceiling, max(0.0, row.fraction - row.opened_fraction)
    facts: list[tuple[str, Cell | str]] = [
        ("Ceiling", ceiling.words),
        ("Spent, reservations included", row.charged.words),
        ("Of that opened", row.opened.words),
        ("Reserved and not opened", f"{reserved:.1%} of the filter's budget"),
        ("Left", f"{max(0.0, 1.0 - row.fraction):.1%} of the filter's budget"),
        ("If only this site's own noise counted", row.book.account.worst_own_noise().words),
        ("Filter", f"Rényi, of order {ceiling.order} since the first ceiling"),
    ]
    if overlap is not None:
        facts.append((f"Worst person, at {', '.join(overlap.sites)}", overlap.worst.words))
    bare = sorted({each.what for each in row.book.account.exempted()})
    if bare:
        facts.append(("In no figure, because plans exempted it", Cell(", ".join(bare), tone="bad")))
    return facts


def _draft(key: AccountKey) -> str:
    return (
        f"covenant ledger ceiling draft {key.site} {key.population} --unit {shlex.quote(key.unit_option)} --epsilon E --delta D --reason TEXT"
        " --out FILE"
    )


ROUTES: Final = (Route("/budgets/{site}/{population}", show, GET),)
