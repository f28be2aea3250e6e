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
from collections.abc import Callable, Iterable, Mapping
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

    `along(fixed, step)(times)` is `cost_of(merged(charges, fixed, step x times), order)` to the bit: sums are correctly rounded (`math.fsum`), so their order
    is no matter, and a release that is charged already has its one term anew. Releases are looked up once, and not at every question.
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
        return self.along(planned, {})(0)

    def along(self, fixed: Mapping[Release, int], step: Mapping[Release, int]) -> Callable[[int], Cost]:
        """What all costs with `fixed` on top and `step` so many times. Raises as `cost_of`."""
        more, each = noisy(fixed), noisy(step)
        changed: dict[_Place, list[_Line]] = {}
        for release in more | each:
            line = _Line(
                release=release,
                renyi=renyi(release, self._order),
                count=self._counts.get(release, 0) + more.get(release, 0),
                step=each.get(release, 0),
            )
            changed.setdefault(_place(release), []).append(line)
        as_it_was = {place: cost for place, cost in self._parts.items() if place not in changed}
        groups = {partition: _Group() for partition, _ in (*as_it_was, *changed)}
        for (partition, _), cost in as_it_was.items():
            groups[partition].costs.append(cost)
        for place, lines in changed.items():
            kept = [
                cost for release, cost in self._renyi.get(place, {}).items() if release not in more | each
            ]
            groups[place[0]].parts.append((kept, lines))
        variation = [each_ for release, each_ in self._variation.items() if release not in more | each]
        return lambda times: Cost(
            renyi=math.fsum(group.dearest(times) for group in groups.values()),
            total_variation=math.fsum(
                (*variation, *(line.variation(times) for lines in changed.values() for line in lines))
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A release that is charged `count` times, and `step` more each time; `renyi` is what one costs."""

    release: Release
    renyi: float
    count: int
    step: int

    def cost(self, times: int) -> float:
        count = self.count + times * self.step
        return count * self.renyi if count else 0.0  # 0 times an infinite cost is none

    def variation(self, times: int) -> float:
        return (self.count + times * self.step) * self.release.steps * self.release.total_variation


@dataclass(frozen=True, slots=True)
class _Group:
    """The alternatives of one partition: `costs` of the parts that stay, and of those that change the terms that stay and the lines that do not."""

    costs: list[float] = field(default_factory=list)
    parts: list[tuple[list[float], list[_Line]]] = field(default_factory=list)

    def dearest(self, times: int) -> float:
        changed = (math.fsum((*kept, *(line.cost(times) for line in lines))) for kept, lines in self.parts)
        return max((*self.costs, *changed))


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
    return most_times(account, fixed, {per_round: 1}, at_most)


def most_times(
    account: Account, fixed: Mapping[Release, int], step: Mapping[Release, int], at_most: int
) -> int:
    """How often all of `step` fits on top of the account and of `fixed`, 0 to `at_most`; as `most_rounds`."""
    if at_most < 0:
        raise UsageError(f"at most {at_most} rounds; use at least 0")
    account._require_unit(merged(fixed, step))  # noqa: SLF001  (same module)
    cost = account._costs.along(fixed, step)  # noqa: SLF001  (same module)
    # Cost grows with the count, so what fits is an initial segment.
    return largest_that(lambda times: account.ceiling.admits(cost(times)), at_most)
