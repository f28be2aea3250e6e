"""`covenant ledger forecast`: whether a plan fits the sites' privacy accounts, how often, and what is left then."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from coordinator.cli.options import ContractFile, Home, Json, PlanFile, centre_at
from coordinator.db.engine import reading
from coordinator.documents import read_plan
from coordinator.ledger.facts import ceiling_facts, key_facts
from coordinator.ledger.forecast import (
    MOST_EVALUATIONS,
    MOST_LAUNCHES,
    AccountForecast,
    Forecast,
    Standing,
    forecast,
)
from protos.plan_costs import required_releases
from protos.shell import emit, people, tell
from strategies.dp.budget import BudgetRefused
from strategies.errors import UsageError

_SPAN: Final = re.compile(r"([0-9]{1,4})(d|w|mo|y)", re.ASCII)
_DAYS: Final = {"d": Fraction(1), "w": Fraction(7), "mo": Fraction(1461, 48), "y": Fraction(1461, 4)}
_DEFAULT_EVERY: Final = "1mo"
_MOST_REFUSALS: Final = 10


def register(ledger: typer.Typer) -> None:
    """Add the command to `covenant ledger`."""
    ledger.command("forecast")(forecast_plan)


def forecast_plan(
    plan: PlanFile,
    contract: ContractFile = None,
    horizon: Annotated[
        str | None,
        typer.Option(
            help="How far to look ahead, such as 12mo: d, w, mo or y. The plan is launched now and again --every."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help=f"How often the plan is launched until the horizon; {_DEFAULT_EVERY} unless given."
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """What a plan would do to the accounts of the sites that it invites. Reserves nothing; exit code 3 if a launch would be refused."""
    wanted = _wanted(horizon, every)
    parsed, agreed = read_plan(plan, contract)
    planned = required_releases(parsed, agreed)
    with reading(centre_at(home).engine, f"forecasting plan {parsed.name}") as session:
        found = forecast(session, parsed, planned, wanted or 1)
    if json:
        emit(_facts(parsed.name, found, wanted))
    else:
        _show(found, horizon, every or _DEFAULT_EVERY)
    if found.refusals:
        told = list(found.refusals)
        if len(told) > _MOST_REFUSALS:
            told[_MOST_REFUSALS:] = [f"and {len(told) - _MOST_REFUSALS} more accounts refuse"]
        raise BudgetRefused("\n".join(told))


def days(text: str) -> Fraction:
    """Days in a span such as `12mo`; a month is a twelfth of a year of 365.25 days. Raises UsageError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{text!r} is no span of time; use a whole number with d, w, mo or y, such as 12mo")
    return int(found[1]) * _DAYS[found[2]]


def _wanted(horizon: str | None, every: str | None) -> int | None:
    """How many launches there are until the horizon, the first one now; None without a horizon."""
    if horizon is None:
        if every is not None:
            raise UsageError(
                "--every says how often a plan is launched until --horizon; give both, or neither"
            )
        return None
    wanted = math.ceil(days(horizon) / days(every or _DEFAULT_EVERY))
    if wanted > MOST_LAUNCHES:
        raise UsageError(
            f"{wanted} launches until the horizon; use a rarer --every: at most {MOST_LAUNCHES} are counted"
        )
    return wanted


# --- for machines ------------------------------------------------------------------------------------------------------


def _facts(plan: str, found: Forecast, wanted: int | None) -> dict[str, Any]:
    return {
        "plan": plan,
        "fits": not found.refusals,
        "refusals": list(found.refusals),
        "launches_that_fit": found.launches,
        "launches_wanted": wanted,
        "launches_until_horizon": None if wanted is None else found.possible,
        "without_ceiling": [key_facts(key) for key in found.missing],
        "accounts": [_account_facts(each, wanted) for each in found.accounts],
    }


def _account_facts(each: AccountForecast, wanted: int | None) -> dict[str, Any]:
    return {
        **key_facts(each.key),
        "ceiling": ceiling_facts(each.ceiling),
        "before": _standing_facts(each.before),
        "after": _standing_facts(each.after),
        "refusal": each.refusal,
        "rounds_that_fit": each.rounds,
        "launches_that_fit": each.launches,
        "at_horizon": None
        if wanted is None
        else {**_standing_facts(each.then), "further_evaluations": each.evaluations},
    }


def _standing_facts(standing: Standing) -> dict[str, Any]:
    return {
        "spent": standing.spent.facts(),
        "fraction": standing.fraction if math.isfinite(standing.fraction) else None,
    }


# --- for people --------------------------------------------------------------------------------------------------------


def _show(found: Forecast, horizon: str | None, every: str) -> None:
    for each in found.accounts:
        people.print(_account_table(each, found, horizon))
    table = _pairs("all sites")
    asked = len(found.accounts) + len(found.missing)
    willing = sum(each.refusal is None for each in found.accounts)
    table.add_row("accounts that bear this plan", f"{willing} of {asked}")
    if found.missing:
        table.add_row("without a ceiling", ", ".join(key.words for key in found.missing))
    table.add_row("launches that fit everywhere", _counted(found.launches, MOST_LAUNCHES))
    if horizon is not None:
        table.add_row(
            f"launches until {horizon}",
            f"{found.possible} of {found.wanted}, one every {every}, the first now",
        )
        if found.accounts:
            least = max(found.accounts, key=lambda each: each.then.fraction)
            table.add_row("least left then", f"{least.key.name}: {_left(least.then)}")
    people.print(table)
    tell(
        "Figures are those of each account's Rényi filter, at the order that its first ceiling fixed; a plan alone may cost less"
        " (`covenant privacy explain`)."
    )
    if horizon is not None and 0 < found.possible < found.wanted:
        tell(
            f"The budget lasts {found.possible} x {every}: launch less often, or fit the plan with `covenant privacy calibrate`."
        )


def _account_table(each: AccountForecast, found: Forecast, horizon: str | None) -> Table:
    table = _pairs(each.key.words)
    table.add_row("ceiling", each.ceiling.words)
    table.add_row("spent, reservations included", _of_ceiling(each.before))
    table.add_row("spent with this plan", _of_ceiling(each.after))
    table.add_row("left then", _left(each.after))
    if each.refusal is not None:
        table.add_row("this plan", f"is refused; {each.rounds or 'none'} of its rounds would fit")
    table.add_row("launches that fit", _counted(each.launches, MOST_LAUNCHES))
    if horizon is not None:
        table.add_row(
            f"spent after {found.possible} launch{'' if found.possible == 1 else 'es'}",
            _of_ceiling(each.then),
        )
        table.add_row("left for monitoring", _left(each.then))
        further = (
            "evaluation is exempt: released without noise, in no figure, and not bounded"
            if each.evaluations is None
            else _counted(each.evaluations, MOST_EVALUATIONS)
        )
        table.add_row("as releases of an evaluation's size", further)
    return table


def _left(standing: Standing) -> str:
    return f"{standing.left:.1%} of the filter's budget"


def _of_ceiling(standing: Standing) -> str:
    return f"{standing.spent.words}, {standing.fraction:.1%} of the ceiling"


def _counted(number: int, most: int) -> str:
    return f"{number} or more" if number >= most else f"{number}"


def _pairs(title: str) -> Table:
    return Table("what", "value", show_header=False, title=title, title_justify="left")
