"""What outcomes say once they have arrived: whether they moved where scores did not, and how well the model still does, with intervals.

1. Concept drift is another share of outcome 1 at the same score. Groups of neighbouring score bins are compared one by one, so a shift of scores alone
   shows nothing here.
2. Metrics of the window and of the reference are computed by the same rules from counts of the same bins; their intervals count sampling of rows and
   noise by the delta method (`spread`): a cell varies by its count and by its noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from strategies.analytics.drift import Statistic
from strategies.analytics.estimates import Estimate
from strategies.analytics.noisy import middles_of
from strategies.analytics.spread import auc_slopes
from strategies.analytics.two_histograms import LEAST, LEAST_ROWS, SEEN
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

_Z: Final = 1.959963984540054
_LABELS: Final = 2
_SHARE_OF_NOISE: Final = 5.0
ScoreScale = Literal["even", "logit"]


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """`counts`, (2, bins): rows by outcome, 0 and then 1, by score bin, each with independent noise of standard deviation `noise_std` rows."""

    counts: npt.NDArray[Any]
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if self.counts.ndim != _LABELS or self.counts.shape[0] != _LABELS or self.counts.shape[1] < 1:
            raise UsageError(f"outcomes have shape {self.counts.shape}; use (2, score bins)")

    def require_rows(self, what: str) -> None:
        """Raises Refused where an outcome has no rows that the noise lets see, or there are too few to say anything."""
        hidden = SEEN * self.noise_std * math.sqrt(self.counts.shape[1])
        sizes = self.counts.sum(axis=1)
        if not sizes.min() > max(0.0, hidden):
            raise Refused(
                f"{what} has {sizes.min():.0f} rows of one outcome, and noise alone would reach {hidden:.0f}; wait until more outcomes have arrived"
            )
        if not sizes.sum() >= LEAST_ROWS:
            raise Refused(
                f"{what} has outcomes of about {sizes.sum():.0f} rows; below {LEAST_ROWS:.0f} they say nothing"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDrift:
    """Shares of outcome 1 by group of score bins, against the reference's; `statistic` tests them all at once. `bounds` are the groups' first bins."""

    bounds: tuple[int, ...]
    observed: tuple[float, ...]
    expected: tuple[float, ...]
    statistic: Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of the window, the reference's, and the probability, at most, of so much worse a figure if it were worse by no more than is tolerated."""

    window: Estimate
    reference: Estimate
    p_value: float


def outcome_drift(reference: OutcomeCounts, window: OutcomeCounts, *, tolerated_psi: float) -> OutcomeDrift:
    """Compare outcomes at equal scores. Raises UsageError for other bins, Refused where there are too few rows to say anything."""
    _require_comparable(reference, window)
    groups = _groups(reference, window)
    sizes = np.bincount(groups)
    ours, theirs = _grouped(window, groups), _grouped(reference, groups)
    rows, base = ours.sum(axis=0), theirs.sum(axis=0)
    least = LEAST / rows
    pooled = np.clip((ours[1] + theirs[1]) / (rows + base), least / 2.0, 1.0 - least / 2.0)
    variance = _variance(pooled, rows, sizes, window.noise_std) + _variance(
        pooled, base, sizes, reference.noise_std
    )
    difference = ours[1] / rows - theirs[1] / base
    # PSI's second order, of outcomes given groups: sum of weight * difference^2 / (pooled * (1 - pooled)).
    seen = pooled * (1.0 - pooled) / (rows / rows.sum()) / variance
    return OutcomeDrift(
        bounds=tuple(int(np.argmax(groups == each)) for each in range(sizes.size)),
        observed=tuple(np.clip(ours[1] / rows, 0.0, 1.0).tolist()),
        expected=tuple(np.clip(theirs[1] / base, 0.0, 1.0).tolist()),
        statistic=Statistic(
            value=float((difference**2 / variance).sum()),
            freedom=sizes.size,
            tolerated=tolerated_psi * float(seen.max()),
            for_psi=float(seen.mean()),
        ),
    )


def performance(
    reference: OutcomeCounts, window: OutcomeCounts, scale: ScoreScale, *, tolerated_drop: float
) -> Mapping[str, Metric]:
    """AUC, log loss, Brier score and calibration (mean score less share of outcome 1) of the window and the reference.

    `tolerated_drop` is how much worse each may be, in its own units. Raises UsageError, and Refused where there are too few rows to say anything.
    """
    _require_comparable(reference, window)
    ours, theirs = _metrics(window, scale), _metrics(reference, scale)
    return {
        name: Metric(
            window=_interval(*ours[name], name),
            reference=_interval(*theirs[name], name),
            p_value=_worse(ours[name], theirs[name], name, tolerated_drop),
        )
        for name in ours
    }


