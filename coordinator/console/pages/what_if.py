"""What a plan would cost, before anybody approves it: a proposed one, or a draft that is pasted. Nothing is written, and nothing is decided.

The figures are those of a launch now (`coordinator.ledger.forecast`): the same accounts, releases and ceilings, by the same filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.pages.account_budget import GET
from coordinator.console.pages.account_charts import Would, epsilon_over_time
from coordinator.console.pages.budgets import epsilon, labels, left, path_of, whole
from coordinator.console.plan_tables import SHOWN_ACCOUNTS
from coordinator.console.reads.approved import waiting
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.db.office_schema import StoredPlan
from coordinator.documents import read_members
from coordinator.ledger.books import open_books
from coordinator.ledger.forecast import MOST_LAUNCHES, AccountForecast, Forecast, forecast
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.views import history_of
from coordinator.office.plans import find_plan
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_costs import required_releases
from protos.plan_fit import check_contract, check_plan
from protos.plan_releases import PlannedReleases
from strategies.errors import Refused, UsageError

_MOST_BYTES: Final = 256 << 10
_LOOKED_AT: Final = 100
"""Proposals among which a draft's contract is looked for."""
_DRAWN: Final = 25
_A_MINUTE: Final = 30.0
_BURST: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a form asked about; `plan` is a digest, `draft` and `contract` are texts, `account` is one to draw."""

    plan: str = ""
    draft: str = ""
    contract: str = ""
    account: str = ""


def show(visit: Visit) -> Response:
    """The form; with `?plan=DIGEST` what that plan would cost."""
    kept = visit.typed("/budgets/what-if")
    asked = Asked(
        plan=visit.query.get("plan", ""),
        draft=kept.get("draft", ""),
        contract=kept.get("contract", ""),
        account=visit.query.get("account", kept.get("account", "")),
    )
    return _answer(visit, asked) if asked.plan and not kept else _page(visit, asked)


def ask(visit: Visit) -> Response:
    """What a pasted draft would cost, or a proposed plan."""
    form = visit.form
    return _answer(
        visit,
        Asked(
            plan=form.get("plan", ""),
            draft=form.get("draft", ""),
            contract=form.get("contract", ""),
            account=form.get("account", ""),
        ),
    )


def _answer(visit: Visit, asked: Asked) -> Response:
    """The form with its answer, or with what is wrong with it: what was typed stays."""
    visit.console.rates.take(f"what-if {visit.who.name}", burst=_BURST, per_minute=_A_MINUTE)
    try:
        plan, contract = _documents(visit, asked)
        check_contract(plan, contract)
        planned = required_releases(plan, contract)
        with reading(visit.centre.engine, f"forecasting plan {plan.name}") as session:
            found = forecast(session, plan, planned)
            chart = _curve(visit, session, plan, planned, found, asked.account)
    except (UsageError, Refused) as error:
        return _page(visit, asked, status=400, trouble=str(error))
    of_address = visit.request.method == "GET"
    if visit.query.get("format") == "csv" and of_address:
        return visit.table(_table(found))
    return _page(
        visit,
        asked,
        plan=plan,
        found=found,
        # A draft has no address, and so no file that has all of it.
        table_of_plan=_table(found, SHOWN_ACCOUNTS if of_address else None),
        csv=visit.with_query(format="csv") if of_address else None,
        shares=_shares(found),
        chart=chart,
        over_limit=_over_limit(plan, contract),
    )


def _page(visit: Visit, asked: Asked, *, status: int = 200, **shown: Any) -> Response:  # noqa: ANN401  (what the template shows)
    proposed = waiting(visit.centre.engine, read_members(visit.centre.settings)[1], visit.now)
    nothing = dict.fromkeys(
        ("plan", "found", "table_of_plan", "csv", "shares", "chart", "over_limit", "trouble")
    )
    return visit.page(
        "what_if.html",
        status=status,
        asked=asked,
        proposed=[(each.plan.digest, each.plan.name, each.standing.approved) for each in proposed],
        **{**nothing, **shown},
    )


def _documents(visit: Visit, asked: Asked) -> tuple[Plan, Contract]:
    """The plan that is asked about. Raises UsageError."""
    if asked.draft.strip():
        if len(asked.draft) + len(asked.contract) > _MOST_BYTES:
            raise UsageError(f"a draft has at most {_MOST_BYTES >> 10} KiB; paste a shorter one")
        plan = read_document(asked.draft, Plan, "the draft")
        if asked.contract.strip():
            return plan, read_document(asked.contract, Contract, "the contract")
        return plan, _contract_of(visit, plan)
    if not asked.plan:
        raise UsageError("choose a proposed plan, or paste a draft")
    found = find_plan(visit.centre, asked.plan)
    return found.plan, found.contract


def _contract_of(visit: Visit, plan: Plan) -> Contract:
    """The contract that a draft names, as the latest proposals have it. Raises UsageError where none does."""
    query = select(StoredPlan.contract).order_by(StoredPlan.proposed_at.desc()).limit(_LOOKED_AT)
    with reading(visit.centre.engine, "looking for a contract") as session:
        for text in dict.fromkeys(session.scalars(query)):
            contract = Contract.from_canonical(text.encode())
            if contract.ref == plan.contract:
                return contract
    raise UsageError(
        f"the draft is about contract {plan.contract}, which no proposal here has; paste the contract too"
    )


def _over_limit(plan: Plan, contract: Contract) -> str | None:
    """Why `covenant plan check` would refuse the plan whatever the accounts say."""
    try:
        check_plan(plan, contract)
    except UsageError as error:
        return str(error)
    return None


def _table(found: Forecast, most: int | None = None) -> Table:
    shown = found if most is None else found.tightest(most)
    return Table(
        name="what-if",
        caption="What a launch would do to each account"
        if shown is found
        else words(
            "What a launch would do to the {shown} tightest of {all} accounts; the file has all",
            shown=len(shown.accounts) + len(shown.missing),
            all=len(found.accounts) + len(found.missing),
        ),
        columns=[
            Column("Account"),
            Column("Ceiling", number=True),
            Column("Delta", number=True),
            Column("Spent now", number=True),
            Column("Spent then", number=True),
            Column("Left then", number=True),
            Column("Fits"),
            Column("Launches that fit", number=True),
            Column("Why not"),
        ],
        rows=[*(_row(each) for each in shown.accounts), *(_missing(each) for each in shown.missing)],
    )


def _row(each: AccountForecast) -> Sequence[Cell]:
    fits = each.refusal is None
    return (
        Cell(each.key.words, href=path_of(each.key)),
        Cell(each.ceiling.epsilon, text=f"{each.ceiling.epsilon:g}"),
        Cell(each.ceiling.delta, text=f"{each.ceiling.delta:g}"),
        epsilon(each.before.spent),
        epsilon(each.after.spent),
        left(each.after.fraction),
        Cell("fits", tone="good") if fits else Cell("refused", tone="bad"),
        Cell(each.launches, text=f"{each.launches} or more" if each.launches >= MOST_LAUNCHES else None),
        Cell(each.refusal),
    )


def _missing(key: AccountKey) -> Sequence[Cell]:
    return (
        Cell(key.words),
        *[Cell(None)] * 5,
        Cell("refused", tone="bad"),
        Cell(0),
        Cell("it has no ceiling, so nothing may be released; a privacy officer signs one"),
    )


def _shares(found: Forecast) -> Chart:
    """The accounts with the least left, as parts of their filters' budgets."""
    tightest = sorted(found.accounts, key=lambda each: -each.after.fraction)[:_DRAWN]
    names = labels([each.key for each in tightest])
    before = [round(100.0 * min(each.before.fraction, 1e6), 3) for each in tightest]
    after = [round(100.0 * min(each.after.fraction, 1e6), 3) for each in tightest]
    more = [round(then - now, 3) for now, then in zip(before, after, strict=True)]
    return Chart(
        name="what-if-shares",
        title="How much of each ceiling would be used",
        x="account",
        y="% of the filter's budget",
        axis="category",
        y_from=0.0,
        y_to=whole([each.after.fraction for each in tightest]),
        series=[
            Series(name="spent now", points=list(zip(names, before, strict=True)), kind="bar", stack="spent"),
            Series(name="this plan", points=list(zip(names, more, strict=True)), kind="bar", stack="spent"),
        ],
        bounds=[Bound(name="ceiling", at=100.0)],
        empty="No account has a ceiling, so there is nothing to draw.",
    )


def _curve(
    visit: Visit, session: Session, plan: Plan, planned: PlannedReleases, found: Forecast, wanted: str
) -> Chart | None:
    """The account that was chosen, or the tightest one, with the plan launched now."""
    by_path = {path_of(each.key).removeprefix("/budgets/"): each.key for each in found.accounts}
    if not by_path:
        return None
    tightest = max(found.accounts, key=lambda each: each.after.fraction).key
    key = by_path.get(wanted, tightest)
    book = open_books(session, [key])[key]
    what_if = Would(name=plan.name, digest=plan.digest, charges=planned.planned(), until=None)
    chart = epsilon_over_time(session, book, history_of(session, book), (), visit.now, what_if)
    return replace(chart, title=f"{key.name}, with this plan: {chart.title}")


ROUTES: Final = (
    Route("/budgets/what-if", show, GET),
    Route("/budgets/what-if", ask, GET, "POST", form="/budgets/what-if"),
)
