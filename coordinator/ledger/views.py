"""An account as people see it. Every figure is computed from releases at the moment it is shown.

1. A figure is a guarantee: with its delta, its unit and its neighbours.
2. The filter's figure is the one that holds, whatever later plans depend on. The tight one is a report for plans fixed beforehand.
3. What is not counted is said beside the figure: exemptions, and accounts of the same rows for another unit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerCeiling
from coordinator.ledger.alerts import recorded
from coordinator.ledger.books import Book, InForce, adopted_by, all_in_force, in_force_of, open_books
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.overlaps import OverlapView, overlap_of
from coordinator.ledger.totals import StageTotals, Totals, charges_in, settled_in, totals_of
from strategies.dp.budget import Account, cost_of, merged, noisy
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee, PrivacyUnit
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName

TIGHT_CAVEAT: Final = "for releases fixed beforehand, at the Rényi order that suits them best; where plans follow from earlier results, only the filter's holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSummary:
    """One line about an account; `spent` counts reservations, `fraction` is how much of the ceiling that is, `crossed` are alerts."""

    key: AccountKey
    ceiling: Ceiling
    spent: Guarantee
    fraction: float
    crossed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """What one run has charged: `alone` is its cost if nothing else were ever released, `fraction` its part of the ceiling."""

    run: RunId
    stages: tuple[StageTotals, ...]
    alone: Guarantee
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert of the ceiling in force; `at` is when its fraction was reached, and None if it was not, `run` by what."""

    fraction: float
    at: datetime | None
    run: RunId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingChange:
    """One decision of the officers."""

    decided: InForce
    officers: tuple[str, ...]
    reason: str
    set_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """One account in full.

    `spent` counts all that is charged, `settled` only what was opened. `tight` and `own_noise` are about what is charged: by the RDP
    accountant (`TIGHT_CAVEAT`), and if nobody's noise but this site's counts.
    """

    key: AccountKey
    ceiling: Ceiling
    spent: Guarantee
    settled: Guarantee
    fraction: float
    settled_releases: int
    reserved_releases: int
    tight: Guarantee
    own_noise: Guarantee
    runs: tuple[RunTotals, ...]
    alerts: tuple[AlertView, ...]
    exempted: tuple[str, ...]
    other_units: tuple[AccountKey, ...]
    history: tuple[CeilingChange, ...]
    overlap: OverlapView | None


def summaries(session: Session) -> tuple[AccountSummary, ...]:
    """All accounts, by site and population."""
    books = open_books(session)
    alerts = recorded(session, [book.id for book in books.values()])
    crossed = {(each.account_id, each.ceiling_seq, each.fraction) for each in alerts}
    return tuple(
        AccountSummary(
            key=book.key,
            ceiling=book.in_force.ceiling,
            spent=book.account.guarantee(),
            fraction=book.in_force.ceiling.fraction(book.account.cost),
            crossed=tuple(at for at in book.in_force.alert_at if (book.id, book.in_force.seq, at) in crossed),
        )
        for book in sorted(books.values(), key=lambda each: each.key.stored)
    )


def view(session: Session, site: SiteName, population: str, unit: PrivacyUnit | None) -> AccountView:
    """One account in full. Raises UsageError where there is none, or several of which `unit` chooses none."""
    in_force = all_in_force(session)
    here = [key for key in in_force if (key.site, key.population) == (site, population)]
    book = _book(session, _chosen(here, f"{site}/{population}", unit))
    ceiling, totals = book.in_force.ceiling, totals_of(session, [book.id]).get(book.id, {})
    stages = tuple(chain.from_iterable(totals.values()))
    adopted = adopted_by(session, [book.id]).get(book.id, {})
    # From one reading, so that its parts add up whatever is written meanwhile.
    account = Account(name=book.key.name, ceiling=ceiling, charges=merged(charges_in(stages), adopted))
    settled = merged(settled_in(stages), adopted)
    return AccountView(
        key=book.key,
        ceiling=ceiling,
        spent=account.guarantee(),
        settled=ceiling.guarantee(cost_of(settled, ceiling.order)),
        fraction=ceiling.fraction(account.cost),
        settled_releases=sum(settled.values()),
        reserved_releases=sum(account.charges.values()) - sum(settled.values()),
        tight=tight_guarantee(account),
        own_noise=account.worst_own_noise(),
        runs=run_totals(totals, ceiling),
        alerts=alerts_of(session, book),
        exempted=tuple(sorted({release.what for release in account.exempted()})),
        other_units=tuple(key for key in here if key != book.key),
        history=history_of(session, book),
        overlap=overlap_of(session, book, in_force),
    )


def tight_guarantee(account: Account) -> Guarantee:
    """What the RDP accountant promises for the charges of `account`, exemptions left out (`TIGHT_CAVEAT`)."""
    from strategies.dp.accountants import RdpAccountant  # a second or two, which other commands need not wait

    return RdpAccountant().guarantee(noisy(account.charges), account.ceiling.delta, account.ceiling.unit)


def _chosen(here: Collection[AccountKey], name: str, unit: PrivacyUnit | None) -> AccountKey:
    options = ", ".join(f"--unit {key.unit_option}" for key in here)
    if not here:
        raise UsageError(f"{name} has no account; `covenant ledger list` shows those there are")
    if unit is None and len(here) > 1:
        raise UsageError(f"{name} has several accounts; choose one: {options}")
    chosen = [key for key in here if unit is None or (key.kind, key.column) == (unit.kind, unit.column)]
    if not chosen:
        raise UsageError(f"{name} has no account for this unit; it has {options}")
    return chosen[0]


def _book(session: Session, key: AccountKey) -> Book:
    return open_books(session, [key])[key]


def run_totals(totals: Totals, ceiling: Ceiling) -> tuple[RunTotals, ...]:
    """What each run has charged, by the ceiling's order."""
    found = []
    for run, stages in totals.items():
        cost = cost_of(charges_in(stages), ceiling.order)
        found.append(
            RunTotals(run=run, stages=stages, alone=ceiling.guarantee(cost), fraction=ceiling.fraction(cost))
        )
    return tuple(found)


def alerts_of(session: Session, book: Book) -> tuple[AlertView, ...]:
    """The alerts of an account's ceiling in force."""
    crossed = {
        each.fraction: each for each in recorded(session, [book.id]) if each.ceiling_seq == book.in_force.seq
    }
    return tuple(
        AlertView(
            fraction=fraction,
            at=None if (found := crossed.get(fraction)) is None else found.crossed_at,
            run=None if found is None or found.run_id is None else RunId(found.run_id),
        )
        for fraction in book.in_force.alert_at
    )


def history_of(session: Session, book: Book) -> tuple[CeilingChange, ...]:
    """Every decision on an account's ceiling, the first one first."""
    rows = session.scalars(
        select(LedgerCeiling).where(LedgerCeiling.account_id == book.id).order_by(LedgerCeiling.seq)
    )
    return tuple(
        CeilingChange(
            decided=in_force_of(book.key, book.in_force.ceiling.order, row),
            officers=tuple(row.officers),
            reason=row.reason,
            set_at=row.set_at,
        )
        for row in rows
    )
