"""Accounts read from the database for a decision: the ceiling in force, and all releases charged to it.

1. The version is read before the charges. A decision made meanwhile by somebody else is then either in the charges already, or shows in
   the version when this one is written (`count_up`), and nothing of this one is kept.
2. Accounts are locked in the order of their ids, so two that want the same ones never wait for each other.
3. A release whose stored text no longer has its digest stops whatever needs it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Self, cast

from sqlalchemy import CursorResult, Select, case, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import (
    CHARGING,
    LedgerAccount,
    LedgerCeiling,
    LedgerEntry,
    LedgerRelease,
    Outcome,
)
from coordinator.db.recovery_schema import AdoptedCharge
from coordinator.ledger.needs import AccountKey
from strategies.dp.budget import Account
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError


class LedgerConflict(CovenantError):  # noqa: N818  (a conflict is an outcome, not a defect)
    """An account or a run is not in the state that this step needs: usually, somebody else has moved it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The latest decision of an account's officers. `alert_at` holds fractions of the ceiling, `overlaps` sites with the same persons."""

    seq: int
    ceiling: Ceiling
    alert_at: tuple[float, ...]
    overlaps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """An account as it stands: `charges` are all its releases but those voided, and what was adopted after a gap."""

    id: int
    key: AccountKey
    version: int
    in_force: InForce
    charges: Mapping[Release, int]

    @property
    def account(self) -> Account:
        """The account as the filter judges it."""
        return Account(name=self.key.name, ceiling=self.in_force.ceiling, charges=self.charges)

    def charged(self, more: Mapping[Release, int]) -> Self:
        """The account with `more` releases charged."""
        return replace(self, charges=self.account.charged(more).charges)


class _AccountRow(NamedTuple):
    id: int
    key: AccountKey
    order: int
    version: int


def open_books(
    session: Session, keys: Collection[AccountKey] | None = None, *, lock: bool = False
) -> Mapping[AccountKey, Book]:
    """The accounts of `keys`, or all; one that does not exist is left out. With `lock`, nobody else decides about them meanwhile."""
    accounts = _accounts(session, keys, lock=lock)
    ceilings = _ceilings_in_force(session, accounts)
    charges = _charges(session, [account.id for account in accounts])
    return {
        row.key: Book(
            id=row.id,
            key=row.key,
            version=row.version,
            in_force=ceilings[row.key],
            charges=charges.get(row.id, {}),
        )
        for row in accounts
    }


def all_in_force(session: Session) -> Mapping[AccountKey, InForce]:
    """The decision in force of every account there is."""
    return _ceilings_in_force(session, _accounts(session, None, lock=False))


def _accounts(session: Session, keys: Collection[AccountKey] | None, *, lock: bool) -> list[_AccountRow]:
    table = LedgerAccount
    stored = table.site, table.population, table.unit_kind, table.unit_column
    query = select(table.id, *stored, table.renyi_order, table.version).order_by(table.id)
    if keys is not None:
        query = query.where(tuple_(*stored).in_([key.stored for key in keys]))
    # FOR NO KEY UPDATE on PostgreSQL: entries of other runs, which refer to these rows, do not wait.
    rows = session.execute(query.with_for_update(key_share=True) if lock else query)
    return [_AccountRow(row[0], AccountKey.from_stored(*row[1:5]), row[5], row[6]) for row in rows]


def _ceilings_in_force(session: Session, accounts: Collection[_AccountRow]) -> Mapping[AccountKey, InForce]:
    latest = (
        select(LedgerCeiling.account_id, func.max(LedgerCeiling.seq).label("seq"))
        .where(LedgerCeiling.account_id.in_([account.id for account in accounts]))
        .group_by(LedgerCeiling.account_id)
        .subquery()
    )
    query = select(LedgerCeiling).join(
        latest, (LedgerCeiling.account_id == latest.c.account_id) & (LedgerCeiling.seq == latest.c.seq)
    )
    rows = {row.account_id: row for row in session.scalars(query)}
    return {account.key: in_force_of(account.key, account.order, rows[account.id]) for account in accounts}


