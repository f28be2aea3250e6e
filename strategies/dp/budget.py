"""The account of one population at one site: releases and how often each happened, never a balance.

1. Cost is computed from all charges each time; a refused change leaves the account as it was.
2. Charges add up. Only where a public hash of the unit's own key tells the parts of a partition apart is a unit in one part alone, and pays for
   the dearer one (parallel composition). Different partitions add up, and so does the total variation of all samplers.
3. A release without noise is an exemption that the plan states: it is recorded, is in no figure, and callers show it (`exempted`).
4. An account takes releases about its own unit only, for a person at no fewer sites than its population declares. Their `max_rows` may be
   any number: further rows do not count in a release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from strategies.dp.curves import renyi
from strategies.dp.events import Mechanism, Part, Partition, Release
from strategies.dp.filters import Ceiling, Cost
from strategies.dp.units import Guarantee, UnitKind
from strategies.errors import Refused, UsageError


class BudgetRefused(Refused):
    """An account does not allow a release: it is about another unit, or the ceiling would be passed."""


def merged(*several: Mapping[Release, int]) -> dict[Release, int]:
    """The charges of all mappings, counts added. Raises UsageError for a count that is no whole number of at least 0."""
    total: dict[Release, int] = {}
    for charges in several:
        for release, count in charges.items():
            if not isinstance(count, int) or count < 0:
                raise UsageError(f"{release.what} is charged {count} times; use a whole number of at least 0")
            total[release] = total.get(release, 0) + count
    return total


def exempted(charges: Mapping[Release, int]) -> tuple[Release, ...]:
    """The releases without noise among `charges`, each once: what cost and guarantees leave out."""
    return tuple(
        release for release, count in charges.items() if count and release.mechanism is Mechanism.NONE
    )


def noisy(charges: Mapping[Release, int]) -> dict[Release, int]:
    """The charges that have noise and happen: what cost and guarantees are about."""
    return {
        release: count
        for release, count in merged(charges).items()
        if count and release.mechanism is not Mechanism.NONE
    }


def own_noise(charges: Mapping[Release, int]) -> dict[Release, int] | None:
    """The noisy charges if only the site's own noise counts; None where a release has none of its own, so that nothing is promised."""
    own = merged(*({release.own_noise(): count} for release, count in noisy(charges).items()))
    return None if exempted(own) else own


