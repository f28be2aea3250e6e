"""Persons whose rows are at several sites: what they lose at all of them together, in the worst case.

1. An overlap holds both ways, whichever site declares it.
2. What is composed is every account of an overlapping site for the same kind of unit: which of its populations shares persons is not known.
3. One sum over several sites moves further by a person who is at many of them; where sites release by themselves, costs add up
   (`strategies.dp.persons.worst_person`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from coordinator.ledger.books import Book, InForce, open_books
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.totals import Totals, totals_of
from strategies.dp.budget import cost_of
from strategies.dp.events import Release
from strategies.dp.persons import worst_person
from strategies.dp.units import Guarantee, UnitKind
from strategies.ids import SiteName


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapView:
    """The worst case of a person who is at all of `sites`, exemptions left out.

    `without_account` are those that have none for this unit, so nothing of theirs is in the figure.
    """

    sites: tuple[SiteName, ...]
    without_account: tuple[SiteName, ...]
    worst: Guarantee


def overlap_of(session: Session, book: Book, in_force: Mapping[AccountKey, InForce]) -> OverlapView | None:
    """The overlaps of an account; None if no site has declared any. `in_force` holds the decisions of all accounts."""
    sites = _overlapping(book.key, in_force)
    if not sites:
        return None
    keys = [key for key in in_force if key.site in sites and _same_unit(key, book.key)]
    books = [book, *open_books(session, keys).values()] if keys else [book]
    totals = totals_of(session, [each.id for each in books])
    ceiling = book.in_force.ceiling
    worst = worst_person([_events(totals.get(each.id, {})) for each in books])
    guarantee = ceiling.guarantee(cost_of(worst, ceiling.order))
    return OverlapView(
        sites=tuple(sorted({book.key.site, *sites})),
        without_account=tuple(sorted(sites - {key.site for key in keys})),
        worst=_at_sites(guarantee, 1 + len(sites)),
    )


def _overlapping(key: AccountKey, in_force: Mapping[AccountKey, InForce]) -> set[SiteName]:
    declared = {SiteName(site) for site in in_force[key].overlaps}
    by_others = {
        other.site for other, each in in_force.items() if key.site in each.overlaps and _same_unit(other, key)
    }
    return declared | by_others


def _same_unit(one: AccountKey, other: AccountKey) -> bool:
    return (one.kind, one.column) == (other.kind, other.column)


def _events(totals: Totals) -> list[tuple[str, Release, int]]:
    """What one account was charged for: a stage of a run is one sum over its sites, as often as it is charged."""
    return [
        (f"{run}/{each.stage}/{each.release.what}", each.release, each.charged)
        for run, stages in totals.items()
        for each in stages
    ]


def _at_sites(guarantee: Guarantee, sites: int) -> Guarantee:
    """The guarantee for what it is about: a customer at that many sites. Records and sites have no number in their unit."""
    unit = guarantee.unit
    if unit.kind is not UnitKind.CUSTOMER:
        return guarantee
    return replace(guarantee, unit=replace(unit, max_sites=max(unit.max_sites, sites)))
