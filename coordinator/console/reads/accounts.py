"""Privacy accounts as lists show them: a page of accounts by key, with the sums of these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.ledger_schema import LedgerAccount, LedgerAlert, LedgerCeiling
from coordinator.ledger.alerts import recorded
from coordinator.ledger.books import Book, adopted_by, open_books
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.totals import opened_of
from strategies.dp.budget import cost_of, merged
from strategies.dp.events import Release
from strategies.dp.units import Guarantee
from strategies.errors import UsageError

MOST: Final = 25
_BETWEEN: Final = "~"
_STORED: Final = (
    LedgerAccount.site,
    LedgerAccount.population,
    LedgerAccount.unit_kind,
    LedgerAccount.unit_column,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """An account in a list. `released` is what it has opened, adopted charges included, `opened` and `charged` what the filter promises for that, and for all
    that is charged. `fraction` is how much of the filter's budget is charged, `opened_fraction` what of it was opened; `crossed` are the fractions at
    which alerts of the ceiling in force were reached."""

    book: Book
    released: Mapping[Release, int]
    opened: Guarantee
    charged: Guarantee
    opened_fraction: float
    fraction: float
    crossed: tuple[float, ...]

    @property
    def key(self) -> AccountKey:
        """Which account."""
        return self.book.key


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Accounts, by site, population and unit; `newer` and `older` are keys for `page` as in `reads.runs`: what comes before, and after."""

    rows: Sequence[AccountRow]
    newer: str | None
    older: str | None


def page(
    engine: Engine,
    *,
    after: str | None = None,
    before: str | None = None,
    text: str = "",
    alerts: bool = False,
    limit: int = MOST,
) -> AccountPage:
    """At most `limit` accounts: the first ones, those `after` a key, or those just `before` one; whose site or population has `text` in it, and with
    `alerts` those that have reached one. Raises UsageError for a key that no page has given."""
    query = _chosen(text, alerts=alerts)
    place = tuple_(*_STORED)
    if before is not None:
        query = query.where(place < _place(before)).order_by(*(each.desc() for each in _STORED))
    else:
        query = query.order_by(*_STORED)
        if after is not None:
            query = query.where(place > _place(after))
    with reading(engine, "listing accounts") as session:
        found = [AccountKey.from_stored(*row) for row in session.execute(query.limit(limit + 1))]
        more, keys = len(found) > limit, found[:limit]
        if before is not None:
            keys.reverse()
        rows = rows_of(session, keys)
    first, last = (_key(keys[0]), _key(keys[-1])) if keys else (None, None)
    if before is not None:
        return AccountPage(rows, first if more else None, last)
    return AccountPage(rows, first if after is not None else None, last if more else None)


def rows_of(session: Session, keys: Sequence[AccountKey]) -> Sequence[AccountRow]:
    """The accounts of `keys`, in their order; one that there is not is left out."""
    if not keys:
        return []
    books = open_books(session, keys)
    ids = [book.id for book in books.values()]
    opened, adopted = opened_of(session, ids), adopted_by(session, ids)
    crossed = {(each.account_id, each.ceiling_seq, each.fraction) for each in recorded(session, ids)}
    found = []
    for book in (books[key] for key in keys if key in books):
        ceiling, charged = book.in_force.ceiling, book.account.cost
        released = merged(opened.get(book.id, {}), adopted.get(book.id, {}))
        cost = cost_of(released, ceiling.order)
        found.append(
            AccountRow(
                book=book,
                released=released,
                opened=ceiling.guarantee(cost),
                charged=ceiling.guarantee(charged),
                opened_fraction=ceiling.fraction(cost),
                fraction=ceiling.fraction(charged),
                crossed=tuple(
                    at for at in book.in_force.alert_at if (book.id, book.in_force.seq, at) in crossed
                ),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class PastAlert:
    """An account that has come to an alert of its ceiling in force: the highest fraction that was reached."""

    key: AccountKey
    fraction: float
    at: Any


def past_alerts(session: Session, limit: int) -> Sequence[PastAlert]:
    """The accounts that have reached an alert, the highest first."""
    highest = func.max(LedgerAlert.fraction)
    query = (
        select(*_STORED, highest, func.max(LedgerAlert.crossed_at))
        .join(LedgerAlert, LedgerAlert.account_id == LedgerAccount.id)
        .where(LedgerAlert.ceiling_seq == _in_force())
        .group_by(*_STORED)
        .order_by(highest.desc(), *_STORED)
    )
    return [
        PastAlert(AccountKey.from_stored(*row[:4]), row[4], row[5])
        for row in session.execute(query.limit(limit))
    ]


def _chosen(text: str, *, alerts: bool) -> Select[str, str, str, str]:
    query = select(*_STORED)
    if text:
        query = query.where(
            or_(
                LedgerAccount.site.contains(text, autoescape=True),
                LedgerAccount.population.contains(text, autoescape=True),
            )
        )
    if alerts:
        reached = select(LedgerAlert.account_id).where(
            LedgerAlert.account_id == LedgerAccount.id, LedgerAlert.ceiling_seq == _in_force()
        )
        query = query.where(reached.correlate(LedgerAccount).exists())
    return query


def _in_force() -> Any:  # noqa: ANN401  (a subquery of one number)
    return (
        select(func.max(LedgerCeiling.seq))
        .where(LedgerCeiling.account_id == LedgerAccount.id)
        .correlate(LedgerAccount)
        .scalar_subquery()
    )


def _key(key: AccountKey) -> str:
    return _BETWEEN.join(key.stored)


def _place(text: str) -> Any:  # noqa: ANN401  (a tuple of four texts)
    parts = text.split(_BETWEEN, 3)
    if len(parts) != len(_STORED):
        raise UsageError("this page's address is cut or changed; begin at the first page again")
    return tuple_(*parts)
