"""What decisions by a score come to in money, from counts of scores by outcome: amounts, their intervals, and what choosing a threshold on the same counts does.

1. A decision rule gives every cell of the counts an amount; what a decision costs on average is the counts' mean of these. Only rules that cut between bins can
   be told: counts know no more.
2. Intervals are 95 % and count two things: the noise on every cell, and that the rows are a sample. Amounts are taken as given.
3. The best of many thresholds looks better on the counts that it was chosen by than it is. How much so is estimated, and its interval holds for all thresholds
   at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.analytics.estimates import Estimate
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

Cells = npt.NDArray[np.float64]
"""(2, bins) float64: an amount for each cell of the counts."""

Z: Final = 1.959963984540054
"""Two-sided 95 % of a Gaussian."""
_SEEN: Final = 3.0
_LABELS: Final = 2
_DRAWS: Final = 400
_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Rows by outcome, good and then bad, and score bin: `counts` (2, bins) int64, `noise_std` of each, 0 where exact, and the bins' `bounds`, (bins + 1,).

    Raises UsageError for other shapes, Refused where noise hides that there are any rows.
    """

    counts: npt.NDArray[np.int64]
    bounds: Vector
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        """Check shapes and that rows are seen."""
        if self.counts.ndim != _LABELS or self.counts.shape[0] != _LABELS or not self.counts.size:
            raise UsageError(f"score counts have shape {self.counts.shape}; use (2, bins)")
        if self.bounds.shape != (self.bins + 1,) or not self.noise_std >= 0.0:
            raise UsageError(
                f"{self.bins} score bins have {self.bounds.shape} bounds, noise {self.noise_std}"
            )
        if not self.rows > max(0.0, _SEEN * self.noise_std * math.sqrt(self.counts.size)):
            raise Refused(
                f"the counts come to {self.rows:.0f} rows, which noise cannot be told from none; nothing can be said of what decisions come to"
            )

    @property
    def bins(self) -> int:
        """How many score bins there are."""
        return int(self.counts.shape[1])

    @property
    def rows(self) -> float:
        """All rows, with noise."""
        return float(self.counts.sum())

    def nearest(self, score: float) -> int:
        """The bin that begins nearest to `score`; the first bound and the last are none, since nothing is below or above them."""
        return 1 + int(np.argmin(np.abs(self.bounds[1:-1] - score))) if self.bins > 1 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What a decision comes to by outcome, good and bad; costs are positive. `review` is None where no person looks."""

    approve: tuple[float, float]
    decline: tuple[float, float]
    review: ReviewAmounts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAmounts:
    """A person looks at a `cost`, and turns away the shares `finds` of bad ones and `turns_away` of good ones; the others are approved."""

    cost: float
    finds: float
    turns_away: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Bins from `declines` on are declined; those before from `reviews` on go to a person, if that is below."""

    declines: int
    reviews: int | None = None

    def parts(self, bins: int) -> tuple[slice, slice, slice]:
        """The bins that are approved, reviewed and declined."""
        first = self.declines if self.reviews is None else min(self.reviews, self.declines)
        return slice(0, first), slice(first, self.declines), slice(self.declines, bins)


class Part(StrEnum):
    """What a line of the arithmetic counts."""

    APPROVED_GOOD = "approved, good"
    APPROVED_BAD = "approved, bad"
    DECLINED_GOOD = "declined, good"
    DECLINED_BAD = "declined, bad"
    REVIEWED = "reviewed by a person"
    REVIEWED_GOOD_APPROVED = "reviewed, good, then approved"
    REVIEWED_GOOD_DECLINED = "reviewed, good, then declined"
    REVIEWED_BAD_APPROVED = "reviewed, bad, then approved"
    REVIEWED_BAD_DECLINED = "reviewed, bad, then declined"


@dataclass(frozen=True, slots=True)
class Line:
    """`rows` times `share` times `each` is `amount`."""

    part: Part
    rows: float
    share: float
    each: float

    @property
    def amount(self) -> float:
        """What the line comes to."""
        return self.rows * self.share * self.each


@dataclass(frozen=True, slots=True)
class Best:
    """The cheapest threshold on these counts: bins from `declines` on. `flattered` is how much cheaper it looks there than it is, on average; the interval of
    `cost`, which is before that is taken off, holds although the threshold was chosen."""

    declines: int
    cost: Estimate
    flattered: float

    @property
    def expected(self) -> float:
        """What to expect of it elsewhere."""
        return self.cost.value + self.flattered


