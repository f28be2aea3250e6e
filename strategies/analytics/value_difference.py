"""What one model's decisions come to beside another's, from the counts of each alone.

Of two models that scored the same rows only their own counts are known, and not which rows each of them would decline. So their difference has an interval that
holds however these lie.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from strategies.analytics.estimates import Estimate
from strategies.analytics.value import Cells, ScoreTable, Z
from strategies.encoding import Vector


def difference(one: ScoreTable, cells: Cells, other: ScoreTable, other_cells: Cells) -> Estimate:
    """How much more a row comes to with `one` than with `other`, which scored the same rows in the same release, each with noise of its own.

    Sampling: which rows both treat alike is in no count. The interval takes the arrangement within each outcome that makes the difference most uncertain, so
    it holds for whatever there is, and is wider than counts of both together would make it.
    """
    means = [
        float((table.counts * each).sum()) / table.rows
        for table, each in ((one, cells), (other, other_cells))
    ]
    rest = [cells - means[0], other_cells - means[1]]
    noise = sum(
        table.noise_std**2 * float((each * each).sum()) / table.rows**2
        for table, each in zip((one, other), rest, strict=True)
    )
    rows = (one.rows + other.rows) / 2.0
    apart = sum(
        _most_apart(one.counts[label], rest[0][label], other.counts[label], rest[1][label])
        for label in range(len(cells))
    )
    half = Z * math.sqrt(noise + apart / rows**2)
    value = means[0] - means[1]
    return Estimate(value, value - half, value + half)


def _most_apart(
    counts: npt.NDArray[np.int64], amounts: Vector, other_counts: npt.NDArray[np.int64], other_amounts: Vector
) -> float:
    """The largest sum over rows of the squared difference of two amounts, with these numbers of rows at each: the cheapest of one go with the dearest of
    the other. Where noise makes the numbers of rows differ, both are scaled to their mean."""
    one, other = _sorted(counts, amounts), _sorted(other_counts, other_amounts)
    rows = (one[0].sum() + other[0].sum()) / 2.0
    if not (one[0].sum() > 0.0 and other[0].sum() > 0.0):
        return 0.0
    ends = [np.cumsum(each[0]) / each[0].sum() for each in (one, (other[0][::-1], other[1][::-1]))]
    cuts = np.unique(np.concatenate((ends[0], ends[1])))
    widths = np.diff(np.concatenate(((0.0,), cuts)))
    middles = cuts - widths / 2.0
    first = one[1][np.minimum(np.searchsorted(ends[0], middles), len(one[1]) - 1)]
    second = other[1][::-1][np.minimum(np.searchsorted(ends[1], middles), len(other[1]) - 1)]
    return float(rows * (widths * (first - second) ** 2).sum())


def _sorted(counts: npt.NDArray[np.int64], amounts: Vector) -> tuple[Vector, Vector]:
    """How many rows there are at each amount, cheapest first."""
    known, place = np.unique(amounts, return_inverse=True)
    return np.maximum(0.0, np.bincount(place, weights=counts)), known
