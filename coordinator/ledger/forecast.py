"""What a plan would do to the accounts of the sites that it invites: once, and launched again and again. Nothing is written.

1. The same accounts, releases and ceilings as at a launch (`Ledger.reserve`), judged by the same filter.
2. A launch needs room at every site, so the tightest account decides how often there is one.
3. What is left is told as a fraction of the filter's budget, and as a number of releases. Epsilons do not add up, so no difference of two is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from coordinator.ledger.books import open_books
from coordinator.ledger.needs import AccountKey
from protos.plan import Plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases
from strategies.dp.budget import Account, BudgetRefused, most_rounds, most_times
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee

MOST_LAUNCHES: Final = 100_000
"""Launches are counted up to here."""
MOST_EVALUATIONS: Final = 1_000_000
"""Further evaluations are counted up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an account stands: what is `spent`, and which `fraction` of the filter's budget that is; 1 is all."""

    spent: Guarantee
    fraction: float

    @classmethod
    def of(cls, account: Account) -> Standing:
        """The standing of `account`."""
        return cls(spent=account.guarantee(), fraction=account.ceiling.fraction(account.cost))

    @property
    def left(self) -> float:
        """Which fraction of the filter's budget is left."""
        return max(0.0, 1.0 - self.fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountForecast:
    """One account, `before` and `after` one launch; `launches` is how many fit in all, `then` how it stands after those until the horizon.

    `refusal` is why a launch would be refused, with what would fit; None if it would not. `evaluations` is how many further releases of the
    size of the plan's evaluation fit `then`, of any rows; None where the plan exempts evaluation, which then costs nothing here.
    """

    key: AccountKey
    ceiling: Ceiling
    before: Standing
    after: Standing
    refusal: str | None
    rounds: int
    launches: int
    then: Standing
    evaluations: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A plan's forecast; `missing` are accounts without a ceiling. Of the launches `wanted`, `possible` fit everywhere."""

    accounts: tuple[AccountForecast, ...]
    missing: tuple[AccountKey, ...]
    wanted: int
    possible: int

    @property
    def launches(self) -> int:
        """How many launches fit into every account."""
        return 0 if self.missing else min(each.launches for each in self.accounts)

    def tightest(self, most: int) -> Forecast:
        """The same where there are at most so many accounts; else of those alone that have no ceiling, or the least left of it after a launch."""
        if len(self.missing) + len(self.accounts) <= most:
            return self
        missing = self.missing[:most]
        tight = sorted(self.accounts, key=lambda each: -each.after.fraction)
        return replace(self, missing=missing, accounts=tuple(tight[: most - len(missing)]))

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why a launch would be refused, one sentence an account; empty if it would not."""
        missing = [
            f"{key.words} has no ceiling, so nothing may be released; its privacy officer signs one, drafted with `covenant ledger ceiling draft "
            f"{key.site} {key.population} --unit {key.unit_option} --epsilon E --delta D --reason TEXT --out FILE`"
            for key in self.missing
        ]
        return (*missing, *(each.refusal for each in self.accounts if each.refusal is not None))


def forecast(session: Session, plan: Plan, planned: PlannedReleases, wanted: int = 1) -> Forecast:
    """What launching `plan` does to every account it needs, and what `wanted` launches do.

    Raises UnsupportedRelease for a release whose cost is not known.
    """
    books = open_books(session, charged(plan, planned))
    return forecast_of({key: book.account for key, book in books.items()}, plan, planned, wanted)


def charged(plan: Plan, planned: PlannedReleases) -> list[AccountKey]:
    """The accounts that `plan` charges, by site."""
    return [
        AccountKey.of(site, plan.population_of(site), planned.train.unit)
        for site in sorted(plan.sites.invite)
    ]


def forecast_of(
    accounts: Mapping[AccountKey, Account], plan: Plan, planned: PlannedReleases, wanted: int = 1
) -> Forecast:
    """The same for `accounts` that were read already, wherever they come from; those that are not among them have no ceiling."""
    keys = [key for key in charged(plan, planned) if key in accounts]
    missing = tuple(key for key in charged(plan, planned) if key not in accounts)
    kinds = {key: _Kind.of(account) for key, account in accounts.items()}
    alike = {kind: key for key, kind in kinds.items()}
    fits = {kind: _launches(accounts[key], planned.planned()) for kind, key in alike.items()}
    possible = 0 if missing else min(wanted, *fits.values())
    told = {
        kind: _of_account(key, accounts[key], planned, fits[kind], possible) for kind, key in alike.items()
    }
    return Forecast(
        accounts=tuple(_as(told[kinds[key]], key, accounts[key], planned) for key in keys),
        missing=missing,
        wanted=wanted,
        possible=possible,
    )


class _Kind(NamedTuple):
    """All that a forecast depends on: accounts with the same charges under equal ceilings have the same one, and it is computed once."""

    ceiling: Ceiling
    charges: frozenset[tuple[Release, int]]

    @classmethod
    def of(cls, account: Account) -> _Kind:
        """The kind of `account`."""
        return cls(account.ceiling, frozenset(account.charges.items()))


def _of_account(
    key: AccountKey, account: Account, planned: PlannedReleases, launches: int, possible: int
) -> AccountForecast:
    rounds = _rounds(account, planned)
    then = account.charged(_times(planned.planned(), possible))
    return AccountForecast(
        key=key,
        ceiling=account.ceiling,
        before=Standing.of(account),
        after=Standing.of(account.charged(planned.planned())),
        refusal=_refusal(account, planned, rounds),
        rounds=rounds,
        launches=launches,
        then=Standing.of(then),
        evaluations=_evaluations(then, planned.evaluate),
    )


def _as(
    alike: AccountForecast, key: AccountKey, account: Account, planned: PlannedReleases
) -> AccountForecast:
    """The forecast of an account that has the charges and the ceiling of another one's; its refusal names it."""
    refusal = None if alike.refusal is None else _refusal(account, planned, alike.rounds)
    return replace(alike, key=key, refusal=refusal)


def _refusal(account: Account, planned: PlannedReleases, rounds: int) -> str | None:
    try:
        account.require(planned.planned())
    except BudgetRefused as refused:
        fits = f"{rounds} would fit" if rounds else "not one would fit"
        return f"{refused}. Of {planned.rounds} rounds, {fits} with {planned.retries} retries"
    return None


def _rounds(account: Account, planned: PlannedReleases) -> int:
    """How many of the plan's rounds fit, beside its retries and other stages."""
    others = {planned.of(stage): planned.times(stage) for stage in (PREPARE, EVALUATE)}
    try:
        fits = most_rounds(account, others, planned.train, planned.times(TRAIN))
    except BudgetRefused:  # about another unit: no number of rounds would do
        return 0
    return max(0, fits - planned.retries)


def _evaluations(account: Account, evaluation: Release) -> int | None:
    """Of any rows, so that they cost the same whether the account has paid for training or not."""
    if evaluation.mechanism is Mechanism.NONE:
        return None
    try:
        return most_rounds(account, {}, replace(evaluation, partition=None), MOST_EVALUATIONS)
    except BudgetRefused:  # about another unit
        return 0


def _launches(account: Account, charges: Mapping[Release, int]) -> int:
    """How many launches fit, up to `MOST_LAUNCHES`."""
    try:
        return most_times(account, {}, charges, MOST_LAUNCHES)
    except BudgetRefused:  # about another unit
        return 0


def _times(charges: Mapping[Release, int], times: int) -> dict[Release, int]:
    return {release: count * times for release, count in charges.items()}
