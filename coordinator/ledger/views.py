"""An account as people see it. Every figure is computed from releases at the moment it is shown.

1. A figure is a guarantee: with its delta, its unit and its neighbours.
2. The filter's figure is the one that holds, whatever later plans depend on. The tight one is a report for plans fixed beforehand.
3. What is not counted is said beside the figure: exemptions, and accounts of the same rows for another unit.
4. Overlaps hold both ways, whichever site declares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerCeiling, LedgerEntry, Outcome
from coordinator.ledger.alerts import recorded, spent_fraction
from coordinator.ledger.books import Book, ceiling_from, open_books, releases_of
from coordinator.ledger.needs import AccountKey
from strategies.dp.budget import Account, cost_of, exempted, worst_person
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName

TIGHT_CAVEAT: Final = (
    "for releases fixed beforehand, at the Rényi order that suits them best; plans chosen by earlier results have the filter's figure alone"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSummary:
    """One line about an account; `spent` counts reservations, `fraction` is how much of the ceiling that is, `crossed` are alerts."""

    key: AccountKey
    ceiling: Ceiling
    spent: Guarantee
    fraction: float
    crossed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTotals:
    """How often a stage's release was `settled` by a run, is still `reserved`, or was `voided`."""

    stage: str
    release: Release
    settled: int
    reserved: int
    voided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """What one run has charged; `alone` is what that would cost if nothing else were ever released."""

    run: RunId
    stages: tuple[StageTotals, ...]
    alone: Guarantee
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert; `at` and `run` are when and by what its fraction of the ceiling in force was reached, None if it was not."""

    fraction: float
    at: datetime | None
    run: RunId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingChange:
    """One decision of the officers."""

    seq: int
    ceiling: Ceiling
    alert_at: tuple[float, ...]
    overlaps: tuple[str, ...]
    officers: tuple[str, ...]
    reason: str
    set_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapView:
    """The worst case of a person whose rows are at all of `sites`; `without_account` are those with no account for the unit, not counted."""

    sites: tuple[SiteName, ...]
    without_account: tuple[SiteName, ...]
    worst: Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """One account in full. `spent` counts all that is charged, `settled` only what an attempt opened; `own_noise` is `spent` if only this
    site's own noise counts, `tight` is `spent` by the RDP accountant (`TIGHT_CAVEAT`).
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
    return tuple(
        AccountSummary(
            key=book.key,
            ceiling=book.in_force.ceiling,
            spent=book.account.guarantee(),
            fraction=spent_fraction(book.in_force.ceiling, book.account.cost),
            crossed=tuple(
                sorted(
                    each.fraction
                    for each in alerts
                    if (each.account_id, each.ceiling_seq) == (book.id, book.in_force.seq)
                )
            ),
        )
        for book in sorted(books.values(), key=lambda each: each.key.stored)
    )


def view(session: Session, site: SiteName, population: str, unit: PrivacyUnit | None) -> AccountView:
    """One account in full. Raises UsageError where there is none, or several of which `unit` chooses none."""
    books = open_books(session)
    book = _chosen(books, site, population, unit)
    account, ceiling = book.account, book.in_force.ceiling
    totals = run_totals(session, [book])[book.id]
    runs = _runs(totals, ceiling)
    settled = charged(runs, settled=True)
    noisy = {r: n for r, n in book.charges.items() if r.mechanism is not Mechanism.NONE}
    return AccountView(
        key=book.key,
        ceiling=ceiling,
        spent=account.guarantee(),
        settled=ceiling.guarantee(cost_of(settled, ceiling.order)),
        fraction=spent_fraction(ceiling, account.cost),
        settled_releases=sum(settled.values()),
        reserved_releases=sum(account.charges.values()) - sum(settled.values()),
        tight=tight(noisy, ceiling),
        own_noise=account.worst_own_noise(),
        runs=runs,
        alerts=_alerts(session, book),
        exempted=tuple(sorted({release.what for release in exempted(account.charges)})),
        other_units=tuple(
            each for each in books if (each.site, each.population) == (site, population) and each != book.key
        ),
        history=_history(session, book),
        overlap=_overlap(session, books, book),
    )
