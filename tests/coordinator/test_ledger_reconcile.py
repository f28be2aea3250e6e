"""A site's own account and the centre's are compared attempt by attempt; what nothing explains is an alarm, and the larger side is quoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from coordinator.db import writing
from coordinator.db.schema import Site
from coordinator.ledger import Ledger
from coordinator.ledger.reconcile import Kind, Reconciliation
from protos.account_statement import StatedAccount, StatedEntry, sign
from protos.keys import SigningKey
from strategies.dp.budget import cost_of
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName
from tests.coordinator.conftest import Clock
from tests.coordinator.ledger_for_tests import (
    CEILING,
    GRADIENT,
    LOANS,
    NORTH,
    ON_SQLITE,
    SOUTH,
    close,
    everything,
    filling,
    launched,
    need,
    numbered,
    rounds,
    settle,
    with_ceiling,
)

LATE = datetime(2030, 1, 1, tzinfo=UTC)
EARLY = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = filling(0.05)


@dataclass
class Pair:
    """A ledger with one run of six rounds at north, and north's identity."""

    engine: Engine
    ledger: Ledger
    run: RunId
    identity: SigningKey

    def settled(self, *numbers: int, attempt: int = 1) -> None:
        for number in numbers:
            settle(self.ledger, self.engine, self.run, number, attempt)

    def charged(
        self, number: int, *, attempt: int = 1, release: Release = GRADIENT, **changes: Any
    ) -> StatedEntry:
        facts: dict[str, Any] = {
            "run": self.run,
            "stage": "train",
            "round": number,
            "attempt": attempt,
            "release": release.digest,
            "plan": Digest("cd" * 32),
            "at": EARLY,
        }
        return StatedEntry(**{**facts, **changes})

    def reconciled(
        self,
        *entries: StatedEntry,
        releases: Sequence[Release] = (GRADIENT,),
        made_at: datetime = LATE,
        population: str = LOANS,
        ceiling: Ceiling = CEILING,
    ) -> Reconciliation:
        named = [release for release in releases if release.digest in {each.release for each in entries}]
        account = StatedAccount.of(population, ceiling, named, entries)
        return self.ledger.reconcile(sign(NORTH, self.identity, made_at, [account]).to_bytes())


@pytest.fixture
def pair(engine: Engine, clock: Clock, run: RunId) -> Pair:
    identity, ledger = SigningKey.generate(), Ledger(engine, clock)
    enrolled = {"name": NORTH, "identity_key": identity.public, "node_key": "n", "members_ref": "demo@1"}
    with writing(engine, "enrolling") as session:
        session.add(Site(**enrolled, enrolled_at=EARLY))
    with_ceiling(ledger)
    ledger.reserve_now(run, [need(NORTH, rounds(6))])
    return Pair(engine, ledger, run, identity)


def kinds(found: Reconciliation) -> list[tuple[Kind, int, int]]:
    return [
        (each.kind, each.at.round, each.at.attempt)
        for account in found.accounts
        for each in account.differences
    ]


def test_equal_sides_have_no_difference(pair: Pair) -> None:
    pair.settled(1, 2)
    found = pair.reconciled(pair.charged(1), pair.charged(2))
    (account,) = found.accounts
    assert (account.agreed, account.differences, found.alarms) == (2, (), ())
    assert account.centre == account.site == account.quoted
    assert account.centre == CEILING.guarantee(cost_of({GRADIENT: 2}, CEILING.order))


def test_what_was_charged_and_never_opened_is_expected_and_the_site_is_quoted(pair: Pair) -> None:
    pair.settled(1, attempt=2)
    close(pair.ledger, pair.engine, pair.run)
    found = pair.reconciled(pair.charged(1, attempt=1), pair.charged(1, attempt=2), pair.charged(2))
    (account,) = found.accounts
    assert kinds(found) == [(Kind.NEVER_OPENED, 1, 1), (Kind.NEVER_OPENED, 2, 1)]
    assert found.alarms == ()
    assert account.quoted == account.site == CEILING.guarantee(cost_of({GRADIENT: 3}, CEILING.order))


@ON_SQLITE
def test_an_attempt_charged_twice_after_a_crash_counts_twice_and_is_expected(pair: Pair) -> None:
    pair.settled(1)
    found = pair.reconciled(pair.charged(1), pair.charged(1))
    assert kinds(found) == [(Kind.NEVER_OPENED, 1, 1)]
    assert found.alarms == ()
    assert found.accounts[0].quoted == CEILING.guarantee(cost_of({GRADIENT: 2}, CEILING.order))


def test_what_was_settled_and_not_charged_is_an_alarm_and_the_centre_is_quoted(pair: Pair) -> None:
    pair.settled(1, 2)
    found = pair.reconciled(pair.charged(1))
    assert kinds(found) == [(Kind.NOT_CHARGED, 2, 1)]
    assert len(found.alarms) == 1
    assert found.accounts[0].quoted == found.accounts[0].centre


