"""Who may set a ceiling, to what, and what of it never changes; a refused decision leaves the ledger as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import Engine

from coordinator.ledger import Ledger
from strategies.dp.budget import BudgetRefused
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import RunId, SiteName
from tests.ceilings_for_tests import TWO, set_ceiling
from tests.coordinator.conftest import Clock
from tests.coordinator.ledger_for_tests import (
    CEILING,
    CUSTOMER,
    LOANS,
    NORTH,
    ON_SQLITE,
    RECORD,
    close,
    decision,
    everything,
    launched,
    need,
    rounds,
    settle,
    with_ceiling,
)


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    return Ledger(engine, clock)


def change(ledger: Ledger, **changes: Any) -> None:
    set_ceiling(ledger, NORTH, LOANS, decision(**changes))


def test_the_first_ceiling_opens_the_account_and_fixes_its_order(ledger: Ledger) -> None:
    with_ceiling(ledger)
    view = ledger.show(NORTH, LOANS)
    assert view.ceiling == CEILING
    assert view.spent.epsilon == 0.0
    change(ledger, epsilon=4.0)
    lowered = ledger.show(NORTH, LOANS).ceiling
    assert (lowered.epsilon, lowered.order) == (4.0, CEILING.order)
    assert Ceiling.fixed(epsilon=4.0, delta=1e-6, unit=CUSTOMER).order != CEILING.order


def test_another_order_is_refused_afterwards(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger, order=16)
    before = everything(engine)
    with pytest.raises(UsageError, match=r"order is 16 since the first ceiling and never changes"):
        change(ledger, order=8, officers=TWO)
    assert everything(engine) == before
    change(ledger, order=16)
    assert ledger.show(NORTH, LOANS).ceiling.order == 16


def test_raising_takes_two_different_officers_and_keeps_who_why_and_when(
    ledger: Ledger, engine: Engine
) -> None:
    with_ceiling(ledger)
    before = everything(engine)
    for raised in ({"epsilon": 9.0}, {"delta": 1e-5}, {"epsilon": 9.0, "delta": 1e-7}):
        with pytest.raises(Refused, match=r"raising a ceiling is for 2 officers, and privacy-1 is one"):
            change(ledger, **raised)
    assert everything(engine) == before
    change(ledger, epsilon=9.0, officers=TWO, reason="approved on 3 May")
    first, second = ledger.show(NORTH, LOANS).history
    assert (first.officers, first.reason) == (("privacy-1",), "as the board decided")
    assert (second.officers, second.reason) == (TWO, "approved on 3 May")
    assert (first.decided.ceiling.epsilon, second.decided.ceiling.epsilon) == (8.0, 9.0)
    assert second.set_at > first.set_at


@ON_SQLITE
def test_an_officer_who_signs_twice_is_one(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger)
    before = everything(engine)
    with pytest.raises(Refused, match="is for 2 officers, and privacy-1 is one"):
        change(ledger, epsilon=9.0, officers=("privacy-1", "privacy-1"))
    assert everything(engine) == before


@ON_SQLITE
def test_what_nobody_has_signed_is_not_carried_out(ledger: Ledger, engine: Engine) -> None:
    with pytest.raises(Refused, match="nobody has signed decision 1"):
        change(ledger, officers=())
    assert not any(everything(engine).values())


def test_one_officer_may_tighten(ledger: Ledger) -> None:
    with_ceiling(ledger, alert_at=(0.5,))
    change(ledger, epsilon=6.0)
    change(ledger, delta=1e-7, epsilon=6.0)
    change(ledger, delta=1e-7, epsilon=6.0, alert_at=(0.5, 0.8), overlaps=("south",))
    assert len(ledger.show(NORTH, LOANS).history) == 4


def test_whatever_loosens_takes_two_officers(ledger: Ledger, engine: Engine) -> None:
    many = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4, max_sites=3)
    with_ceiling(ledger, alert_at=(0.8,), overlaps=("south", "west"), unit=many)
    for changes, what in (
        ({"unit": many, "alert_at": (0.9,)}, "taking an alert away"),
        ({"unit": many, "overlaps": ()}, "taking an overlap away"),
        ({"unit": CUSTOMER}, "counting a person at fewer sites"),
    ):
        before = everything(engine)
        with pytest.raises(Refused, match=f"{what} is for 2 officers"):
            change(ledger, **changes)
        assert everything(engine) == before
        change(ledger, officers=TWO, **changes)


@ON_SQLITE
def test_alerts_and_overlaps_stay_unless_they_are_given(ledger: Ledger) -> None:
    with_ceiling(ledger, alert_at=(0.8, 0.5), overlaps=("west", "south"))
    change(ledger, epsilon=5.0)
    view = ledger.show(NORTH, LOANS)
    assert [each.fraction for each in view.alerts] == [0.5, 0.8]
    assert view.history[-1].decided.overlaps == ("south", "west")


def test_a_ceiling_below_what_is_spent_is_refused_reservations_included(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(6))])
    before = everything(engine)
    with pytest.raises(
        BudgetRefused, match=r"is below what is charged already, epsilon 6\.\d+ at delta 1e-06 per customer"
    ):
        change(ledger, epsilon=4.5)
    assert everything(engine) == before
    settle(ledger, engine, run, 1)
    close(ledger, engine, run)
    change(ledger, epsilon=4.5)
    change(ledger, epsilon=ledger.show(NORTH, LOANS).spent.epsilon * (1 + 1e-9))


def test_a_ceiling_for_persons_at_more_sites_than_were_charged_for_is_refused(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(1))])
    before = everything(engine)
    wider = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4, max_sites=2)
    with pytest.raises(BudgetRefused, match="declare the sites as overlaps instead"):
        change(ledger, unit=wider, officers=TWO)
    assert everything(engine) == before


@ON_SQLITE
def test_a_raised_ceiling_admits_more_and_a_lowered_one_less(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger)
    first, second, third = launched(engine, 1, 2, 3)
    ledger.reserve_now(first, [need(NORTH, rounds(10))])
    change(ledger, epsilon=16.0, officers=TWO)
    ledger.reserve_now(second, [need(NORTH, rounds(10))])
    change(ledger, epsilon=ledger.show(NORTH, LOANS).spent.epsilon * (1 + 1e-9))
    with pytest.raises(BudgetRefused):
        ledger.reserve_now(third, [need(NORTH, rounds(1))])


BAD_VALUES: list[dict[str, Any]] = [
    *({"epsilon": value} for value in (math.nan, 0.0, -1.0, math.inf)),
    *({"delta": value} for value in (0.0, 1.0, math.nan, -1e-6)),
    *({"alert_at": (value,)} for value in (math.nan, 0.0, 1.1, -0.5)),
    {"order": 1},
    {"officers": ("",)},
    {"officers": (" privacy-1",)},
    {"reason": ""},
    {"reason": "two\nlines"},
    {"overlaps": ("north",)},
    {"overlaps": ("South!",)},
    {"epsilon": 1e-4, "order": 2},
]


def test_values_that_mean_nothing_are_refused_at_first_and_later_and_nothing_changes(
    ledger: Ledger, engine: Engine
) -> None:
    for changes in BAD_VALUES:
        with pytest.raises(UsageError):
            change(ledger, **{"officers": TWO, **changes})
    assert not any(everything(engine).values())
    with_ceiling(ledger)
    before = everything(engine)
    for changes in BAD_VALUES:
        with pytest.raises(CovenantError):
            change(ledger, **{"officers": TWO, **changes})
        assert everything(engine) == before, changes


@ON_SQLITE
def test_accounts_without_a_proper_name_are_not_opened(ledger: Ledger, engine: Engine) -> None:
    names = (
        ("North", LOANS, CUSTOMER),
        (NORTH, "Retail Loans", CUSTOMER),
        (NORTH, "", CUSTOMER),
        (NORTH, LOANS, PrivacyUnit(kind=UnitKind.CUSTOMER, column="")),
        (NORTH, LOANS, PrivacyUnit(kind=UnitKind.CUSTOMER, column="x" * 129)),
    )
    for site, population, unit in names:
        with pytest.raises(UsageError):
            set_ceiling(ledger, SiteName(site), population, decision(unit=unit))
    assert not any(everything(engine).values())


def test_units_have_accounts_of_their_own(ledger: Ledger) -> None:
    with_ceiling(ledger)
    with_ceiling(ledger, unit=RECORD, epsilon=1.0)
    with pytest.raises(UsageError, match="choose one: --unit customer:customer_id, --unit record"):
        ledger.show(NORTH, LOANS)
    view = ledger.show(NORTH, LOANS, RECORD)
    assert view.ceiling.epsilon == 1.0
    assert [key.unit_option for key in view.other_units] == ["customer:customer_id"]