def largest_that(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` that fits, where all below one that fits fit too; 0 is taken to fit."""
    fine, too_many = 0, most + 1
    while too_many - fine > 1:
        middle = (fine + too_many) // 2
        if fits(middle):
            fine = middle
        else:
            too_many = middle
    return fine


def grouped(charges: Mapping[Release, int]) -> tuple[tuple[Mapping[Release, int], ...], ...]:
    """Which charges one unit may pay for together: in each group exactly one of the alternatives, and every group adds up.

    An alternative is one part of a partition whose parts share no unit; all other releases are one group with one alternative. Adaptive
    choice of later releases does no harm: which part a unit is in is fixed by a public hash.
    """
    always: dict[Release, int] = {}
    partitions: dict[Partition, dict[Part, dict[Release, int]]] = {}
    for release, count in charges.items():
        if release.partition is not None and _unit_is_in_one_part(release, release.partition):
            partitions.setdefault(release.partition, {}).setdefault(release.part, {})[release] = count
        else:
            always[release] = count
    groups: list[tuple[Mapping[Release, int], ...]] = [tuple(parts.values()) for parts in partitions.values()]
    return ((always,), *groups) if always else tuple(groups)


def _unit_is_in_one_part(release: Release, partition: Partition) -> bool:
    """A record has one key. The rows of a customer have one only if it is the customer's column; those of a site have many."""
    unit = release.unit
    return unit.kind is UnitKind.RECORD or (unit.kind is UnitKind.CUSTOMER and partition.by == unit.column)


def cost_of(charges: Mapping[Release, int], order: int) -> Cost:
    """What `charges` cost the unit that they cost most, at `order`; the same for any order of the charges, exemptions left out.

    Raises UnsupportedRelease for a release whose cost is not known.
    """
    counted = noisy(charges)
    return Cost(
        renyi=math.fsum(
            max(math.fsum(count * renyi(release, order) for release, count in part.items()) for part in group)
            for group in grouped(counted)
        ),
        total_variation=math.fsum(
            count * release.steps * release.total_variation for release, count in counted.items()
        ),
    )


_Place = tuple[Partition | None, Part | None]


class _Costs:
    """The terms of `cost_of` for some charges, kept so that many questions about further ones each recompute what they change.

    `with_more(planned)` is `cost_of(merged(charges, planned), order)` to the bit: sums are correctly rounded (`math.fsum`), so their order is no matter, and
    a release that is charged already has its one term anew.
    """

    def __init__(self, charges: Mapping[Release, int], order: int) -> None:
        self._order = order
        self._counts = noisy(charges)
        self._renyi: dict[_Place, dict[Release, float]] = {}
        self._variation: dict[Release, float] = {}
        for release, count in self._counts.items():
            self._renyi.setdefault(_place(release), {})[release] = count * renyi(release, order)
            self._variation[release] = count * release.steps * release.total_variation
        self._parts = {place: math.fsum(terms.values()) for place, terms in self._renyi.items()}

    def with_more(self, planned: Mapping[Release, int]) -> Cost:
        """What all costs with `planned` on top. Raises as `cost_of`."""
        parts, variation = self._parts, self._variation
        changed: dict[_Place, dict[Release, float]] = {}
        more = noisy(planned)
        if more:
            parts, variation = dict(parts), dict(variation)
        for release, count in more.items():
            place, total = _place(release), self._counts.get(release, 0) + count
            terms = changed.setdefault(place, dict(self._renyi.get(place, {})))
            terms[release] = total * renyi(release, self._order)
            variation[release] = total * release.steps * release.total_variation
        for place, terms in changed.items():
            parts[place] = math.fsum(terms.values())
        dearest: dict[Partition | None, float] = {}
        for (partition, _), cost in parts.items():
            dearest[partition] = max(dearest.get(partition, cost), cost)
        return Cost(renyi=math.fsum(dearest.values()), total_variation=math.fsum(variation.values()))


def _place(release: Release) -> _Place:
    """The part whose units pay for a release, as `grouped` has them; of no partition where all do."""
    if release.partition is not None and _unit_is_in_one_part(release, release.partition):
        return release.partition, release.part
    return None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was released about one population at one site, under one `ceiling`; `name` is for people, such as north/retail-loans."""

    name: str
    ceiling: Ceiling
    charges: Mapping[Release, int] = field(default_factory=dict)
    _kept: list[_Costs] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "charges", MappingProxyType(merged(self.charges)))

    @property
    def cost(self) -> Cost:
        """What the charges cost at the ceiling's order."""
        return self._costs.with_more({})

    def guarantee(self) -> Guarantee:
        """What the filter promises for the charges; exemptions are left out, show them with it."""
        return self.ceiling.guarantee(self.cost)

    def worst_own_noise(self) -> Guarantee:
        """What remains if only this site's own shares of noise count; infinite if a release has none of the site's own.

        Exemptions are left out, as in `guarantee`.
        """
        own = own_noise(self.charges)
        if own is None:
            return self.ceiling.guarantee(Cost(renyi=math.inf, total_variation=0.0))
        return self.ceiling.guarantee(cost_of(own, self.ceiling.order))

    def exempted(self, planned: Mapping[Release, int] | None = None) -> tuple[Release, ...]:
        """The releases without noise among the charges and those `planned`, each once."""
        return exempted(merged(self.charges, planned or {}))

    def require(self, planned: Mapping[Release, int]) -> None:
        """Raise BudgetRefused unless the releases `planned` may be charged on top of what was charged already."""
        self._require_unit(planned)
        if not self._admits(planned):
            would = self.ceiling.guarantee(self._costs.with_more(planned))
            raise BudgetRefused(
                f"{self.name}: {_names(planned)} would take the account to {would.words}; its ceiling is {self.ceiling.words}, and "
                f"{self.guarantee().words} is spent: plan fewer rounds, more noise or a lower sampling rate"
            )

    def require_held(self) -> None:
        """Raise BudgetRefused unless the ceiling, which is about to be set, holds what is charged, for persons at as many sites as it declares."""
        if not self.ceiling.admits(self.cost):
            raise BudgetRefused(
                f"{self.name}: the ceiling {self.ceiling.words} is below what is charged already, {self.guarantee().words}, reservations included;"
                " set one that holds it, or first give up runs that hold reservations (`covenant ledger release`)"
            )
        for release in self.charges:
            if not release.unit.max_sites >= self.ceiling.unit.max_sites:
                raise BudgetRefused(
                    f"{self.name}: {release.what} was charged for a person at up to {release.unit.max_sites} sites, and a ceiling for "
                    f"{self.ceiling.unit.max_sites} would not count what it costs them; declare the sites as overlaps instead"
                )

    def charged(self, more: Mapping[Release, int]) -> Self:
        """The account with `more` charged. It does not ask whether the ceiling allows it: what happened is recorded."""
        return replace(self, charges=merged(self.charges, more))

    def _admits(self, planned: Mapping[Release, int]) -> bool:
        return self.ceiling.admits(self._costs.with_more(planned))

    @property
    def _costs(self) -> _Costs:
        """Made at the first question."""
        if not self._kept:
            self._kept.append(_Costs(self.charges, self.ceiling.order))
        return self._kept[0]

    def _require_unit(self, planned: Mapping[Release, int]) -> None:
        unit = self.ceiling.unit
        for release in planned:
            if not unit.is_same_person(release.unit) or release.neighbours is not self.ceiling.neighbours:
                raise BudgetRefused(
                    f"{self.name}: {release.what} is per {release.unit.words} ({release.neighbours}); the account is per {unit.words} "
                    f"({self.ceiling.neighbours})"
                )
            if not release.unit.max_sites >= unit.max_sites:
                raise BudgetRefused(
                    f"{self.name}: {release.what} is charged for a person at up to {release.unit.max_sites} sites; the population declares "
                    f"up to {unit.max_sites}, so charge it for that many"
                )


def _names(releases: Iterable[Release]) -> str:
    return ", ".join(sorted({release.what for release in releases})) or "nothing more"


def most_rounds(account: Account, fixed: Mapping[Release, int], per_round: Release, at_most: int) -> int:
    """The largest number of rounds, 0 to `at_most`, that fits on top of the account and of `fixed`, at `per_round` a round.

    0 also where `fixed` alone does not fit; `Account.require` says why. Raises BudgetRefused for releases about another unit.
    """
    if at_most < 0:
        raise UsageError(f"at most {at_most} rounds; use at least 0")
    account._require_unit(merged(fixed, {per_round: 1}))  # noqa: SLF001  (same module)
    # Cost grows with the count, so what fits is an initial segment.
    return largest_that(
        lambda rounds: account._admits(merged(fixed, {per_round: rounds})),  # noqa: SLF001  (same module)
        at_most,
    )


def worst_person(accounts: Sequence[Sequence[tuple[str, Release, int]]]) -> Mapping[Release, int]:
    """What a person pays who is at all the sites given: one sequence of (event key, release, count) a site.

    The same key at several sites is the same opened sum: it is charged once, for a person at all sites that have it
    (`Release.for_person_at`). Where sites add their own noise each releases by itself, and counts add up. Both are rounded up to multiples of
    the number of sites that the release is charged for already. If sites count a key differently, as many as possible are taken to
    coincide. Parts do not compose in parallel here: keys differ between sites, so a person may train at one and be held out at another. Raises
    UsageError if sites state one opened sum differently.
    """
    events: dict[str, list[dict[Release, int]]] = {}
    for site in accounts:
        mine: dict[str, dict[Release, int]] = {}
        for key, at_its_part, count in site:
            release = replace(at_its_part, partition=None)
            mine[key] = merged(mine.get(key, {}), {release: count})
        for key, charges in mine.items():
            events.setdefault(key, []).append(charges)
    total = merged(*(_joint(key, sites) for key, sites in events.items()))
    return {release: count for release, count in total.items() if count}


def _joint(key: str, sites: list[dict[Release, int]]) -> dict[Release, int]:
    """The charges of one event for a person at all `sites` that have it."""
    summed = [
        {r for r in charges if r.mechanism in {Mechanism.DISTRIBUTED, Mechanism.CENTRAL}} for charges in sites
    ]
    if any(each != summed[0] for each in summed):
        raise UsageError(f"{key}: sites state the same opened sum differently; one key is one release")
    total: dict[Release, int] = {}
    for release in {release: None for charges in sites for release in charges}:
        counts = sorted((charges.get(release, 0) for charges in sites), reverse=True)
        for at, (count, following) in enumerate(zip(counts, [*counts[1:], 0], strict=True), start=1):
            times = math.ceil(at / release.unit.max_sites)
            if release in summed[0]:
                total = merged(total, {release.for_person_at(times): count - following})
            elif release.mechanism is Mechanism.NONE:
                total = merged(total, {release: count - following})
            else:
                total = merged(total, {release: times * (count - following)})
    return total
