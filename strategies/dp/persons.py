"""What a person pays who is at several sites: opened sums once, and what sites release by themselves as often as they do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from strategies.dp.budget import merged
from strategies.dp.events import Mechanism, Release
from strategies.errors import UsageError


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
