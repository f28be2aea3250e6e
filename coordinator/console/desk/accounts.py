"""What a plan would cost, computed at the desk from the plan and from the accounts as the coordinator tells them.

The releases of the plan, the filter and the figures are this package's. Ceilings and what was charged so far are the coordinator's word: what the page
says of them is said there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.desk import Desk
from coordinator.ledger.forecast import Forecast, charged, forecast_of
from coordinator.ledger.needs import AccountKey
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_releases import releases_of
from strategies.dp.budget import Account, merged
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.errors import Refused, UsageError

_CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Expected:
    """The forecast; `short` are accounts whose runs come to less than the coordinator says is spent, so that the figures here are too low."""

    forecast: Forecast
    short: tuple[str, ...]


def expected(desk: Desk, plan: Plan, contract: Contract) -> Expected:
    """What launching `plan` does to the accounts. Raises Unreachable, and Refused for an account that cannot be read."""
    planned = releases_of(plan, contract)
    if planned is None:
        return Expected(Forecast(accounts=(), missing=(), wanted=1, possible=1), ())
    accounts: dict[AccountKey, Account] = {}
    short: list[str] = []
    for key in charged(plan, planned):
        told = told_account(desk, key)
        if told is None:
            continue
        accounts[key] = told.account
        if told.short:
            short.append(key.words)
    return Expected(forecast_of(accounts, plan, planned), tuple(short))


@dataclass(frozen=True, slots=True)
class Told:
    """An account as the coordinator tells it. `short` says that its runs come to less than is said to be spent, so that figures made from them are too low."""

    account: Account
    short: bool

    @property
    def words(self) -> str:
        """For the list of checks."""
        return f"{self.account.guarantee().words}, and the new ceiling holds it; from releases that are the coordinator's word"


def told_account(desk: Desk, key: AccountKey) -> Told | None:
    """An account; None where there is none. Raises Unreachable, and Refused for one that cannot be read."""
    facts = _facts(desk, key)
    if facts is None:
        return None
    account, told = _account(key, facts)
    return Told(account, not account.guarantee().epsilon >= told - _CLOSE * max(1.0, told))


def _facts(desk: Desk, key: AccountKey) -> Mapping[str, Any] | None:
    """An account as it is told; None where there is none."""
    try:
        return desk.ledger.account(key.site, key.population, key.unit_option)
    except UsageError:
        return None


def _account(key: AccountKey, facts: Mapping[str, Any]) -> tuple[Account, float]:
    """The account, from the releases of its runs, and the epsilon that is said to be spent. Raises Refused where it cannot be read."""
    try:
        ceiling = Ceiling.from_facts(
            {name: value for name, value in facts["ceiling"].items() if name != "words"}
        )
        charges = merged(
            *(
                {Release.from_facts(stage["release"]): stage["settled"] + stage["reserved"]}
                for run in facts["runs"]
                for stage in run["stages"]
            )
        )
        told = facts["spent"]["epsilon"]
        spent = math.inf if told is None else float(told)
    except (UsageError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"the account {key.words}, as it was sent, cannot be read: {error}") from error
    return Account(name=key.name, ceiling=ceiling, charges=charges), spent
