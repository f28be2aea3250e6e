"""A forecast over many sites is each site's own, however it is computed: accounts that are alike once, and each as its filter judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coordinator.console.plan_tables import forecast_chart, forecast_table
from coordinator.ledger.forecast import (
    MOST_EVALUATIONS,
    MOST_LAUNCHES,
    AccountForecast,
    Standing,
    charged,
    forecast_of,
)
from coordinator.ledger.needs import AccountKey
from protos.plan_costs import required_releases
from protos.plan_releases import PlannedReleases
from strategies.dp.budget import Account, BudgetRefused, largest_that, merged
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from tests.coordinator.private_for_tests import private_plan
from tests.coordinator.secure_for_tests import CONTRACT

PLAN = private_plan()
PLANNED = required_releases(PLAN, CONTRACT)
KEYS = charged(PLAN, PLANNED)
ROOMY = Ceiling.fixed(epsilon=40.0, delta=1e-5, unit=PLANNED.train.unit)
TIGHT = Ceiling.fixed(epsilon=1.0, delta=1e-5, unit=PLANNED.train.unit)
OTHER = Ceiling.fixed(epsilon=40.0, delta=1e-5, unit=PrivacyUnit(kind=UnitKind.SITE))


def taken(account: Account, planned: Mapping[Release, int]) -> bool:
    try:
        account.require(planned)
    except BudgetRefused:
        return False
    return True


def times(charges: Mapping[Release, int], count: int) -> dict[Release, int]:
    return {release: each * count for release, each in charges.items()}


def launches_of(account: Account) -> int:
    return largest_that(lambda count: taken(account, times(PLANNED.planned(), count)), MOST_LAUNCHES)


def by_itself(
    key: AccountKey, account: Account, planned: PlannedReleases, launches: int, possible: int
) -> AccountForecast:
    """One account's forecast from the filter's yes and no alone."""
    others = {planned.prepare: planned.times("prepare"), planned.evaluate: planned.times("evaluate")}
    fit = largest_that(
        lambda rounds: taken(account, merged(others, {planned.train: rounds})), planned.times("train")
    )
    rounds = max(0, fit - planned.retries) if taken(account, others) else 0
    then = account.charged(times(planned.planned(), possible))
    whole = replace(planned.evaluate, partition=None)
    refusal = None
    try:
        account.require(planned.planned())
    except BudgetRefused as refused:
        fits = f"{rounds} would fit" if rounds else "not one would fit"
        refusal = f"{refused}. Of {planned.rounds} rounds, {fits} with {planned.retries} retries"
    return AccountForecast(
        key=key,
        ceiling=account.ceiling,
        before=Standing.of(account),
        after=Standing.of(account.charged(planned.planned())),
        refusal=refusal,
        rounds=rounds,
        launches=launches,
        then=Standing.of(then),
        evaluations=largest_that(lambda count: taken(then, {whole: count}), MOST_EVALUATIONS),
    )


def compared(accounts: Mapping[AccountKey, Account], wanted: int) -> None:
    found = forecast_of(accounts, PLAN, PLANNED, wanted)
    launches = {key: launches_of(each) for key, each in accounts.items()}
    possible = 0 if len(accounts) < len(KEYS) else min(wanted, *launches.values())

    assert found.possible == possible
    assert found.missing == tuple(key for key in KEYS if key not in accounts)
    assert found.accounts == tuple(
        by_itself(key, accounts[key], PLANNED, launches[key], possible) for key in KEYS if key in accounts
    )


def named(key: AccountKey, ceiling: Ceiling, charges: Mapping[Release, int]) -> Account:
    return Account(name=key.name, ceiling=ceiling, charges=charges)


def test_accounts_that_are_alike_have_the_forecast_that_each_has_alone() -> None:
    spent = {PLANNED.train: 2, PLANNED.prepare: 1}
    in_another_order = {PLANNED.prepare: 1, PLANNED.train: 2}
    charges = [spent, in_another_order, {}, *[spent] * len(KEYS)]

    compared({key: named(key, ROOMY, of) for key, of in zip(KEYS, charges, strict=False)}, wanted=2)


def test_one_more_release_or_another_ceiling_is_another_forecast() -> None:
    kinds = [(ROOMY, {PLANNED.train: 1}), (ROOMY, {PLANNED.train: 2}), (TIGHT, {PLANNED.train: 1})]
    accounts = {
        key: named(key, *kind) for key, kind in zip(KEYS, [*kinds, *[kinds[0]] * len(KEYS)], strict=False)
    }
    found = forecast_of(accounts, PLAN, PLANNED)

    compared(accounts, wanted=1)
    assert len({(each.ceiling, each.before.fraction) for each in found.accounts[:3]}) == 3


def test_a_refusal_names_its_own_account_where_all_are_alike() -> None:
    accounts = {key: named(key, TIGHT, {}) for key in KEYS}
    found = forecast_of(accounts, PLAN, PLANNED)

    compared(accounts, wanted=3)
    assert [each.refusal.partition(":")[0] for each in found.accounts if each.refusal] == [
        key.name for key in KEYS
    ]


def test_a_missing_account_and_one_about_another_unit_let_nothing_be_launched() -> None:
    compared({key: named(key, ROOMY, {}) for key in KEYS[1:]}, wanted=1)
    compared({key: named(key, OTHER, {}) for key in KEYS}, wanted=1)


def test_a_page_has_the_tightest_accounts_and_those_without_a_ceiling_first() -> None:
    """Of many; where all of them are shown nothing is sorted, and what is counted elsewhere counts all."""
    charges = [{PLANNED.evaluate: 1}, {PLANNED.evaluate: 3}, {}]
    found = forecast_of(
        {key: named(key, ROOMY, of) for key, of in zip(KEYS[1:], charges, strict=True)}, PLAN, PLANNED
    )

    assert found.tightest(4) is found
    few = found.tightest(3)
    assert few.missing == (KEYS[0],)
    assert [each.key for each in few.accounts] == [KEYS[2], KEYS[1]]
    table, whole = forecast_table(found, 3), forecast_table(found)
    assert table.caption == "What a launch does to the 3 tightest of 4 privacy accounts; the file has all"
    assert [row[0].value for row in table.rows] == [each.words for each in (KEYS[2], KEYS[1], KEYS[0])]
    assert [row[0].value for row in whole.rows] == [each.words for each in (*KEYS[1:], KEYS[0])]
    assert [name for name, _ in forecast_chart(found).series[0].points] == [each.words for each in KEYS[1:]]