def in_force_of(key: AccountKey, order: int, row: LedgerCeiling) -> InForce:
    """The decision that `row` records."""
    unit = PrivacyUnit(kind=key.kind, column=key.column, max_rows=row.max_rows, max_sites=row.max_sites)
    return InForce(
        seq=row.seq,
        ceiling=Ceiling.fixed(epsilon=row.epsilon, delta=row.delta, unit=unit, order=order),
        alert_at=tuple(row.alert_at),
        overlaps=tuple(row.overlaps),
    )


def _charges(session: Session, ids: Collection[int]) -> Mapping[int, Mapping[Release, int]]:
    """What is reserved and not voided, settled or not. From the short index: settling charges nothing anew."""
    entry = LedgerEntry
    signed = case((entry.outcome == Outcome.VOIDED, -entry.times), else_=entry.times)
    query = (
        select(entry.account_id, entry.release_digest, func.sum(signed))
        .where(text(CHARGING), entry.account_id.in_(ids))
        .group_by(entry.account_id, entry.release_digest)
    )
    rows = session.execute(query).all()
    releases = releases_of(session, ids)
    charges: dict[int, dict[Release, int]] = {}
    for account, digest, times in rows:
        if times:
            charges.setdefault(account, {})[releases[digest]] = int(times)
    for account, adopted in adopted_by(session, ids).items():
        mine = charges.setdefault(account, {})
        for release, times in adopted.items():
            mine[release] = mine.get(release, 0) + times
    return charges


def adopted_by(session: Session, ids: Collection[int]) -> Mapping[int, Mapping[Release, int]]:
    """What was ever adopted into each of the accounts `ids` after a gap in the log (`adoption`)."""
    row = AdoptedCharge
    query = select(row.account_id, row.release_digest, func.sum(row.times)).where(row.account_id.in_(ids))
    rows = session.execute(query.group_by(row.account_id, row.release_digest)).all()
    found: dict[int, dict[Release, int]] = {}
    if rows:
        releases = known_releases(session, select(row.release_digest).where(row.account_id.in_(ids)))
        for account, digest, times in rows:
            found.setdefault(account, {})[releases[digest]] = int(times)
    return found


def releases_of(session: Session, ids: Collection[int]) -> Mapping[str, Release]:
    """Every release that an entry of the accounts `ids` names, by digest. Raises CovenantError for one that was tampered with."""
    named = select(LedgerEntry.release_digest).where(text(CHARGING), LedgerEntry.account_id.in_(ids))
    return known_releases(session, named)


def known_releases(session: Session, named: Select[str] | Collection[str]) -> Mapping[str, Release]:
    """The releases of some digests. Raises CovenantError for one that was tampered with."""
    query = select(LedgerRelease.digest, LedgerRelease.facts).where(LedgerRelease.digest.in_(named))
    return {digest: _release(digest, facts) for digest, facts in session.execute(query)}


@lru_cache(maxsize=1 << 16)
def _release(digest: str, facts: str) -> Release:
    if sha256_hex(facts.encode()) != digest:
        raise CovenantError(
            f"release {digest} of the privacy ledger does not have its digest any more: the database was changed; restore it from a backup"
        )
    return Release.from_facts(json.loads(facts))


def count_up(session: Session, books: Iterable[Book]) -> bool:
    """Take the next version of every account; False if somebody else took one since the books were read, and then roll back."""
    for book in sorted(books, key=lambda each: each.id):
        mine = update(LedgerAccount).where(LedgerAccount.id == book.id, LedgerAccount.version == book.version)
        counted = mine.values(version=book.version + 1).execution_options(synchronize_session=False)
        if cast("CursorResult[object]", session.execute(counted)).rowcount != 1:
            return False
    return True
