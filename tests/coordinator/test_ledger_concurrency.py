"""Launches at the same moment never overspend an account together: real threads and processes, each with its own connection."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from sqlalchemy import Connection, Engine, event

from coordinator.db import migrate, open_database, writing
from coordinator.ledger import Ledger
from strategies.dp.budget import BudgetRefused
from strategies.errors import CovenantError
from strategies.ids import RunId
from tests.ceilings_for_tests import set_ceiling
from tests.coordinator.ledger_for_tests import (
    LOANS,
    NORTH,
    SOUTH,
    decision,
    entries,
    launched,
    need,
    rounds,
    settle,
    with_ceiling,
)
from tests.coordinator.ledger_process_for_tests import PATIENCE_S, launch, now

LAUNCHES = 20
PROCESSES = 2
FIT = 10
"""Of launches of one release each, which takes a tenth of the ceiling."""


def at_once(steps: Sequence[Callable[[], object]]) -> list[BaseException | None]:
    """Take all steps in threads that start together; what each one raised."""
    start, raised = threading.Barrier(len(steps)), [None] * len(steps)

    def one(at: int) -> None:
        start.wait(PATIENCE_S)
        try:
            steps[at]()
        except CovenantError as error:
            raised[at] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=one, args=(at,)) for at in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    return list(raised)


@pytest.fixture
def another(opened: Callable[..., Engine]) -> Callable[[], Ledger]:
    """Ledgers with connections of their own, which wait for each other as long as it takes."""
    return lambda: Ledger(opened(lock_timeout_s=PATIENCE_S), now)


def test_twenty_launches_at_once_reserve_exactly_what_fits(
    engine: Engine, another: Callable[[], Ledger]
) -> None:
    with_ceiling(another())
    runs = launched(engine, *range(LAUNCHES))
    launches = [partial(another().reserve_now, run, [need(NORTH, rounds(1))]) for run in runs]
    raised = at_once(launches)
    assert sorted(type(each).__name__ for each in raised) == ["BudgetRefused"] * FIT + ["NoneType"] * FIT
    view = another().show(NORTH, LOANS)
    assert view.reserved_releases == FIT
    assert view.spent.epsilon <= view.ceiling.epsilon
    assert view.fraction == pytest.approx(1.0)


def test_processes_that_launch_at_once_reserve_exactly_what_fits(
    engine: Engine, database_url: str, another: Callable[[], Ledger]
) -> None:
    with_ceiling(another())
    runs = launched(engine, *range(LAUNCHES))
    context = multiprocessing.get_context("spawn")
    start, refused = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(
            target=launch, args=(database_url, runs[at::PROCESSES], need(NORTH, rounds(1)), start, refused)
        )
        for at in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    told = [refused.get(timeout=PATIENCE_S) for _ in range(LAUNCHES - FIT + PROCESSES)]
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    assert len([run for run in told if run is not None]) == LAUNCHES - FIT
    assert another().show(NORTH, LOANS).reserved_releases == FIT


def test_launches_over_the_same_accounts_in_other_orders_do_not_wait_for_each_other_in_a_circle(
    engine: Engine, another: Callable[[], Ledger]
) -> None:
    with_ceiling(another(), NORTH, SOUTH)
    runs = launched(engine, *range(8))
    sites = ((NORTH, SOUTH), (SOUTH, NORTH))
    launches = [
        partial(another().reserve_now, run, [need(site, rounds(1)) for site in sites[at % 2]])
        for at, run in enumerate(runs)
    ]
    assert at_once(launches) == [None] * len(runs)
    assert [another().show(site, LOANS).reserved_releases for site in (NORTH, SOUTH)] == [8, 8]


@pytest.mark.postgres
def test_a_launch_that_was_overtaken_while_it_judged_is_judged_again(
    postgres_url: str,
) -> None:
    engine, overtaking = open_database(postgres_url), open_database(postgres_url)
    migrate(engine)
    slow, fast = Ledger(engine, now), Ledger(overtaking, now)
    with_ceiling(slow)
    first, second = launched(engine, 1, 2)
    overtaken: list[RunId] = []

    @event.listens_for(engine, "before_cursor_execute")
    def overtake(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE ledger_accounts") and not overtaken:
            overtaken.append(second)
            fast.reserve_now(second, [need(NORTH, rounds(6))])

    with pytest.raises(BudgetRefused, match="Of 6 rounds and retries, 4 would fit"):
        slow.reserve_now(first, [need(NORTH, rounds(6))])
    assert overtaken == [second]
    assert slow.show(NORTH, LOANS).reserved_releases == 6
    engine.dispose()
    overtaking.dispose()


def test_a_ceiling_is_not_lowered_below_a_reservation_made_at_that_moment(
    engine: Engine, another: Callable[[], Ledger]
) -> None:
    ledger, officer = another(), another()
    with_ceiling(ledger)
    (run,) = launched(engine, 1)
    raised: list[BaseException | None] = []
    lowering = threading.Thread(
        target=lambda: raised.extend(
            at_once([lambda: set_ceiling(officer, NORTH, LOANS, decision(epsilon=4.5))])
        )
    )
    with writing(engine, "launching") as session:
        ledger.reserve(session, run, [need(NORTH, rounds(6))])
        lowering.start()
        lowering.join(0.5)
        assert lowering.is_alive()
    lowering.join(PATIENCE_S)
    assert [type(each) for each in raised] == [BudgetRefused]
    assert ledger.show(NORTH, LOANS).ceiling.epsilon == 8.0


def test_officers_who_open_an_account_at_once_open_one(engine: Engine, another: Callable[[], Ledger]) -> None:
    """Each has drafted the first decision; the others are told that there was one."""
    openings = [partial(set_ceiling, another(), NORTH, LOANS, decision(order=4)) for _ in range(6)]
    raised = [type(each).__name__ for each in at_once(openings) if each is not None]
    view = another().show(NORTH, LOANS)
    assert [change.decided.seq for change in view.history] == list(range(1, 7 - len(raised)))
    assert set(raised) <= {"LedgerConflict", "Refused"}


def test_settling_of_one_run_from_two_drivers_uses_no_more_than_is_reserved(
    engine: Engine, another: Callable[[], Ledger], opened: Callable[..., Engine]
) -> None:
    with_ceiling(another())
    (run,) = launched(engine, 1)
    another().reserve_now(run, [need(NORTH, rounds(3))])
    engines = [opened(lock_timeout_s=PATIENCE_S) for _ in range(6)]
    steps = [partial(settle, Ledger(each, now), each, run, at) for at, each in enumerate(engines, start=1)]
    raised = at_once(steps)
    assert sorted(type(each).__name__ for each in raised) == ["BudgetRefused"] * 3 + ["NoneType"] * 3
    assert entries(engine, "settled") == 3


def test_launching_and_settling_do_not_wait_for_each_other_on_postgresql(
    engine: Engine, another: Callable[[], Ledger], opened: Callable[..., Engine]
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ledger = another()
    with_ceiling(ledger)
    first, second = launched(engine, 1, 2)
    ledger.reserve_now(first, [need(NORTH, rounds(2))])
    impatient = opened(lock_timeout_s=0.5)
    with writing(engine, "launching") as session:
        ledger.reserve(session, second, [need(NORTH, rounds(2))])
        settle(Ledger(impatient, now), impatient, first, 1)
    assert entries(engine, "settled") == 1
