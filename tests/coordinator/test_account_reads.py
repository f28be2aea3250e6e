"""What the console reads of accounts, on both databases: sums, runs by their first charge, and the curve of an account over time."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from coordinator.console.reads import accounts
from coordinator.db import reading
from coordinator.ledger import Ledger
from coordinator.ledger.books import all_in_force, open_books
from coordinator.ledger.curves import over_time
from coordinator.ledger.totals import opened_of, runs_charged
from strategies.dp.budget import cost_of
from strategies.errors import UsageError
from tests.coordinator.conftest import Clock
from tests.coordinator.ledger_for_tests import (
    CEILING,
    GRADIENT,
    LOANS,
    NORTH,
    SOUTH,
    WEST,
    close,
    launched,
    need,
    rounds,
    settle,
    with_ceiling,
)


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    """Three accounts; two runs at north, of which one opened two sums and gave back the rest, and one has reserved."""
    made = Ledger(engine, clock)
    with_ceiling(made, NORTH, SOUTH, WEST, alert_at=[0.4])
    first, second = launched(engine, 1, 2)
    made.reserve_now(first, [need(NORTH, rounds(4))])
    settle(made, engine, first, 1)
    settle(made, engine, first, 2)
    close(made, engine, first)
    made.reserve_now(second, [need(NORTH, rounds(3))])
    return made


def test_a_page_has_what_the_ledger_shows(ledger: Ledger, engine: Engine) -> None:
    found = accounts.page(engine, limit=2)
    view = ledger.show(NORTH, LOANS)
    north = found.rows[0]

    assert [each.key.site for each in found.rows] == [NORTH, SOUTH]
    assert (north.opened, north.charged, north.fraction) == (view.settled, view.spent, view.fraction)
    assert north.crossed == (0.4,)
    assert [each.key.site for each in accounts.page(engine, after=found.older).rows] == [WEST]
    assert [each.key.site for each in accounts.page(engine, alerts=True).rows] == [NORTH]
    assert [each.key.site for each in accounts.page(engine, text="o").rows] == [NORTH, SOUTH, WEST]
    assert [each.key.site for each in accounts.page(engine, text="out").rows] == [SOUTH]
    with reading(engine, "looking") as session:
        (past,) = accounts.past_alerts(session, 5)
    assert (past.key.site, past.fraction) == (NORTH, 0.4)
    with pytest.raises(UsageError, match="cut or changed"):
        accounts.page(engine, after="north")


def test_runs_come_by_their_first_charge(ledger: Ledger, engine: Engine) -> None:
    del ledger
    with reading(engine, "looking") as session:
        book = open_books(session, [key for key in all_in_force(session) if key.site == NORTH])
        (account,) = (each.id for each in book.values())
        newest = runs_charged(session, account, None, 1)
        before = runs_charged(session, account, newest[0], 5)
        opened = opened_of(session, [account])

    assert [each.run[-1] for each in (*newest, *before)] == ["2", "1"]
    assert opened == {account: {GRADIENT: 2}}


def test_a_curve_rises_with_reservations_and_falls_with_what_is_given_back(
    ledger: Ledger, engine: Engine
) -> None:
    del ledger
    with reading(engine, "looking") as session:
        (book,) = open_books(session, [key for key in all_in_force(session) if key.site == NORTH]).values()
        curve = over_time(session, book)

    def promised(times: int) -> float:
        return CEILING.guarantee(cost_of({GRADIENT: times}, CEILING.order)).epsilon

    assert [each.guarantee.epsilon for each in curve.charged] == [promised(4), promised(2), promised(5)]
    assert [each.guarantee.epsilon for each in curve.opened] == [promised(2)]
    assert [each.at for each in curve.charged] == sorted(each.at for each in curve.charged)
