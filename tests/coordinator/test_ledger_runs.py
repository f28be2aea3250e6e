"""Releases are reserved before a launch, settled before anything is opened, voided if they never were; nothing is charged in halves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, update

from coordinator.db import reading, writing
from coordinator.db.schema import Run, RunState
from coordinator.ledger import AccountKey, Ledger, Need, Planned
from coordinator.ledger.books import LedgerConflict
from strategies.dp.budget import BudgetRefused
from strategies.errors import Refused, UsageError
from strategies.ids import RunId
from tests.coordinator.conftest import Clock, submitted
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
    entries,
    everything,
    filling,
    launched,
    need,
    numbered,
    rounds,
    settle,
    with_ceiling,
)


@pytest.fixture
def ledger(engine: Engine, clock: Clock) -> Ledger:
    return Ledger(engine, clock)


def state(engine: Engine, run: RunId, value: RunState) -> None:
    with writing(engine, "moving a run on") as session:
        session.execute(update(Run).where(Run.id == run).values(state=value))


def left(ledger: Ledger, engine: Engine, run: RunId) -> dict[str, int]:
    with reading(engine, "looking") as session:
        return dict(ledger.left(session, run).get(AccountKey.of(NORTH, LOANS, CUSTOMER), {}))


def test_a_launch_reserves_every_planned_release_at_every_site(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger, NORTH, SOUTH)
    planned = (
        Planned(stage="prepare", release=MOMENTS, times=1),
        rounds(5),
        Planned(stage="evaluate", release=COUNTS, times=2),
    )
    ledger.reserve_now(run, [need(NORTH, *planned), need(SOUTH, *planned)])
    for site in (NORTH, SOUTH):
        view = ledger.show(site, LOANS)
        assert (view.reserved_releases, view.settled_releases) == (8, 0)
        assert view.fraction == pytest.approx(0.05 + 5 * 0.1 + 2 * 0.05)
        assert view.spent.epsilon > view.settled.epsilon == 0.0


def test_without_a_ceiling_nothing_is_reserved_and_the_command_to_set_one_is_told(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with pytest.raises(
        BudgetRefused, match=r"ceiling draft north retail-loans --unit customer:customer_id --epsilon E"
    ):
        ledger.reserve_now(run, [need()])
    assert entries(engine, "reserved") == 0


def test_an_account_for_another_unit_does_not_do(ledger: Ledger, engine: Engine, run: RunId) -> None:
    with_ceiling(ledger, unit=RECORD)
    with pytest.raises(
        BudgetRefused, match=r"per customer \(customer_id\) has no ceiling \(it has one for record only\)"
    ):
        ledger.reserve_now(run, [need()])
    with pytest.raises(BudgetRefused, match=r"gradient sum is per customer .* the account is per record"):
        ledger.reserve_now(run, [need(unit=RECORD)])
    assert entries(engine, "reserved") == 0


def test_a_refusal_names_site_account_both_figures_and_the_rounds_that_fit(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    before = everything(engine)
    planned = (Planned(stage="prepare", release=MOMENTS, times=1), rounds(20))
    with pytest.raises(BudgetRefused) as caught:
        ledger.reserve_now(run, [need(NORTH, *planned)])
    sentence = str(caught.value)
    would = CEILING.guarantee(filled(0.05 + 20 * 0.1))
    for part in ("north/retail-loans", would.words, CEILING.words, "Of 20 rounds and retries, 9 would fit"):
        assert part in sentence
    assert everything(engine) == before


def filled(share: float) -> object:
    from strategies.dp.filters import Cost

    return Cost(renyi=share * CEILING.renyi_budget, total_variation=0.0)


def test_all_accounts_are_reserved_or_none_even_if_the_caller_goes_on(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger, NORTH)
    with_ceiling(ledger, SOUTH, epsilon=1.0)
    before = everything(engine)
    with writing(engine, "launching") as session, pytest.raises(BudgetRefused, match=r"^south/retail-loans"):
        ledger.reserve(session, run, [need(NORTH), need(SOUTH)])
    assert everything(engine) == before


@ON_SQLITE
def test_every_account_that_refuses_is_named(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger, SOUTH, epsilon=1.0)
    with pytest.raises(BudgetRefused) as caught:
        ledger.reserve_now(run, [need(NORTH), need(SOUTH)])
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "north/retail-loans",
        "south/retail-loans:",
    ]


def test_a_run_and_its_reservation_are_one_transaction(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger)

    def launch(run: RunId, times: int) -> None:
        with writing(engine, "launching") as session:
            session.add(submitted(run))
            ledger.reserve(session, run, [need(NORTH, rounds(times))])

    with pytest.raises(BudgetRefused):
        launch(numbered(1), 20)
    with reading(engine, "looking") as session:
        assert session.get(Run, numbered(1)) is None
    launch(numbered(2), 4)
    assert left(ledger, engine, numbered(2)) == {"train": 4}


def test_needs_of_one_account_are_judged_together(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger)
    with pytest.raises(BudgetRefused, match="Of 12 rounds and retries, 10 would fit"):
        ledger.reserve_now(run, [need(NORTH, rounds(6)), need(NORTH, rounds(6))])
    ledger.reserve_now(run, [need(NORTH, rounds(6)), need(NORTH, rounds(4))])
    assert ledger.show(NORTH, LOANS).reserved_releases == 10


@ON_SQLITE
def test_an_exhausted_account_is_closed_and_stays_so(ledger: Ledger, engine: Engine) -> None:
    with_ceiling(ledger)
    first, second = launched(engine, 1, 2)
    ledger.reserve_now(first, [need(NORTH, rounds(10))])
    with pytest.raises(BudgetRefused, match="Of 1 rounds and retries, 0 would fit"):
        ledger.reserve_now(second, [need(NORTH, rounds(1, filling(1e-6)))])
    for number in range(1, 11):
        settle(ledger, engine, first, number)
    close(ledger, engine, first)
    with pytest.raises(BudgetRefused):
        ledger.reserve_now(second, [need(NORTH, rounds(1, filling(1e-6)))])


@ON_SQLITE
def test_the_name_of_the_population_is_the_account_whatever_plan_contract_or_members_are(
    ledger: Ledger, engine: Engine
) -> None:
    with_ceiling(ledger)
    with writing(engine, "submitting") as session:
        for number in (1, 2):
            row = submitted(numbered(number))
            row.contract, row.plan_name, row.members = (
                f"contract {number}",
                f"plan-{number}",
                f"members {number}",
            )
            session.add(row)
    ledger.reserve_now(numbered(1), [need(NORTH, rounds(6))])
    with pytest.raises(BudgetRefused, match="Of 5 rounds and retries, 4 would fit"):
        ledger.reserve_now(numbered(2), [need(NORTH, rounds(5))])


def test_a_second_reservation_of_a_run_is_refused_while_it_holds_one(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need()])
    with pytest.raises(LedgerConflict, match="holds a reservation already"):
        ledger.reserve_now(run, [need()])
    with pytest.raises(LedgerConflict, match="is not in this database"):
        ledger.reserve_now(numbered(9), [need()])


def test_settling_turns_one_reserved_release_of_each_survivor_and_charges_nothing_anew(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger, NORTH, SOUTH, WEST)
    ledger.reserve_now(run, [need(site) for site in (NORTH, SOUTH, WEST)])
    before = ledger.show(NORTH, LOANS).spent
    settle(ledger, engine, run, 1, 1, NORTH, SOUTH)
    views = {site: ledger.show(site, LOANS) for site in (NORTH, SOUTH, WEST)}
    assert [(view.settled_releases, view.reserved_releases) for view in views.values()] == [
        (1, 2),
        (1, 2),
        (0, 3),
    ]
    assert views[NORTH].spent == before


def test_settling_the_same_attempt_again_changes_nothing(ledger: Ledger, engine: Engine, run: RunId) -> None:
    with_ceiling(ledger, NORTH, SOUTH)
    ledger.reserve_now(run, [need(NORTH, rounds(1)), need(SOUTH, rounds(1))])
    settle(ledger, engine, run, 1, 1, NORTH)
    settle(ledger, engine, run, 1, 1, NORTH)
    settle(ledger, engine, run, 1, 1, NORTH, SOUTH)
    assert entries(engine, "settled") == 2


def test_more_attempts_than_reserved_are_refused_for_all_sites_of_the_attempt(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger, NORTH, SOUTH)
    ledger.reserve_now(run, [need(NORTH, rounds(2)), need(SOUTH, rounds(3))])
    settle(ledger, engine, run, 1, 1, NORTH, SOUTH)
    settle(ledger, engine, run, 1, 2, NORTH, SOUTH)
    with pytest.raises(
        BudgetRefused, match=r"north/retail-loans .* has nothing reserved left for stage train: all 2"
    ):
        settle(ledger, engine, run, 2, 1, NORTH, SOUTH)
    assert entries(engine, "settled") == 4


def test_a_site_or_stage_that_reserved_nothing_is_not_settled(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need()])
    with pytest.raises(BudgetRefused, match="reserved nothing for stage train at south"):
        settle(ledger, engine, run, 1, 1, NORTH, SOUTH)
    with pytest.raises(BudgetRefused, match="stage evaluate"), writing(engine, "settling") as session:
        ledger.settle(session, run, "evaluate", 1, 1, [NORTH])
    assert entries(engine, "settled") == 0


def test_one_attempt_settles_every_release_of_its_stage_once(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    both = (
        Planned(stage="evaluate", release=COUNTS, times=2),
        Planned(stage="evaluate", release=filling(0.02, what="calibration"), times=2),
    )
    ledger.reserve_now(run, [need(NORTH, *both, rounds(1))])
    with writing(engine, "settling") as session:
        ledger.settle(session, run, "evaluate", 1, 1, [NORTH])
    assert left(ledger, engine, run) == {"evaluate": 1, "train": 1}
    assert entries(engine, "settled") == 2


def test_a_settlement_belongs_to_the_transaction_that_fixes_the_survivors(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need()])

    def lose_power() -> None:
        with writing(engine, "settling") as session:
            ledger.settle(session, run, "train", 1, 1, [NORTH])
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        lose_power()
    assert entries(engine, "settled") == 0


def test_a_completed_run_gives_back_what_was_never_opened_and_nothing_else(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(5))])
    settle(ledger, engine, run, 1)
    settle(ledger, engine, run, 2)
    assert close(ledger, engine, run) == 3
    assert close(ledger, engine, run) == 0
    view = ledger.show(NORTH, LOANS)
    assert view.spent == view.settled
    assert view.fraction == pytest.approx(0.2)
    with pytest.raises(BudgetRefused, match="nothing reserved left"):
        settle(ledger, engine, run, 3)


def test_a_failed_run_keeps_its_reservation_until_a_person_gives_it_up(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(5))])
    for going in (RunState.SUBMITTED, RunState.RUNNING):
        state(engine, run, going)
        with pytest.raises(Refused, match="stop it first"):
            ledger.release_run(run, "no longer wanted")
    state(engine, run, RunState.FAILED)
    assert left(ledger, engine, run) == {"train": 5}
    assert ledger.release_run(run, "no longer wanted") == 5
    assert left(ledger, engine, run) == {}
    ledger.reserve_now(run, [need(NORTH, rounds(2))])  # as a person does who resumes it after all
    settle(ledger, engine, run, 3)
    assert left(ledger, engine, run) == {"train": 1}


@ON_SQLITE
def test_a_release_without_noise_is_recorded_and_shown_and_costs_nothing(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    with_ceiling(ledger)
    bare = Planned(stage="prepare", release=BARE_MOMENTS, times=3)
    ledger.reserve_now(run, [need(NORTH, bare, rounds(2))])
    view = ledger.show(NORTH, LOANS)
    assert view.exempted == ("scaling moments",)
    assert view.fraction == pytest.approx(0.2)
    assert view.reserved_releases == 5


NOTHING: tuple[tuple[Callable[[], list[Need]], str], ...] = (
    (lambda: [need(NORTH, rounds(0))], "planned 0 times"),
    (lambda: [need(NORTH, Planned(stage="deploy", release=GRADIENT, times=1))], "'deploy' is no stage"),
    (list, "names at least one account"),
    (lambda: [Need(site=NORTH, population=LOANS, unit=CUSTOMER, planned=())], "nothing is planned"),
)


@ON_SQLITE
def test_needs_that_mean_nothing_are_refused(ledger: Ledger, run: RunId) -> None:
    with_ceiling(ledger)
    for make, sentence in NOTHING:
        with pytest.raises(UsageError, match=sentence):
            ledger.reserve_now(run, make())


@ON_SQLITE
def test_an_attempt_that_cannot_be_is_not_settled(ledger: Ledger, engine: Engine, run: RunId) -> None:
    with_ceiling(ledger)
    ledger.reserve_now(run, [need()])
    for stage, number, attempt, sites in (
        ("train", -1, 1, [NORTH]),
        ("train", 1, 0, [NORTH]),
        ("train", 1, 1, []),
        ("deploy", 1, 1, [NORTH]),
    ):
        with pytest.raises(UsageError), writing(engine, "settling") as session:
            ledger.settle(session, run, stage, number, attempt, sites)
