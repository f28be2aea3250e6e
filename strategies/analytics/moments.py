"""Federated scaling: each site sends three sums per numeric feature, the total gives mean and deviation.

1. A site's moments are sums over its rows of unit values, so one row moves each by at most 1.
2. Where only a sum is seen, or a mean is what a plan makes of updates, the total over sites is turned into a scaling.
3. Where a plan's rule compares sites, so does its scaling: one site's moments move it no further than one site's update moves the model.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.features import STD_FLOOR, Scaling

_MOMENTS = 3
MOST_ROWS: Final = 2.0**31
"""More rows than a site can have: what says so is no site's."""
_ROUNDING: Final = 1e-6
"""Relative, of sums over `MOST_ROWS` values added in any order."""
_UNDERFLOW: Final = 1e-300
"""What squares that are too small for float64 may come to, times counts."""


def moments(units: Vector) -> Vector:
    """Counts, sums and sums of squares of present values, (3k,) float64 in that order.

    `units` is (n, k) float64 in [0, 1] with NaN for missing, as `FeatureSpec.unit_values` gives it. Raises UsageError
    for another shape or a value outside [0, 1].
    """
    if units.ndim != 2:  # noqa: PLR2004
        raise UsageError(f"unit values have shape {units.shape}; use (rows, numeric features)")
    by_feature = np.ascontiguousarray(units.T)  # so that numpy adds along rows pairwise, with less rounding
    present = ~np.isnan(by_feature)
    values = np.where(present, by_feature, 0.0)
    if values.size and not (values.min() >= 0.0 and values.max() <= 1.0):
        raise UsageError("a unit value lies outside [0, 1]; take moments of FeatureSpec.unit_values only")
    counts = present.sum(axis=1, dtype=np.float64)
    return np.concatenate((counts, values.sum(axis=1), (values * values).sum(axis=1)))


def moments_by_feature(features: Iterable[Vector]) -> Vector:
    """The same from unit values, (n,), of one feature after the other, to the bit: only one of them need be there at a time."""
    each = [moments(units[:, None]) for units in features]
    return np.array(each, dtype=np.float64).reshape(-1, _MOMENTS).T.ravel()


def fault_of(sent: Vector) -> str | None:
    """Why no table of a site has these moments, (3k,) float64, in words; None where one may.

    Unit values lie in [0, 1], so that 0 <= squares <= sums <= counts <= `MOST_ROWS`, and sums x sums <= counts x squares (Cauchy and Schwarz), but for
    rounding. Raises UsageError for a length that is no multiple of 3.
    """
    counts, sums, squares = _by_kind(sent)
    with np.errstate(over="ignore", invalid="ignore"):
        rules = {  # phrased so that NaN breaks each
            f"counts of rows are whole numbers from 0 to {MOST_ROWS:.0f}": (
                (counts >= 0.0) & (counts <= MOST_ROWS) & (counts == np.floor(counts))
            ),
            "a sum of values in [0, 1] is from 0 to their count": (sums >= 0.0) & (sums <= counts),
            "squares of values in [0, 1] add up to no more than the values": (
                (squares >= 0.0) & (squares <= sums)
            ),
            "squares add up to no less than the square of the sum by the count": (
                sums * sums <= counts * squares * (1.0 + _ROUNDING) + _UNDERFLOW
            ),
        }
    for rule, holds in rules.items():
        bad = np.flatnonzero(~holds)
        if bad.size:
            at = bad[0]
            return (
                f"moments that no rows have: count {counts[at]:g}, sum {sums[at]:g} and sum of squares {squares[at]:g} of numeric feature number"
                f" {at + 1}, and {rule}"
            )
    return None


def robust_scaling(sites: Vector) -> Scaling:
    """The scaling of sites that count alike, whatever counts they send, from the moments of each, (n, 3k) float64, none with a `fault_of`.

    The mean is the median of the sites' means; the deviation is the root of the median of their mean squares about it. A site without a value of a
    feature has no part in its scaling. Where fewer than half of the others lie, both lie between honest sites' values (Yin et al. 2018, definition 1). A
    feature that does not vary at half of the sites or more may at another, whose values a deviation of 1e-6 would blow up: it gets 1, the range of unit values.
    Raises as `scaling_from` does.
    """
    counts, sums, squares = (np.stack(each) for each in zip(*map(_by_kind, sites), strict=True))
    _require_values(counts.max(axis=0, initial=0.0))
    means, deviations = [], []
    for count, total, square in zip(counts.T, sums.T, squares.T, strict=True):
        has = count > 0.0
        each = total[has] / count[has]
        mean = float(np.median(each))
        spread = np.maximum(square[has] / count[has] - each * each, 0.0) + (each - mean) ** 2
        deviation = float(np.sqrt(np.median(spread)))
        means.append(mean)
        deviations.append(deviation if deviation >= STD_FLOOR else 1.0)
    return Scaling(mean=tuple(means), std=tuple(deviations))


def scaling_from(total: Vector) -> Scaling:
    """Mean and population standard deviation of each feature from the total moments, (3k,) float64.

    Raises UsageError for a length that is no multiple of 3, Refused when a feature has no present value at any site or
    the moments are not those of values in [0, 1].
    """
    counts, sums, squares = _by_kind(total)
    _require_values(counts)
    if not ((sums >= 0.0) & (sums <= counts) & (squares >= 0.0) & (squares <= counts)).all():
        raise Refused("the total moments are not those of values in [0, 1]; a site sent wrong sums")
    mean = sums / counts
    variance = np.maximum(
        squares / counts - mean * mean, 0.0
    )  # rounding can put a constant column below zero
    return Scaling(mean=tuple(mean.tolist()), std=tuple(np.sqrt(variance).tolist()))


def _by_kind(moments: Vector) -> Vector:
    """Counts, sums and squares, (3, k)."""
    if moments.ndim != 1 or moments.size % _MOMENTS:
        raise UsageError(f"moments have shape {moments.shape}; use three values a numeric feature")
    return moments.reshape(_MOMENTS, -1)


def _require_values(counts: Vector) -> None:
    """Raise Refused where a feature has no value."""
    empty = np.flatnonzero(~(counts > 0.0))
    if empty.size:
        raise Refused(
            f"numeric feature number {empty[0] + 1} has no value at any site; leave it out of the plan"
        )