def _require_comparable(reference: OutcomeCounts, window: OutcomeCounts) -> None:
    if reference.counts.shape != window.counts.shape:
        raise UsageError(
            f"the window has {window.counts.shape[1]} score bins, the reference {reference.counts.shape[1]}; compare counts of the same bins"
        )
    window.require_rows("the window")
    reference.require_rows("the reference")


def _groups(reference: OutcomeCounts, window: OutcomeCounts) -> npt.NDArray[np.int64]:
    """The group of each score bin: as many neighbours as it takes to see rows, of both outcomes by the reference's share."""
    rows = window.counts.sum(axis=0).astype(np.float64)
    bins = rows.size
    found, start = np.zeros(bins, dtype=np.int64), 0
    for place in range(1, bins + 1):
        part = slice(start, place)
        size, base = float(rows[part].sum()), reference.counts[:, part].sum(axis=1).astype(np.float64)
        noise = _SHARE_OF_NOISE * math.sqrt(_LABELS * (place - start))
        plenty = size > noise * window.noise_std and base.sum() > noise * reference.noise_std
        if place < bins and plenty and size * max(0.0, float(base.min() / base.sum())) >= LEAST:
            found[place:] = found[place - 1] + 1
            start = place
    rest = found == found[-1]
    if found[-1] > 0 and not rows[rest].sum() >= max(
        2.0 * LEAST, _SHARE_OF_NOISE * window.noise_std * math.sqrt(_LABELS * rest.sum())
    ):
        found[rest] -= 1
    return found


def _grouped(side: OutcomeCounts, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.stack([np.bincount(groups, weights=each.astype(np.float64)) for each in side.counts])


def _variance(share: Vector, rows: Vector, sizes: npt.NDArray[np.int64], noise_std: float) -> Vector:
    """Of a share of outcome 1, by sampling and by noise on either outcome's count."""
    noise = noise_std**2 * sizes * ((1.0 - share) ** 2 + share**2)
    found: Vector = share * (1.0 - share) / rows + noise / rows**2
    return found


def _metrics(side: OutcomeCounts, scale: ScoreScale) -> dict[str, tuple[float, float]]:
    """Each metric and its standard deviation."""
    counts = side.counts.astype(np.float64)
    bins = counts.shape[1]
    middles = middles_of(bins) if scale == "logit" else (np.arange(bins) + 0.5) / bins
    sizes = counts.sum(axis=1)
    rows = float(sizes.sum())
    below = np.cumsum(counts[0]) - counts[0] / 2.0
    area = float((counts[1] * below).sum() / (sizes[0] * sizes[1]))
    by_cell = {
        "log_loss": np.stack((-np.log1p(-middles), -np.log(middles))),
        "brier": np.stack((middles**2, (1.0 - middles) ** 2)),
        "calibration": np.stack((middles, middles - 1.0)),
    }
    found = {"auc": (area, _spread(auc_slopes(counts, area), counts, side.noise_std))}
    for name, cells in by_cell.items():
        value = float((counts * cells).sum() / rows)
        found[name] = value, _spread((cells - value).ravel() / rows, counts, side.noise_std)
    return found


def _spread(slopes: Vector, counts: npt.NDArray[np.float64], noise_std: float) -> float:
    """A metric does not change when all counts grow alike, so cells may be taken as independent: variance count + noise."""
    return math.sqrt(float((slopes**2 * (np.clip(counts.ravel(), 0.0, None) + noise_std**2)).sum()))


_LIMITS: Final = {
    "auc": (0.0, 1.0),
    "log_loss": (0.0, math.inf),
    "brier": (0.0, 1.0),
    "calibration": (-1.0, 1.0),
}


def _interval(value: float, spread: float, name: str) -> Estimate:
    low, high = _LIMITS[name]
    inside = (min(high, max(low, each)) for each in (value, value - _Z * spread, value + _Z * spread))
    return Estimate(*inside)


def _worse(ours: tuple[float, float], theirs: tuple[float, float], name: str, tolerated: float) -> float:
    """One-sided; calibration is worse on either side."""
    from scipy.stats import norm  # a second or two, which processes need not wait that compare nothing

    spread = max(math.hypot(ours[1], theirs[1]), 1e-12)
    gap = ours[0] - theirs[0]
    if name == "calibration":
        return min(1.0, 2.0 * float(norm.sf((abs(gap) - tolerated) / spread)))
    return float(norm.sf(((-gap if name == "auc" else gap) - tolerated) / spread))
