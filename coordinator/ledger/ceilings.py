"""Decisions of privacy officers on an account: its first ceiling, which opens it, and every later one.

1. The order of the Rényi filter is fixed with the first ceiling. Choosing it again would be choosing it by results.
2. One officer may open an account or tighten it. Whatever loosens it in any respect takes two different ones.
3. A ceiling that does not hold what is charged already is refused, reservations included.
4. Who decided, why and when is kept with each ceiling for good. That the named officers agreed is the word of whoever holds the
   coordinator's account; signatures come with the officers' own keys.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerAccount, LedgerCeiling
from coordinator.governance.log import append
from coordinator.ledger.alerts import Crossing, record_crossings
from coordinator.ledger.books import Book, InForce, LedgerConflict, count_up, open_books
from coordinator.ledger.needs import AccountKey
from protos.log_budgets import QUORUM
from protos.log_entries import CeilingSet, reason_of
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit
from strategies.errors import Refused, UsageError
from strategies.ids import site_name

_MOST_OFFICERS: Final = 10
_MOST_ALERTS: Final = 10
_MOST_OVERLAPS: Final = 1000
_LONGEST_NAME: Final = 128
_LONGEST_REASON: Final = 1000
_POPULATION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A ceiling as `officers` decide it, for `reason`; `alert_at` and `overlaps` stay as they were where they are None.

    Without an `order`, the first ceiling takes the one that suits it, and later ones keep it.
    """

    epsilon: float
    delta: float
    unit: PrivacyUnit
    officers: Sequence[str]
    reason: str
    alert_at: Sequence[float] | None = None
    overlaps: Sequence[str] | None = None
    order: int | None = None

    def ceiling(self, order: int | None) -> Ceiling:
        """The ceiling at `order`. Raises UsageError for NaN and for what is out of bounds."""
        return Ceiling.fixed(epsilon=self.epsilon, delta=self.delta, unit=self.unit, order=order)


def decide(session: Session, key: AccountKey, decision: Decision, now: datetime) -> tuple[Crossing, ...]:
    """Set the ceiling of the account `key`, which the first one opens; returns the alerts that it reaches at once.

    Raises UsageError for values out of bounds and another order, Refused without a second officer where one is needed, BudgetRefused for
    a ceiling below what is charged already. The ledger is then as it was.
    """
    changed, crossed = carry_out(session, key, decision, now)
    append(session, now, [_logged(changed, _people(decision.officers), decision.reason)])
    return crossed


def carry_out(
    session: Session, key: AccountKey, decision: Decision, now: datetime
) -> tuple[Book, tuple[Crossing, ...]]:
    """`decide` without telling the log, which has the entry when it is replayed; returns the account as it then is."""
    officers, reason = _people(decision.officers), _text(decision.reason, "the reason", _LONGEST_REASON)
    alerts = None if decision.alert_at is None else _alerts(decision.alert_at)
    overlaps = None if decision.overlaps is None else _overlaps(key, decision.overlaps)
    first = decision.ceiling(decision.order)
    book = open_books(session, [key], lock=True).get(key)
    if book is None and (account := _opened(session, key, first.order, now)) is not None:
        chosen = InForce(seq=1, ceiling=first, alert_at=alerts or (), overlaps=overlaps or ())
        changed = Book(id=account, key=key, version=0, in_force=chosen, charges={})
    else:
        # Where another officer has opened the account at this moment, it is there now.
        book = book or open_books(session, [key], lock=True)[key]
        changed = _changed(book, decision, alerts, overlaps)
        changed.account.require_held()
        _require_quorum(book, changed, officers)
        if not count_up(session, [book]):
            raise LedgerConflict(
                f"{key.words} was decided about at this moment by somebody else; look, then try again"
            )
    session.execute(insert(LedgerCeiling), [_row(changed, officers, reason, now)])
    return changed, record_crossings(session, [changed], None, now)


def _logged(changed: Book, officers: tuple[str, ...], reason: str) -> CeilingSet:
    return CeilingSet(
        site=changed.key.site,
        population=changed.key.population,
        ceiling=changed.in_force.ceiling.facts(),
        officers=officers,
        reason=reason_of(reason),
        alert_at=changed.in_force.alert_at,
        overlaps=tuple(site_name(each) for each in changed.in_force.overlaps),
    )


def _changed(
    book: Book, decision: Decision, alerts: tuple[float, ...] | None, overlaps: tuple[str, ...] | None
) -> Book:
    order = book.in_force.ceiling.order
    if decision.order not in {None, order}:
        raise UsageError(
            f"{book.key.words}: the filter's order is {order} since the first ceiling and never changes; leave --order out"
        )
    in_force = InForce(
        seq=book.in_force.seq + 1,
        ceiling=decision.ceiling(order),
        alert_at=book.in_force.alert_at if alerts is None else alerts,
        overlaps=book.in_force.overlaps if overlaps is None else overlaps,
    )
    return replace(book, in_force=in_force)