@ON_SQLITE
def test_a_site_that_states_no_account_charged_nothing(pair: Pair) -> None:
    pair.settled(1)
    empty = sign(NORTH, pair.identity, LATE, []).to_bytes()
    found = pair.ledger.reconcile(empty)
    assert kinds(found) == [(Kind.NOT_CHARGED, 1, 1)]
    assert found.accounts[0].site_ceiling is None


@ON_SQLITE
def test_another_release_for_the_same_attempt_is_an_alarm_told_once(pair: Pair) -> None:
    pair.settled(1)
    found = pair.reconciled(pair.charged(1, release=OTHER), releases=(OTHER,))
    assert kinds(found) == [(Kind.OTHER_RELEASE, 1, 1)]
    assert found.alarms[0].at.release == GRADIENT.digest


@ON_SQLITE
def test_another_release_for_an_attempt_that_was_not_opened_is_an_alarm(pair: Pair) -> None:
    found = pair.reconciled(pair.charged(1, release=OTHER), releases=(OTHER,))
    assert kinds(found) == [(Kind.OTHER_RELEASE, 1, 1)]
    assert len(found.alarms) == 1


def test_a_charge_for_a_run_that_the_centre_does_not_know_is_an_alarm(pair: Pair) -> None:
    found = pair.reconciled(pair.charged(1, run=numbered(77)))
    assert kinds(found) == [(Kind.UNKNOWN_RUN, 1, 1)]
    assert len(found.alarms) == 1


def test_a_charge_for_what_a_run_never_reserved_here_is_an_alarm(pair: Pair) -> None:
    launched(pair.engine, 5)
    found = pair.reconciled(
        pair.charged(1, run=numbered(5)), pair.charged(1, stage="evaluate"), pair.charged(2)
    )
    assert kinds(found) == [
        (Kind.NEVER_OPENED, 2, 1),
        (Kind.NEVER_RESERVED, 1, 1),
        (Kind.NEVER_RESERVED, 1, 1),
    ]
    assert len(found.alarms) == 2


@ON_SQLITE
def test_an_account_that_only_the_site_has_is_compared_too(pair: Pair) -> None:
    found = pair.reconciled(pair.charged(1), population="others")
    others, loans = found.accounts
    assert (others.key.population, others.ceiling, loans.key.population) == ("others", None, LOANS)
    assert [each.kind for each in others.differences] == [Kind.NEVER_RESERVED]


def test_what_was_settled_after_the_statement_is_not_judged_by_it(pair: Pair) -> None:
    pair.settled(1)
    found = pair.reconciled(made_at=EARLY)
    assert kinds(found) == [(Kind.LATER, 1, 1)]
    assert found.alarms == ()


@ON_SQLITE
def test_ceilings_of_both_sides_are_shown_and_figures_are_by_the_centres(pair: Pair) -> None:
    pair.settled(1)
    own = Ceiling.fixed(epsilon=3.0, delta=1e-7, unit=CEILING.unit)
    (account,) = pair.reconciled(pair.charged(1), ceiling=own).accounts
    assert (account.ceiling, account.site_ceiling) == (CEILING, own)
    assert account.site.delta == account.centre.delta == CEILING.delta


@ON_SQLITE
def test_other_sites_accounts_are_not_compared(pair: Pair) -> None:
    with_ceiling(pair.ledger, SOUTH)
    assert [each.key.site for each in pair.reconciled().accounts] == [NORTH]


@ON_SQLITE
def test_a_statement_by_a_stranger_or_with_another_key_is_refused(pair: Pair) -> None:
    with pytest.raises(Refused, match="not enrolled here"):
        pair.ledger.reconcile(sign(SiteName("east"), pair.identity, LATE, []).to_bytes())
    with pytest.raises(Refused, match="not signed with the identity key"):
        pair.ledger.reconcile(sign(NORTH, SigningKey.generate(), LATE, []).to_bytes())


@ON_SQLITE
def test_reconciling_changes_nothing(pair: Pair) -> None:
    pair.settled(1)
    before = everything(pair.engine)
    pair.reconciled(pair.charged(2))
    assert everything(pair.engine) == before


def test_what_was_charged_for_another_federation_is_expected_counts_and_is_quoted(pair: Pair) -> None:
    """The account is one. Its run is none that the centre knows, and without `elsewhere` it would be an alarm."""
    pair.settled(1)
    abroad = pair.charged(3, run=numbered(77), plan=Digest("ef" * 32), elsewhere=True)
    found = pair.reconciled(pair.charged(1), abroad)
    (account,) = found.accounts
    assert kinds(found) == [(Kind.ELSEWHERE, 3, 1)]
    assert (account.agreed, found.alarms) == (1, ())
    assert account.quoted == account.site == CEILING.guarantee(cost_of({GRADIENT: 2}, CEILING.order))
    assert account.centre == CEILING.guarantee(cost_of({GRADIENT: 1}, CEILING.order))
