"""Sums and means over sites that do not depend, to the bit, on the order in which the sites answered.

1. Contributions are taken in the order of their sites' names; each element is added in float64, one site at a time.
2. One site contributes once; all vectors have one length; every value, and every result, is finite.
3. Weights are public constants of the plan, never row counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What one site adds: `vector`, (d,), with the plan's `weight` for that site, at least 1.

    Vectors are taken as float64 before anything is computed; whole numbers up to 2^53, such as counts, stay exact.
    """

    site: SiteName
    vector: Vector
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise UsageError(f"the weight of site {self.site} is {self.weight}; use an integer of at least 1")


def weighted_mean(contributions: Sequence[Contribution]) -> Vector:
    """sum(weight x vector) / sum(weight), (d,) float64: McMahan et al. 2017, algorithm 1, with the plan's weights.

    Raises Refused for no contributions, a site that appears twice, lengths that differ, or a value or result that is
    not finite.
    """
    ordered = _admitted(contributions)
    return _added(ordered, [item.weight for item in ordered]) / sum(item.weight for item in ordered)


def total(contributions: Sequence[Contribution]) -> Vector:
    """Unweighted sum of the vectors, (d,) float64, for counts and moments. Raises Refused as `weighted_mean` does."""
    ordered = _admitted(contributions)
    return _added(ordered, [1] * len(ordered))


def _admitted(contributions: Sequence[Contribution]) -> list[Contribution]:
    """The contributions in the order of their sites, after every check."""
    if not contributions:
        raise Refused("there are no contributions to aggregate; at least one site must answer")
    ordered = sorted(contributions, key=lambda item: item.site)
    expected = ordered[0].vector.shape
    for place, item in enumerate(ordered):
        if place and item.site == ordered[place - 1].site:
            raise Refused(f"site {item.site} contributed twice; one contribution a site is accepted")
        if item.vector.ndim != 1 or item.vector.shape != expected:
            raise Refused(
                f"site {item.site} sent shape {item.vector.shape}; {ordered[0].site} sent {expected}, "
                "and all must be one-dimensional and equally long"
            )
        if not np.isfinite(item.vector).all():
            raise Refused(
                f"site {item.site} sent a value that is NaN or infinite; every value must be finite"
            )
    return ordered


def _added(ordered: Sequence[Contribution], weights: Sequence[int]) -> Vector:
    """Left-to-right sum of weight x vector, (d,) float64. Raises Refused when it overflows."""
    added = np.zeros(ordered[0].vector.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is refused below, with a sentence
        for item, weight in zip(ordered, weights, strict=True):
            added += weight * item.vector.astype(np.float64, copy=False)
    if not np.isfinite(added).all():
        raise Refused("the sum over sites is beyond the range of float64; the values sent are too large")
    return added
