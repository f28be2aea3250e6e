"""What a private plan costs, in part, in whole, and if more or less is granted: figures for people, never for admission.

1. A figure is that of releases fixed beforehand, at the Rényi order that suits them. For the whole plan it is the one that the plan's limit is
   checked against (`plan_releases.forecast`, which judges the samplers' total variation at the limit instead of the figure); what an account
   admits is decided at the account's own order.
2. Exemptions are left out of every figure; callers show them beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_privacy import CustomerUnit, Limit, Privacy
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases, best_order, releases_of
from strategies.dp import budget
from strategies.dp.budget import cost_of, noisy
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling, delta_for_renyi, epsilon_from_renyi
from strategies.dp.units import Guarantee, PrivacyUnit
from strategies.errors import UsageError

Charges = Mapping[Release, int]
"""How often each release happens."""

MOST_POINTS: Final = 60
"""Rounds at which costs are followed, besides round 0."""
_PERSONS: Final = (1, 2, 3, 5, 10)
_MARGIN: Final = 1e-9


def guarantee_of(charges: Charges, limit: Limit, unit: PrivacyUnit) -> Guarantee:
    """What `charges` cost at the limit's delta if nothing else were ever released; 0 for none, infinite where nothing is promised.

    Raises UnsupportedRelease for a release whose cost is not known.
    """
    counted = noisy(charges)
    if not counted:
        return Guarantee(epsilon=0.0, delta=limit.delta, unit=unit)
    order = best_order(counted, limit)
    cost = cost_of(counted, order)
    epsilon = epsilon_from_renyi(cost.renyi, order, delta_for_renyi(limit.delta))
    if not epsilon < math.inf:
        return Guarantee(epsilon=math.inf, delta=limit.delta, unit=unit)
    # A hair wider than what is asked about, so that it leaves room, and the samplers' total variation is judged at this epsilon.
    ceiling = Ceiling.fixed(
        epsilon=epsilon * (1.0 + _MARGIN) + _MARGIN, delta=limit.delta, unit=unit, order=order
    )
    return ceiling.guarantee(cost)


def own_noise(charges: Charges, limit: Limit, unit: PrivacyUnit) -> Guarantee:
    """What is promised if only the site's own share of the noise counts: everybody else colludes. Infinite in mode central."""
    own = budget.own_noise(charges)
    if own is None:
        return Guarantee(epsilon=math.inf, delta=limit.delta, unit=unit)
    return guarantee_of(own, limit, unit)


def nobody_colludes(charges: Charges, survivors: int, limit: Limit, unit: PrivacyUnit) -> Guarantee:
    """What is promised if the noise of all `survivors` of a sum counts: a share is as it is, but there are more of them."""
    return guarantee_of(
        {_with_shares(release, survivors): count for release, count in charges.items()}, limit, unit
    )


def _with_shares(release: Release, shares: int) -> Release:
    if release.mechanism is not Mechanism.DISTRIBUTED:
        return release
    more = shares / release.shares
    return replace(
        release,
        shares=shares,
        variance=release.variance * more,
        total_variation=release.total_variation * more,
    )


def by_sites_of_a_person(plan: Plan, contract: Contract) -> Mapping[int, Guarantee]:
    """What the whole plan costs somebody whose rows are at 1, 2, ... of the invited sites; empty where units are no customers."""
    privacy = plan.privacy
    if not isinstance(privacy, Privacy) or not isinstance(privacy.unit, CustomerUnit):
        return {}
    invited = len(plan.sites.invite)
    counts = sorted(
        {k for k in (*_PERSONS, privacy.unit.max_sites, invited) if k <= max(invited, privacy.unit.max_sites)}
    )
    found = {}
    for sites in counts:
        unit = privacy.unit.model_copy(update={"max_sites": sites})
        told = plan.model_copy(update={"privacy": privacy.model_copy(update={"unit": unit})})
        found[sites] = guarantee_of(required_releases(told, contract).planned(), privacy.limit, unit.unit)
    return found


def required_releases(plan: Plan, contract: Contract) -> PlannedReleases:
    """The releases of a private plan. Raises UsageError for one without privacy."""
    planned = releases_of(plan, contract)
    if planned is None:
        raise UsageError(
            f"plan {plan.name} has privacy mode none: nothing protects a person's rows, and there is no figure; choose mode distributed, "
            "local or central"
        )
    return planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What has been released after round `number` costs: `smooth` if no attempt failed, `at_most` if every planned retry was used too."""

    number: int
    smooth: Guarantee
    at_most: Guarantee


def over_rounds(planned: PlannedReleases, limit: Limit, unit: PrivacyUnit) -> tuple[Spent, ...]:
    """The costs after preparation (round 0) and after up to `MOST_POINTS` rounds evenly chosen, the last one with its evaluation."""
    points = min(planned.rounds, MOST_POINTS)
    numbers = [round(planned.rounds * each / points) for each in range(points + 1)]
    return tuple(
        Spent(
            number=number,
            smooth=guarantee_of(_until(planned, number, retried=False), limit, unit),
            at_most=guarantee_of(_until(planned, number, retried=True), limit, unit),
        )
        for number in numbers
    )


def _until(planned: PlannedReleases, number: int, *, retried: bool) -> dict[Release, int]:
    """What is released until the end of round `number`."""
    counts = {
        PREPARE: planned.times(PREPARE) if retried else 1,
        TRAIN: planned.times(TRAIN, rounds=number) if retried and number else number,
        EVALUATE: 0 if number < planned.rounds else planned.times(EVALUATE) if retried else 1,
    }
    return {planned.of(stage): count for stage, count in counts.items() if count}
