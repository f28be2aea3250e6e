"""What an account shows: figures from releases, with what they leave out, and the worst case of persons at several sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Connection, Engine, event, text

from coordinator.db import writing
from coordinator.ledger import Ledger, Planned
from strategies.dp.accountants import RdpAccountant
from strategies.dp.budget import cost_of
from strategies.dp.events import Part, Partition
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.ids import RunId
from tests.ceilings_for_tests import TWO, set_ceiling
from tests.coordinator.conftest import Clock
from tests.coordinator.ledger_for_tests import (
    BARE_MOMENTS,
    CEILING,
    COUNTS,
    CUSTOMER,
    GRADIENT,
    LOANS,
    MOMENTS,
    NORTH,
    ON_SQLITE,
    RECORD,
    SOUTH,
    WEST,
    close,
    decision,
    filling,
    launched,
    need,
    rounds,
    settle,
    shared,
    with_ceiling,
)

MANY = 100_000


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    return Ledger(engine, clock)


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    seen: list[str] = []

    def note(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_figures_are_computed_from_the_releases(ledger: Ledger, engine: Engine, run: RunId) -> None:
    with_ceiling(ledger)
    prepare = Planned(stage="prepare", release=MOMENTS, times=1)
    ledger.reserve_now(run, [need(NORTH, prepare, rounds(5))])
    settle(ledger, engine, run, 1)
    settle(ledger, engine, run, 2)
    view = ledger.show(NORTH, LOANS)
    charged = {MOMENTS: 1, GRADIENT: 5}
    assert view.spent == CEILING.guarantee(cost_of(charged, CEILING.order))
    assert view.settled == CEILING.guarantee(cost_of({GRADIENT: 2}, CEILING.order))
    assert view.tight == RdpAccountant().guarantee(charged, 1e-6, CUSTOMER)
    assert view.tight.epsilon <= view.spent.epsilon
    assert view.own_noise == view.spent  # the noise of these releases is the site's own
    assert (view.settled_releases, view.reserved_releases) == (2, 4)


@ON_SQLITE
def test_if_only_its_own_noise_counts_a_site_loses_more(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(3, shared(0.1)))])
    view = ledger.show(NORTH, LOANS)
    assert view.own_noise.epsilon > view.spent.epsilon


def test_runs_are_told_apart_with_all_that_became_of_their_releases(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger)
    first, second = launched(engine, 2, 1)
    ledger.reserve_now(first, [need(NORTH, rounds(4), Planned(stage="evaluate", release=COUNTS, times=1))])
    ledger.reserve_now(second, [need(NORTH, rounds(2))])
    settle(ledger, engine, first, 1)
    close(ledger, engine, first)
    settle(ledger, engine, second, 1)
    view = ledger.show(NORTH, LOANS)
    told = {
        (run.run, each.stage): (each.settled, each.reserved, each.voided)
        for run in view.runs
        for each in run.stages
    }
    assert told == {(first, "train"): (1, 0, 3), (first, "evaluate"): (0, 0, 1), (second, "train"): (1, 1, 0)}
    assert [run.run for run in view.runs] == [first, second]
    assert [run.fraction for run in view.runs] == pytest.approx([0.1, 0.2])
    assert view.runs[1].alone == CEILING.guarantee(cost_of({GRADIENT: 2}, CEILING.order))


def test_alerts_are_recorded_once_when_a_reservation_reaches_them(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger, alert_at=(0.5, 0.8))
    first, second, third = launched(engine, 1, 2, 3)
    assert ledger.reserve_now(first, [need(NORTH, rounds(4))]) == ()
    crossed = ledger.reserve_now(second, [need(NORTH, rounds(2))])
    assert [(each.fraction, each.run) for each in crossed] == [(0.5, second)]
    assert ledger.reserve_now(third, [need(NORTH, rounds(1))]) == ()
    reached, not_reached = ledger.show(NORTH, LOANS).alerts
    assert (reached.fraction, reached.run) == (0.5, second)
    assert reached.at is not None
    assert (not_reached.fraction, not_reached.at) == (0.8, None)
    assert ledger.accounts()[0].crossed == (0.5,)


@ON_SQLITE
def test_a_reservation_that_reaches_several_alerts_reaches_each(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger, alert_at=(0.5, 0.8, 1.0))
    crossed = ledger.reserve_now(run, [need(NORTH, rounds(9))])
    assert [each.fraction for each in crossed] == [0.5, 0.8]


def test_a_lowered_ceiling_may_reach_alerts_by_itself_and_a_raised_one_begins_anew(
    ledger: Ledger, run: RunId
) -> None:
    with_ceiling(ledger, alert_at=(0.5,))
    ledger.reserve_now(run, [need(NORTH, rounds(4))])
    crossed = set_ceiling(ledger, NORTH, LOANS, decision(epsilon=6.0))
    assert [(each.fraction, each.run) for each in crossed] == [(0.5, None)]
    set_ceiling(ledger, NORTH, LOANS, decision(epsilon=20.0, officers=TWO))
    assert [each.at for each in ledger.show(NORTH, LOANS).alerts] == [None]


@ON_SQLITE
def test_a_void_takes_no_alert_back(ledger: Ledger, engine: Engine, run: RunId) -> None:
    with_ceiling(ledger, alert_at=(0.5,))
    ledger.reserve_now(run, [need(NORTH, rounds(6))])
    close(ledger, engine, run)
    view = ledger.show(NORTH, LOANS)
    assert view.fraction == 0.0
    assert view.alerts[0].at is not None


def test_exemptions_and_accounts_for_other_units_are_named_beside_the_figures(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    with_ceiling(ledger, unit=RECORD)
    ledger.reserve_now(run, [need(NORTH, Planned(stage="prepare", release=BARE_MOMENTS, times=1), rounds(1))])
    view = ledger.show(NORTH, LOANS, CUSTOMER)
    assert view.exempted == ("scaling moments",)
    assert [key.unit_option for key in view.other_units] == ["record"]
    assert view.tight.epsilon < view.ceiling.epsilon


@ON_SQLITE
def test_parts_told_apart_by_the_customers_column_are_paid_for_once(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger)
    split = Partition(contract="ab" * 32, by="customer_id", salt="s", share=0.2)
    training = filling(0.1, partition=split)
    held_out = filling(0.1, what="evaluation counts", partition=split, part=Part.EVALUATION)
    planned = (rounds(8, training), Planned(stage="evaluate", release=held_out, times=8))
    ledger.reserve_now(run, [need(NORTH, *planned)])
    assert ledger.show(NORTH, LOANS).fraction == pytest.approx(0.8)


# --- persons at several sites -----------------------------------------------------------------------------------------


@ON_SQLITE
def test_without_declared_overlaps_there_is_no_worst_person(ledger: Ledger) -> None:
    with_ceiling(ledger, NORTH, SOUTH)
    assert ledger.show(NORTH, LOANS).overlap is None


def test_releases_of_overlapping_sites_add_up_whichever_declares_it(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger, NORTH, overlaps=("south",))
    with_ceiling(ledger, SOUTH)
    first, second = launched(engine, 1, 2)
    ledger.reserve_now(first, [need(NORTH, rounds(3))])
    ledger.reserve_now(second, [need(SOUTH, rounds(2))])
    for site in (NORTH, SOUTH):
        overlap = ledger.show(site, LOANS).overlap
        assert overlap is not None
        assert overlap.sites == (NORTH, SOUTH)
        expected = CEILING.guarantee(cost_of({GRADIENT: 5}, CEILING.order))
        assert overlap.worst.epsilon == pytest.approx(expected.epsilon)
        assert overlap.worst.unit.max_sites == 2


def test_a_person_in_both_sides_of_one_sum_moves_it_twice_as_far(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger, NORTH, overlaps=("south",))
    with_ceiling(ledger, SOUTH)
    joint = shared(0.1)
    ledger.reserve_now(run, [need(site, rounds(2, joint)) for site in (NORTH, SOUTH)])
    overlap = ledger.show(NORTH, LOANS).overlap
    assert overlap is not None
    twice_as_far = CEILING.guarantee(cost_of({joint.for_person_at(2): 2}, CEILING.order))
    added_up = CEILING.guarantee(cost_of({joint: 4}, CEILING.order))
    assert overlap.worst.epsilon == pytest.approx(twice_as_far.epsilon)
    assert overlap.worst.epsilon > added_up.epsilon


@ON_SQLITE
def test_an_overlapping_site_without_an_account_is_named_as_not_counted(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger, NORTH, overlaps=("south", "west"))
    with_ceiling(ledger, SOUTH, unit=RECORD)
    with_ceiling(ledger, WEST)
    overlap = ledger.show(NORTH, LOANS).overlap
    assert overlap is not None
    assert overlap.without_account == (SOUTH,)


# --- which account, and how many --------------------------------------------------------------------------------------


@ON_SQLITE
def test_an_account_that_is_not_there_is_told_with_those_that_are(ledger: Ledger) -> None:
    with_ceiling(ledger)
    with pytest.raises(UsageError, match="covenant ledger list"):
        ledger.show(SOUTH, LOANS)
    with pytest.raises(UsageError, match="it has --unit customer:customer_id"):
        ledger.show(NORTH, LOANS, RECORD)


@ON_SQLITE
def test_the_unit_is_the_account_whatever_number_of_rows_counts(ledger: Ledger) -> None:
    with_ceiling(ledger)
    other = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=9)
    assert ledger.show(NORTH, LOANS, other).ceiling.unit.max_rows == 4


def test_accounts_are_listed_by_site(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger, SOUTH, NORTH)
    (run,) = launched(engine, 1)
    ledger.reserve_now(run, [need(SOUTH, rounds(5))])
    listed = ledger.accounts()
    assert [each.key.site for each in listed] == [NORTH, SOUTH]
    assert [each.fraction for each in listed] == pytest.approx([0.0, 0.5])
    assert listed[1].spent == ledger.show(SOUTH, LOANS).spent


def test_a_hundred_thousand_releases_are_summed_up_by_a_few_queries(
    ledger: Ledger, engine: Engine, opened: Callable[..., Engine]
) -> None:
    tiny = [replace(filling(0.5 / MANY), what=f"gradient sum {at}") for at in range(10)]
    with_ceiling(ledger)
    runs = launched(engine, *range(10))
    for run, release in zip(runs, tiny, strict=True):
        ledger.reserve_now(run, [need(NORTH, rounds(MANY // 10, release))])
    with counted(engine) as few:
        ledger.show(NORTH, LOANS)
    settle_all(engine, runs, MANY // 10)
    with counted(engine) as many:
        view = ledger.show(NORTH, LOANS)
    assert (view.settled_releases, view.reserved_releases) == (MANY, 0)
    assert view.fraction == pytest.approx(0.5)
    assert len(view.runs) == 10
    assert len(many) == len(few) < 15
    with counted(engine) as listing:
        assert ledger.accounts()[0].fraction == pytest.approx(0.5)
    assert len(listing) < 8


_SETTLE = """
    INSERT INTO ledger_entries (account_id, run_id, stage, release_digest, outcome, times, round, attempt, at)
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :most)
    SELECT 1, run_id, stage, release_digest, 'settled', 1, number, 1, at
    FROM ledger_entries, numbers WHERE run_id = :run AND outcome = 'reserved'
"""


def settle_all(engine: Engine, runs: list[RunId], each: int) -> None:
    """Settle `each` releases of every run, by the database itself."""
    with writing(engine, "settling") as session:
        for run in runs:
            session.execute(text(_SETTLE), {"run": run, "most": each})
