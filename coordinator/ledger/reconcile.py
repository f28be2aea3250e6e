"""Comparing a site's own account with the centre's: neither side has to take the other's word.

1. A site charges before its bytes leave; the centre settles before it opens. So every settled attempt is charged at the site, or it is an
   alarm.
2. What a site charged and the centre never opened is expected: the site cannot know that an attempt was aborted or a reply lost, and one that
   was started again in the middle may charge twice. The site's side is then the larger one, and it is the one to quote.
   So is what it charged for other federations: the account is one, and the site says so without naming runs that are none of this centre's.
3. An attempt is the same release on both sides, and of a run that reserved it here. Anything else is an alarm.
4. What was settled after the statement was made is not judged by it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerEntry, Outcome
from coordinator.db.schema import Run, Site
from coordinator.ledger.books import Book, adopted_by, all_in_force, open_books
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.totals import Totals, settled_in, totals_of
from protos.account_statement import AccountStatement, SignedStatement, StatedAccount, StatedEntry
from strategies.dp.budget import cost_of, merged
from strategies.dp.curves import UnsupportedRelease
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling, Cost
from strategies.dp.units import Guarantee
from strategies.errors import Refused
from strategies.ids import Digest, SiteName


class Kind(StrEnum):
    """What a difference between the two sides is. The last four are expected; each of the others is an alarm."""

    NOT_CHARGED = "settled at the centre, not charged at the site"
    OTHER_RELEASE = "another release at the site than at the centre"
    NEVER_RESERVED = "charged at the site, never reserved at the centre"
    UNKNOWN_RUN = "charged at the site for a run that the centre does not know"
    NEVER_OPENED = "charged at the site, never opened at the centre"
    ELSEWHERE = "charged at the site for another federation"
    LATER = "settled at the centre after the statement was made"
    ADOPTED = "charged at the site, lost at the centre in a gap of its log, adopted from the site"


_PIECE: Final = 1000
EXPECTED: Final = frozenset({Kind.NEVER_OPENED, Kind.ELSEWHERE, Kind.LATER, Kind.ADOPTED})
_LOST: Final = (Kind.UNKNOWN_RUN, Kind.NEVER_RESERVED, Kind.NEVER_OPENED)
"""What a gap explains, the alarms first."""


class At(NamedTuple):
    """Which attempt at which release."""

    run: str
    stage: str
    round: int
    attempt: int
    release: str

    @property
    def question(self) -> tuple[str, str, int, int]:
        """The attempt, whatever was released in it."""
        return self[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An attempt that the two sides do not tell alike."""

    kind: Kind
    at: At


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountComparison:
    """One account on both sides: `quoted` is the larger of what `centre` opened and what `site` charged, at the centre's ceiling.

    `ceiling` is the centre's and `site_ceiling` the site's own; None on the side that has no such account.
    """

    key: AccountKey
    ceiling: Ceiling | None
    site_ceiling: Ceiling | None
    agreed: int
    differences: tuple[Difference, ...]
    centre: Guarantee
    site: Guarantee

    @property
    def quoted(self) -> Guarantee:
        """The larger side."""
        return self.site if self.site.epsilon > self.centre.epsilon else self.centre

    @property
    def alarms(self) -> tuple[Difference, ...]:
        """The differences that nothing explains."""
        return tuple(each for each in self.differences if each.kind not in EXPECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """All accounts of one site, as its statement and the ledger have them."""

    site: SiteName
    made_at: datetime
    accounts: tuple[AccountComparison, ...]

    @property
    def alarms(self) -> tuple[Difference, ...]:
        """Those of all accounts."""
        return tuple(alarm for account in self.accounts for alarm in account.alarms)


def reconcile(session: Session, data: bytes) -> Reconciliation:
    """Compare the signed statement `data` with the ledger.

    Raises Refused for one that is not signed with the identity key under which its site is enrolled.
    """
    return compare(session, read_statement(session, data))


def read_statement(session: Session, data: bytes) -> AccountStatement:
    """What `data` states, if its site signed it with the key under which it is enrolled. Raises Refused."""
    signed = SignedStatement.read(data)
    enrolled = session.get(Site, signed.claimed_site)
    if enrolled is None:
        raise Refused(
            f"the statement is by {signed.claimed_site}, which is not enrolled here; `covenant site list` shows who is"
        )
    return signed.verify(enrolled.identity_key)


def compare(session: Session, statement: AccountStatement) -> Reconciliation:
    """Compare a statement that its site signed with the ledger."""
    stated = {_key(statement.site, each): each for each in statement.accounts}
    books = open_books(session, [key for key in all_in_force(session) if key.site == statement.site])
    ids = [book.id for book in books.values()]
    sides = _Sides(
        made_at=statement.made_at,
        settled=_settled(session, ids),
        totals=totals_of(session, ids),
        adopted=adopted_by(session, ids),
        runs=_known_runs(session, statement),
    )
    keys = sorted({*stated, *books}, key=lambda each: each.stored)
    common = {
        key: books[key].in_force.ceiling if key in books else stated[key].filter_ceiling for key in keys
    }
    compared = tuple(sides.compare(key, books.get(key), stated.get(key), common[key]) for key in keys)
    return Reconciliation(site=statement.site, made_at=statement.made_at, accounts=compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """What the ledger has of a site: settled attempts with their times, totals, and what was adopted, by account; and the runs there are."""

    made_at: datetime
    settled: Mapping[int, Mapping[At, datetime]]
    totals: Mapping[int, Totals]
    adopted: Mapping[int, Mapping[Release, int]]
    runs: frozenset[str]

    def compare(
        self, key: AccountKey, book: Book | None, stated: StatedAccount | None, common: Ceiling
    ) -> AccountComparison:
        """One account; both sides' figures are by the ceiling `common`, so that they can be compared."""
        settled = {} if book is None else self.settled.get(book.id, {})
        totals = {} if book is None else self.totals.get(book.id, {})
        entries = () if stated is None else stated.entries
        charged = Counter(_at(each) for each in entries if not each.elsewhere)
        missing, extra = settled.keys() - charged.keys(), list((charged - Counter(settled.keys())).elements())
        twice = {at.question for at in missing} & {at.question for at in extra}
        reserved = _reserved(totals)
        adopted = {} if book is None else self.adopted.get(book.id, {})
        extras = [
            Difference(kind=self._extra(at, reserved), at=at) for at in extra if at.question not in twice
        ]
        differences = [
            *(Difference(kind=self._missing(at, twice, settled[at]), at=at) for at in missing),
            *_explained(extras, Counter({each.digest: times for each, times in adopted.items()})),
            # Told apart by the site's word, which explains nothing that this centre has settled.
            *(Difference(kind=Kind.ELSEWHERE, at=_at(each)) for each in entries if each.elsewhere),
        ]
        opened = settled_in(each for stages in totals.values() for each in stages)
        return AccountComparison(
            key=key,
            ceiling=None if book is None else book.in_force.ceiling,
            site_ceiling=None if stated is None else stated.filter_ceiling,
            agreed=len(settled.keys() & charged.keys()),
            differences=tuple(sorted(differences, key=lambda each: (each.kind, each.at))),
            centre=_guarantee(common, merged(opened, adopted)),
            site=_guarantee(common, {} if stated is None else stated.charges()),
        )

    def _missing(self, at: At, twice: Collection[tuple[str, str, int, int]], settled_at: datetime) -> Kind:
        if at.question in twice:
            return Kind.OTHER_RELEASE
        return Kind.LATER if settled_at > self.made_at else Kind.NOT_CHARGED

    def _extra(self, at: At, reserved: Mapping[tuple[str, str], set[str]]) -> Kind:
        if at.run not in self.runs:
            return Kind.UNKNOWN_RUN
        if (at.run, at.stage) not in reserved:
            return Kind.NEVER_RESERVED
        return Kind.NEVER_OPENED if at.release in reserved[at.run, at.stage] else Kind.OTHER_RELEASE


def _explained(extras: list[Difference], adopted: Counter[Digest]) -> list[Difference]:
    """The attempts that only the site has, those that were adopted from it told apart. Adoption counts releases, not attempts."""
    found = []
    for each in sorted(extras, key=lambda it: (_LOST.index(it.kind) if it.kind in _LOST else -1, it.at)):
        release = Digest(each.at.release)
        if each.kind in _LOST and adopted[release]:
            adopted[release] -= 1
            found.append(Difference(kind=Kind.ADOPTED, at=each.at))
        else:
            found.append(each)
    return found


def _key(site: SiteName, stated: StatedAccount) -> AccountKey:
    return AccountKey.of(site, stated.population, stated.filter_ceiling.unit)


def _at(entry: StatedEntry) -> At:
    return At(entry.run, entry.stage, entry.round, entry.attempt, entry.release)


def _reserved(totals: Totals) -> Mapping[tuple[str, str], set[str]]:
    """The digests of what each stage of each run reserved."""
    found: dict[tuple[str, str], set[str]] = {}
    for run, stages in totals.items():
        for each in stages:
            found.setdefault((run, each.stage), set()).add(each.release.digest)
    return found


def _settled(session: Session, ids: Collection[int]) -> Mapping[int, Mapping[At, datetime]]:
    entry = LedgerEntry
    columns = (
        entry.account_id,
        entry.run_id,
        entry.stage,
        entry.round,
        entry.attempt,
        entry.release_digest,
        entry.at,
    )
    query = select(*columns).where(entry.account_id.in_(ids), entry.outcome == Outcome.SETTLED)
    found: dict[int, dict[At, datetime]] = {}
    for row in session.execute(query):
        found.setdefault(row[0], {})[At(row[1], row[2], row[3] or 0, row[4] or 0, row[5])] = row[6]
    return found


def _known_runs(session: Session, statement: AccountStatement) -> frozenset[str]:
    """Which of the statement's runs the centre has; asked for in pieces, because a statement may name very many."""
    named = sorted({entry.run for account in statement.accounts for entry in account.entries})
    pieces = (named[start : start + _PIECE] for start in range(0, len(named), _PIECE))
    return frozenset(
        run for piece in pieces for run in session.scalars(select(Run.id).where(Run.id.in_(piece)))
    )


def _guarantee(ceiling: Ceiling, charges: Mapping[Release, int]) -> Guarantee:
    """What `ceiling`'s order promises for `charges`; unbounded where no theorem covers a release."""
    try:
        return ceiling.guarantee(cost_of(charges, ceiling.order))
    except UnsupportedRelease:
        return ceiling.guarantee(Cost(renyi=math.inf, total_variation=0.0))
