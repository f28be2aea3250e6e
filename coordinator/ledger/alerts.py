"""Alerts: fractions of a ceiling at which officers want to hear of an account, recorded once a ceiling when one is reached.

The fraction of a ceiling that is spent is that of the filter's own budgets, in which costs add up; an epsilon over another is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerAlert
from coordinator.ledger.books import Book
from coordinator.ledger.needs import AccountKey
from strategies.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """An account has come to a `fraction` of its ceiling, by a run or by a ceiling that was lowered."""

    key: AccountKey
    fraction: float
    run: RunId | None
    at: datetime


def record_crossings(
    session: Session, books: Iterable[Book], run: RunId | None, now: datetime
) -> tuple[Crossing, ...]:
    """Record what `books`, as they now stand, have reached of their ceilings in force and had not before."""
    books = [book for book in books if book.in_force.alert_at]
    if not books:
        return ()
    known = recorded(session, [book.id for book in books])
    crossed, rows = [], []
    for book in books:
        seq, spent = book.in_force.seq, book.in_force.ceiling.fraction(book.account.cost)
        before = {each.fraction for each in known if (each.account_id, each.ceiling_seq) == (book.id, seq)}
        for fraction in book.in_force.alert_at:
            if fraction not in before and not spent < fraction:  # phrased so that NaN alerts
                crossed.append(Crossing(key=book.key, fraction=fraction, run=run, at=now))
                rows.append(
                    {"account_id": book.id, "ceiling_seq": seq, "fraction": fraction, "run_id": run, "crossed_at": now}
                )  # fmt: skip
    if rows:
        session.execute(insert(LedgerAlert), rows)
    return tuple(crossed)


def recorded(session: Session, ids: Collection[int]) -> list[LedgerAlert]:
    """All crossings recorded for the accounts `ids`, in the order of their times."""
    query = select(LedgerAlert).where(LedgerAlert.account_id.in_(ids))
    return list(session.scalars(query.order_by(LedgerAlert.crossed_at, LedgerAlert.fraction)))
