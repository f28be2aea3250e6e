"""What an account had spent at each moment, and what plans that may be launched would add: figures for pictures, never for admission.

1. A step is where something was reserved, given back, or opened; a run's openings of one release are shown at the last of them.
2. Every point is computed from all releases so far, like every other figure. At most `MOST_POINTS` are, evenly over the time there is: each stands for
   all that happened until then.
3. Charges that were adopted after a gap count as opened from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import CHARGING, LedgerEntry, Outcome
from coordinator.db.recovery_schema import AdoptedCharge
from coordinator.ledger.books import Book, adopted_by, releases_of
from strategies.dp.budget import cost_of
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee

MOST_POINTS: Final = 120


@dataclass(frozen=True, slots=True)
class Spent:
    """What the account's filter promises from a moment on, and which fraction of its budget that is."""

    at: datetime
    guarantee: Guarantee
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentOverTime:
    """`opened` is what was released, `charged` that and what is reserved."""

    opened: Sequence[Spent]
    charged: Sequence[Spent]


@dataclass(frozen=True, slots=True)
class Change:
    """`times` of a release more, or fewer, from a moment on."""

    at: datetime
    release: Release
    times: int


def over_time(session: Session, book: Book) -> SpentOverTime:
    """The account from its first charge to its last."""
    releases = releases_of(session, [book.id])
    adopted = list(_adopted(session, book))
    opened = [*_opened(session, book, releases), *adopted]
    charged = [*_charged(session, book, releases), *adopted]
    ceiling = book.in_force.ceiling
    return SpentOverTime(opened=spent_after(ceiling, opened), charged=spent_after(ceiling, charged))


def added(
    ceiling: Ceiling, charges: Mapping[Release, int], plans: Iterable[tuple[datetime, Mapping[Release, int]]]
) -> Sequence[Spent]:
    """An account that has `charges`, after each of `plans` was launched, each at its moment."""
    changes = [Change(at, release, times) for at, planned in plans for release, times in planned.items()]
    return spent_after(ceiling, changes, charges)


def spent_after(
    ceiling: Ceiling, changes: Iterable[Change], before: Mapping[Release, int] | None = None
) -> Sequence[Spent]:
    """What is spent after each of `changes`, on top of what was `before`."""
    counts = dict(before or {})
    found = []
    for at, together in _together(sorted(changes, key=lambda each: each.at)):
        for each in together:
            counts[each.release] = counts.get(each.release, 0) + each.times
        cost = cost_of({release: times for release, times in counts.items() if times > 0}, ceiling.order)
        found.append(Spent(at, ceiling.guarantee(cost), ceiling.fraction(cost)))
    return found


def _together(changes: Sequence[Change]) -> Iterator[tuple[datetime, Sequence[Change]]]:
    """The changes of each moment; of each of `MOST_POINTS` equal spans where there are more moments."""
    if not changes:
        return
    first, last = changes[0].at, changes[-1].at
    few = len({each.at for each in changes}) <= MOST_POINTS
    span = (last - first) / (MOST_POINTS - 1)
    group: list[Change] = []
    for each in changes:
        if group and not (
            each.at == group[-1].at if few else (each.at - first) // span == (group[-1].at - first) // span
        ):
            yield group[-1].at, group
            group = []
        group.append(each)
    yield group[-1].at, group


def _charged(session: Session, book: Book, releases: Mapping[str, Release]) -> Iterator[Change]:
    entry = LedgerEntry
    told = entry.release_digest, entry.outcome, entry.at
    query = select(*told, func.sum(entry.times)).where(text(CHARGING), entry.account_id == book.id)
    for digest, outcome, at, times in session.execute(query.group_by(*told)):
        yield Change(at, releases[digest], -int(times) if outcome == Outcome.VOIDED else int(times))


def _opened(session: Session, book: Book, releases: Mapping[str, Release]) -> Iterator[Change]:
    entry = LedgerEntry
    told = entry.run_id, entry.release_digest
    query = select(*told, func.max(entry.at), func.sum(entry.times)).where(
        entry.account_id == book.id, entry.outcome == Outcome.SETTLED
    )
    for _, digest, at, times in session.execute(query.group_by(*told)):
        yield Change(at, releases[digest], int(times))


def _adopted(session: Session, book: Book) -> Iterator[Change]:
    mine = adopted_by(session, [book.id]).get(book.id)
    if mine:
        at = session.scalar(select(func.max(AdoptedCharge.at)).where(AdoptedCharge.account_id == book.id))
        yield from (Change(at, release, times) for release, times in mine.items() if at is not None)
