"""Whether two evaluations of contributions agree: parts of the rows, groups of sites, or two rounds of a run.

1. Features that can be seen in neither, for noise or because they contribute nothing, are left out. One that only one of them sees is compared: that it vanished is no agreement.
2. The rank correlation is Kendall's: of all pairs of features, the share that both put in the same order less the share that they put in opposite ones. At its
   lower end every pair whose order is open in one of them counts as opposite, at its upper end as the same (95 %, all pairs of both at once).
3. Parts are samples of a population. Rounds see the same rows, so what moved between them is told by the noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from strategies.analytics.explanations import Sums
from strategies.analytics.shares import Interval, deviations

_FEWEST: Final = 2
"""Features that have an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of two evaluations by name. `correlation` is Kendall's over `compared` features, in [-1, 1], and `covered` at least which share of all contributions is
    theirs. `moved` is the feature whose mean absolute contribution differs most, `by` so many logits a row, `deviations` how many standard deviations of that
    difference (None where it is exact). Where nothing can be said `cannot` says why."""

    between: tuple[str, str]
    compared: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    covered: float = 0.0
    correlation: Interval | None = None
    moved: str = ""
    by: float = 0.0
    deviations: float | None = None
    cannot: str = ""


def agreement(between: tuple[str, str], one: Sums, other: Sums, *, sampled: bool) -> Agreement:
    """Compare two evaluations of the same features; they are `sampled` where their rows are different ones."""
    both = (one, other)
    if not all(each.are_seen for each in both):
        return Agreement(between=between, cannot="noise hides how many rows were explained")
    places = range(len(one.features))
    seen = [place for place in places if any(each.sees(place) for each in both)]
    hidden = tuple(one.features[place] for place in places if place not in seen)
    if len(seen) < _FEWEST:
        return Agreement(
            between=between,
            hidden=hidden,
            cannot=f"{len(seen)} of {len(one.features)} features can be seen to contribute anything, and it takes two to have an order",
        )
    gaps = {place: _gap(one, other, place, sampled=sampled) for place in seen}
    most = max(seen, key=lambda place: _size(gaps[place]))
    by, spread = gaps[most]
    return Agreement(
        between=between,
        compared=tuple(one.features[place] for place in seen),
        hidden=hidden,
        covered=min(_covered(each, seen) for each in both),
        correlation=_correlation(both, seen, sampled=sampled),
        moved=one.features[most],
        by=by,
        deviations=abs(by) / spread if spread > 0.0 else None,
    )


def _correlation(both: tuple[Sums, Sums], seen: Sequence[int], *, sampled: bool) -> Interval:
    pairs = list(combinations(seen, 2))
    told = open_ = sure = 0
    for pair in pairs:
        one, other = (_sign(each, pair) for each in both)
        told += one * other
        first, second = (_sure_sign(each, pair, 2 * len(pairs), sampled=sampled) for each in both)
        sure += first * second
        open_ += not first * second
    count = len(pairs)
    value, low, high = (each / count for each in (told, sure - open_, sure + open_))
    return Interval(min(high, max(low, value)), low, high)


def _sign(sums: Sums, pair: tuple[int, int]) -> int:
    first, second = (sums.absolute[place] for place in pair)
    return (first > second) - (first < second)


def _sure_sign(sums: Sums, pair: tuple[int, int], choices: int, *, sampled: bool) -> int:
    one, other = pair
    return sums.exceeds(one, other, choices, sampled=sampled) - sums.exceeds(
        other, one, choices, sampled=sampled
    )


def _gap(one: Sums, other: Sums, place: int, *, sampled: bool) -> tuple[float, float]:
    """How far the second mean is above the first, and the standard deviation of that."""
    means = [each.absolute[place] / each.rows for each in (one, other)]
    variance = sum(_variance(each, place, sampled=sampled) for each in (one, other))
    return means[1] - means[0], math.sqrt(variance)


def _variance(sums: Sums, place: int, *, sampled: bool) -> float:
    """Of a mean, by noise of both sums and, at most, by sampling."""
    mean = min(sums.bound, max(0.0, sums.absolute[place] / sums.rows))
    noise = (sums.noise_std**2 + mean**2 * sums.row_std**2) / sums.rows**2
    return noise + (mean * (sums.bound - mean) / sums.rows if sampled else 0.0)


def _size(gap: tuple[float, float]) -> tuple[float, float]:
    """In deviations where there are some, and by itself where figures are exact."""
    by, spread = gap
    return (abs(by) / spread if spread > 0.0 else 0.0), abs(by)


def _covered(sums: Sums, seen: Sequence[int]) -> float:
    """At least which share of all contributions the features at `seen` have, for noise."""
    unseen = len(sums.features) - len(seen)
    wide = deviations(2) * sums.noise_std
    theirs = sum(sums.absolute[place] for place in seen) - wide * math.sqrt(len(seen))
    others = sum(sums.absolute) - sum(sums.absolute[place] for place in seen)
    rest = max(0.0, others) + wide * math.sqrt(unseen) + unseen * sums.rows * sums.rounding
    return max(0.0, theirs) / (max(0.0, theirs) + rest) if theirs + rest > 0.0 else 0.0
