"""Federated scaling: each site sends three sums per numeric feature, the total gives mean and deviation.

1. A site's moments are sums over its rows of unit values, so one row moves each by at most 1.
2. Only the total over sites is turned into a scaling.
"""

from collections.abc import Iterable

import numpy as np

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.features import Scaling

_MOMENTS = 3


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


def scaling_from(total: Vector) -> Scaling:
    """Mean and population standard deviation of each feature from the total moments, (3k,) float64.

    Raises UsageError for a length that is no multiple of 3, Refused when a feature has no present value at any site or
    the moments are not those of values in [0, 1].
    """
    if total.ndim != 1 or total.size % _MOMENTS:
        raise UsageError(f"moments have shape {total.shape}; use three values a numeric feature")
    counts, sums, squares = total.reshape(_MOMENTS, -1)
    empty = np.flatnonzero(~(counts > 0.0))
    if empty.size:
        raise Refused(
            f"numeric feature number {empty[0] + 1} has no value at any site; leave it out of the plan"
        )
    if not ((sums >= 0.0) & (sums <= counts) & (squares >= 0.0) & (squares <= counts)).all():
        raise Refused("the total moments are not those of values in [0, 1]; a site sent wrong sums")
    mean = sums / counts
    variance = np.maximum(
        squares / counts - mean * mean, 0.0
    )  # rounding can put a constant column below zero
    return Scaling(mean=tuple(mean.tolist()), std=tuple(np.sqrt(variance).tolist()))