def _require_quorum(book: Book, changed: Book, officers: tuple[str, ...]) -> None:
    """Raise Refused for a loosened account that fewer than two officers decided."""
    if len(officers) >= QUORUM or not (loosened := _loosened(book.in_force, changed.in_force)):
        return
    raise Refused(
        f"{book.key.words}: {loosened} is for {QUORUM} officers, and {officers[0]} is one; name another with a second --officer. "
        f"The ceiling is {book.in_force.ceiling.words}"
    )


def _loosened(old: InForce, new: InForce) -> str:
    """In which respect `new` allows more, or tells less, than `old`; empty if in none."""
    if looser := new.ceiling.loosens(old.ceiling):
        return looser
    if set(old.alert_at) - set(new.alert_at):
        return "taking an alert away"
    if set(old.overlaps) - set(new.overlaps):
        return "taking an overlap away"
    return ""


def _opened(session: Session, key: AccountKey, order: int, now: datetime) -> int | None:
    """Make the account and return its id; None if somebody else has just made it."""
    _check_key(key)
    site, population, kind, column = key.stored
    row = {
        "site": site,
        "population": population,
        "unit_kind": kind,
        "unit_column": column,
        "renyi_order": order,
        "version": 0,
        "opened_at": now,
    }
    if session.get_bind().dialect.name == "postgresql":
        made = postgresql.insert(LedgerAccount).values(**row).on_conflict_do_nothing()
        return session.scalar(made.returning(LedgerAccount.id))
    return session.scalar(insert(LedgerAccount).values(**row).returning(LedgerAccount.id))  # one writer


def _row(changed: Book, officers: tuple[str, ...], reason: str, now: datetime) -> dict[str, object]:
    ceiling = changed.in_force.ceiling
    return {
        "account_id": changed.id,
        "seq": changed.in_force.seq,
        "epsilon": ceiling.epsilon,
        "delta": ceiling.delta,
        "max_rows": ceiling.unit.max_rows,
        "max_sites": ceiling.unit.max_sites,
        "alert_at": list(changed.in_force.alert_at),
        "overlaps": list(changed.in_force.overlaps),
        "officers": list(officers),
        "reason": reason,
        "set_at": now,
    }


def _check_key(key: AccountKey) -> None:
    """Raise UsageError unless the account can be named."""
    site_name(key.site)
    if not _POPULATION.fullmatch(key.population):
        raise UsageError(
            f"{key.population!r} is not the name of a population; it is the key under `data` in the site's configuration: 1 to 63 characters "
            "a-z, 0-9 and '-'"
        )
    if key.column is not None:
        _text(key.column, "the customers' column", _LONGEST_NAME)


def _people(names: Sequence[str]) -> tuple[str, ...]:
    """The officers' names. Raises UsageError for none, and for one person written twice, however it is written."""
    officers = tuple(_text(name, "an officer's name", _LONGEST_NAME) for name in names)
    told = {" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in officers}
    if not 1 <= len(officers) <= _MOST_OFFICERS or len(told) < len(officers):
        raise UsageError(
            f"officers are {', '.join(officers) or 'missing'}; name 1 to {_MOST_OFFICERS} different persons with --officer"
        )
    return officers


def _text(text: str, what: str, longest: int) -> str:
    if not text or len(text) > longest or not text.isprintable() or text != text.strip():
        raise UsageError(
            f"{what} is {text[:longest]!r}; use 1 to {longest} printable characters without spaces around them"
        )
    return text


def _alerts(fractions: Sequence[float]) -> tuple[float, ...]:
    for fraction in fractions:
        if not 0.0 < fraction <= 1.0:  # phrased so that NaN is refused
            raise UsageError(
                f"an alert is at {fraction} of the ceiling; use a fraction above 0 and at most 1, such as 0.8"
            )
    if len(fractions) > _MOST_ALERTS:
        raise UsageError(f"{len(fractions)} alerts; use at most {_MOST_ALERTS}")
    return tuple(sorted({float(fraction) for fraction in fractions}))


def _overlaps(key: AccountKey, sites: Sequence[str]) -> tuple[str, ...]:
    names = sorted({site_name(site) for site in sites})
    if key.site in names or len(names) > _MOST_OVERLAPS:
        raise UsageError(
            f"overlaps of {key.name} are {', '.join(names)}; name other sites, at most {_MOST_OVERLAPS}"
        )
    return tuple(names)
