"""Updates, and what whole attempts make of them."""

from __future__ import annotations

import numpy as np

from strategies.encoding import Vector
from strategies.ids import SiteName
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from tests.strategies.secagg.attempt_for_tests import Federation, Values, names

SEED = MaskSeed(bytes(range(32)))
MOST_ROWS = 2.0**31


def updates_of(count: int) -> dict[SiteName, Vector]:
    """An update of five coordinates in [-1, 1] for each site."""
    source = np.random.Generator(np.random.Philox(3))
    return {site: source.uniform(-1, 1, 5) for site in names(count)}


def mean_of(weights: dict[SiteName, int], updates: dict[SiteName, Vector]) -> Vector:
    """The weighted mean that an attempt opens."""
    rule = WeightedUpdates(1.0, weights)
    vectors = {site: rule.embed(site, updates[site], dither_seed(site)) for site in updates}
    federation = Federation(count=len(updates))
    return rule.mean(federation.opens(vectors, ring=rule.ring).total, federation.sites)


def equal_weights(count: int) -> WeightedUpdates:
    """Updates in [-1, 1], all of which count the same."""
    return WeightedUpdates(1.0, dict.fromkeys(names(count), 1))


def worst(cohort: int) -> dict[str, tuple[Ring, Values]]:
    """The largest and the smallest inputs that a site can bring, by payload, with the ring of the sum."""
    updates, moments, counts = equal_weights(cohort), Moments(cohort), Counts(cohort)
    return {
        "updates": (updates.ring, updates.embed(names(1)[0], np.asarray([9.0, -9.0]), SEED)),
        "moments": (moments.ring, moments.embed(np.asarray([MOST_ROWS, -MOST_ROWS]))),
        "counts": (counts.ring, counts.embed(np.asarray([2**40, 0]))),
    }