def arithmetic(table: ScoreTable, amounts: Amounts, rule: Rule) -> tuple[Line, ...]:
    """The lines whose amounts add up to what all rows come to."""
    approved, reviewed, declined = (table.counts[:, part].sum(axis=1) for part in rule.parts(table.bins))
    lines = [
        Line(Part.APPROVED_GOOD, float(approved[0]), 1.0, amounts.approve[0]),
        Line(Part.APPROVED_BAD, float(approved[1]), 1.0, amounts.approve[1]),
        Line(Part.DECLINED_GOOD, float(declined[0]), 1.0, amounts.decline[0]),
        Line(Part.DECLINED_BAD, float(declined[1]), 1.0, amounts.decline[1]),
    ]
    looked = amounts.review
    if looked is not None:
        good, bad = float(reviewed[0]), float(reviewed[1])
        lines += [
            Line(Part.REVIEWED, good + bad, 1.0, looked.cost),
            Line(Part.REVIEWED_GOOD_APPROVED, good, 1.0 - looked.turns_away, amounts.approve[0]),
            Line(Part.REVIEWED_GOOD_DECLINED, good, looked.turns_away, amounts.decline[0]),
            Line(Part.REVIEWED_BAD_APPROVED, bad, 1.0 - looked.finds, amounts.approve[1]),
            Line(Part.REVIEWED_BAD_DECLINED, bad, looked.finds, amounts.decline[1]),
        ]
    return tuple(lines)


def cells_of(amounts: Amounts, rule: Rule, bins: int) -> Cells:
    """What a row of each cell comes to under a rule."""
    found = np.empty((_LABELS, bins))
    approved, reviewed, declined = rule.parts(bins)
    found[:, approved] = np.array(amounts.approve)[:, None]
    found[:, declined] = np.array(amounts.decline)[:, None]
    if (looked := amounts.review) is not None:
        away = np.array((looked.turns_away, looked.finds))
        mixed = looked.cost + (1.0 - away) * np.array(amounts.approve) + away * np.array(amounts.decline)
        found[:, reviewed] = mixed[:, None]
    return found


def share_of(table: ScoreTable, part: slice) -> Estimate:
    """The share of all rows in some bins, of either outcome, brought back to 0 to 1."""
    cells = np.zeros(table.counts.shape)
    cells[:, part] = 1.0
    found = mean_of(table, cells)
    return Estimate(*(min(1.0, max(0.0, each)) for each in (found.value, found.low, found.high)))


def mean_of(table: ScoreTable, cells: Cells) -> Estimate:
    """The mean amount a row, with Fieller's interval: both what rows come to and how many there are have noise.

    Those means are in it that the counts do not contradict: |sum of (amount - mean) over all rows| below z standard deviations.
    """
    rows, total = table.rows, float((table.counts * cells).sum())
    noise = table.noise_std**2
    moments = [noise * float((cells**power).sum()) for power in range(3)]
    for each, seen in _amounts_of(table, cells):
        for power in range(3):
            moments[power] += seen * each**power
    square = rows * rows - Z**2 * moments[0]
    if square <= 0.0:
        raise Refused(f"{rows:.0f} rows are too few to say what a decision comes to")
    middle = (rows * total - Z**2 * moments[1]) / square
    rest = (total * total - Z**2 * moments[2]) / square
    half = math.sqrt(max(0.0, middle * middle - rest))
    return Estimate(total / rows, middle - half, middle + half)


def over_thresholds(table: ScoreTable, amounts: Amounts, reviews: int | None) -> tuple[Estimate, ...]:
    """What a decision comes to if bins from each one on are declined, from everybody (0) to nobody (`bins`): (bins + 1)."""
    return tuple(mean_of(table, cells_of(amounts, rule, table.bins)) for rule in _rules(table, reviews))


def best_threshold(
    table: ScoreTable, amounts: Amounts, reviews: int | None, *, rng: np.random.Generator
) -> Best:
    """The threshold with the least mean amount, and what choosing it on these counts is worth in appearance.

    What the counts might have been is drawn around what they are, as Gaussians of the same variance in every cell. In each draw the best threshold is chosen
    anew; on average it looks that much better there than it is where it was drawn from (Efron 1983). Where many thresholds are about as good, noise has
    already dug into these counts, and the estimate is below the truth.
    """
    all_cells = np.stack([cells_of(amounts, rule, table.bins).ravel() for rule in _rules(table, reviews)])
    means = all_cells @ table.counts.ravel() / table.rows
    spread = np.sqrt(np.maximum(table.counts, 0).ravel() + table.noise_std**2)
    weights = (all_cells - means[:, None]) * (spread / table.rows)
    moved = rng.standard_normal((_DRAWS, weights.shape[1])) @ weights.T
    chosen = np.argmin(means + moved, axis=1)
    flattered = -float(moved[np.arange(_DRAWS), chosen].mean())
    deviations = np.sqrt((weights * weights).sum(axis=1))
    largest = (np.abs(moved) / np.where(deviations > 0.0, deviations, 1.0)).max(axis=1)
    best = int(np.argmin(means))
    half = float(np.quantile(largest, _LEVEL) * deviations[best])
    value = float(means[best])
    return Best(best, Estimate(value, value - half, value + half), max(0.0, flattered))


def _rules(table: ScoreTable, reviews: int | None) -> Iterator[Rule]:
    return (Rule(each, reviews) for each in range(table.bins + 1))


def _amounts_of(table: ScoreTable, cells: Cells) -> Iterator[tuple[float, float]]:
    """Each amount of each outcome, and how many rows come to it; noise may have made these negative, and a sample is never."""
    for counts, amounts in zip(table.counts, cells, strict=True):
        known, place = np.unique(amounts, return_inverse=True)
        for each, seen in zip(known, np.bincount(place, weights=counts), strict=True):
            yield float(each), max(0.0, float(seen))
