"""Scaling and model quality from sums with noise: post-processing, so it may look at the noisy sums as often as it likes.

1. Nothing here fails because noise made a sum impossible: values are brought back to where they can lie.
2. A spread that the noise hides is taken to be as large as the noise: a feature is never blown up by dividing by noise.
3. A metric says how uncertain it is: its interval counts the noise and the sampling of held-out rows.
4. Few bins hold more rows than noise, and scores of rare events crowd near 0: so bins are even in the logit of the score, not in the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from strategies.analytics.histograms import CalibrationBin, Counts, ScoreMetrics
from strategies.analytics.spread import auc_slopes, gap_spread, spread_of
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.features import Scaling
from strategies.models import sigmoid

VARIANCE_FLOOR: Final = 2.0**-14
"""A standard deviation of 1/128 of the contract's range."""
LARGEST_VARIANCE: Final = 0.25
LOGIT_RANGE: Final = 6.4
"""Scores from 0.0017 to 0.9983 are told apart."""
_Z: Final = 1.959963984540054
"""Two-sided 95 % of a Gaussian."""
_LABELS: Final = 2
CALIBRATION_GROUPS: Final = 8
"""At most so many groups of neighbouring bins show how scores and outcomes agree."""
_SEEN: Final = 3.0
"""A class, or a group of rows, is seen if it is this many standard deviations of its noise above zero."""


def logit_counts(logits: Vector, labels: npt.NDArray[Any], bins: int) -> Counts:
    """Count rows by label and score: (2, bins) int64 over bins that are even in the logit from -`LOGIT_RANGE` to it; the outer two are open.

    `logits` is (n,), `labels` is (n,) of 0 and 1. One that is no number counts as 0: to refuse would tell of a row.
    """
    known = np.nan_to_num(logits, nan=0.0, posinf=LOGIT_RANGE, neginf=-LOGIT_RANGE)
    spread = np.clip(known, -LOGIT_RANGE, LOGIT_RANGE) / (2.0 * LOGIT_RANGE) + 0.5
    place = np.clip(np.floor(spread * bins), 0, bins - 1).astype(np.int64) + bins * labels.astype(np.int64)
    return np.bincount(place, minlength=_LABELS * bins).astype(np.int64).reshape(_LABELS, bins)


def middles_of(bins: int) -> Vector:
    """The score in the middle of each bin, (bins,)."""
    return sigmoid(((np.arange(bins) + 0.5) / bins - 0.5) * 2.0 * LOGIT_RANGE)


def score_bounds(bins: int, scale: Literal["even", "logit"]) -> Vector:
    """The scores that bound the bins, (bins + 1,) from 0 to 1: even in the score, or in its logit, where the outer two bins are open."""
    shares = np.arange(bins + 1) / bins
    if scale == "even":
        return shares
    bounds = sigmoid((shares - 0.5) * 2.0 * LOGIT_RANGE)
    bounds[0], bounds[-1] = 0.0, 1.0
    return bounds


def noisy_scaling(total: Vector, optional: Sequence[bool], noise_std: float) -> Scaling:
    """Mean and deviation of k features from noisy moments as `strategies.dp.mechanisms.MomentCells` orders them.

    `total` is (1 + optional + 2 k,), `noise_std` of each entry. Raises UsageError for another length.
    """
    k, counted = len(optional), int(sum(optional))
    if total.shape != (1 + counted + 2 * k,):
        raise UsageError(
            f"noisy moments have shape {total.shape}; {k} features take {1 + counted + 2 * k} values"
        )
    least = max(1.0, noise_std)
    counts = np.full(k, max(total[0], least))
    counts[np.flatnonzero(optional)] = np.clip(total[1 : 1 + counted], least, counts[0])
    sums, squares = total[1 + counted :].reshape(2, k)
    middle = np.clip(sums / counts, -0.5, 0.5)
    floor = np.minimum(np.maximum(VARIANCE_FLOOR, noise_std / counts), LARGEST_VARIANCE)
    variance = np.clip(squares / counts - middle * middle, floor, LARGEST_VARIANCE)
    return Scaling(mean=tuple((0.5 + middle).tolist()), std=tuple(np.sqrt(variance).tolist()))


def noisy_metrics(counts: Counts, noise_std: float) -> ScoreMetrics:
    """Metrics of (2, bins) int64 counts, each with independent noise of standard deviation `noise_std`, which may have made some negative.

    Raises UsageError for another shape, Refused where the noise hides that a class has any rows.
    """
    if counts.ndim != _LABELS or counts.shape[0] != _LABELS or counts.size == 0:
        raise UsageError(f"score counts have shape {counts.shape}; use (2, bins)")
    bins = counts.shape[1]
    sizes = counts.sum(axis=1)
    if not (sizes > max(0.0, _SEEN * noise_std * math.sqrt(bins))).all():
        raise Refused(
            f"the held-out rows of a class, {int(sizes.min())} with noise, are too few to be told from none; hold out more rows"
        )
    negatives, positives = (float(size) for size in sizes)
    middles = middles_of(bins)
    rows = negatives + positives
    losses = -(counts[0] * np.log1p(-middles) + counts[1] * np.log(middles)).sum() / rows
    squares = (counts[0] * middles**2 + counts[1] * (1.0 - middles) ** 2).sum() / rows
    apart = np.abs(np.cumsum(counts[0]) / negatives - np.cumsum(counts[1]) / positives).max()
    auc, interval = _auc(counts.astype(np.float64), negatives, positives, noise_std)
    groups = _groups(counts, middles, noise_std)
    return ScoreMetrics(
        rows=int(rows),
        positives=int(positives),
        auc=auc,
        log_loss=max(0.0, float(losses)),
        ks=min(1.0, float(apart)),
        brier=min(1.0, max(0.0, float(squares))),
        calibration=tuple(group.bin for group in groups),
        auc_interval=interval,
        noise_std={
            **spread_of(counts.astype(np.float64), middles, auc, noise_std),
            "calibration": max((group.spread for group in groups), default=0.0),
            "group": noise_std * math.sqrt(_LABELS * math.ceil(bins / min(CALIBRATION_GROUPS, bins))),
        },
    )


def _auc(
    counts: npt.NDArray[np.float64], negatives: float, positives: float, noise_std: float
) -> tuple[float, tuple[float, float]]:
    """The area, ties half, and its 95 % interval: the noise by the delta method, the sampling of rows by Hanley and McNeil 1982."""
    below = np.cumsum(counts[0]) - counts[0] / 2.0
    area = float((counts[1] * below).sum() / (negatives * positives))
    slopes = auc_slopes(counts, area)
    noise = noise_std**2 * float((slopes * slopes).sum())
    inside = min(1.0, max(0.0, area))
    q1, q2 = inside / (2.0 - inside), 2.0 * inside**2 / (1.0 + inside)
    spread = (
        inside * (1.0 - inside) + (positives - 1.0) * (q1 - inside**2) + (negatives - 1.0) * (q2 - inside**2)
    ) / (positives * negatives)
    half = _Z * math.sqrt(noise + max(0.0, spread))
    # Noise may put the area outside [0, 1], and then either end.
    low, high = (min(1.0, max(0.0, end)) for end in (area - half, area + half))
    return inside, (low, high)


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of rows, and the standard deviation of the gap between its score and its share of positives."""

    bin: CalibrationBin
    spread: float


def _groups(counts: Counts, middles: Vector, noise_std: float) -> tuple[_Group, ...]:
    """Groups of neighbouring bins of which the noise lets see that they hold rows."""
    bins = len(middles)
    groups = min(CALIBRATION_GROUPS, bins)
    found = []
    for part in np.array_split(np.arange(bins), groups):
        inside = counts[:, part]
        rows = inside.sum(axis=0)
        size = int(rows.sum())
        if size > max(0.0, _SEEN * noise_std * math.sqrt(_LABELS * len(part))):
            score = float(np.clip((rows * middles[part]).sum() / size, middles[part[0]], middles[part[-1]]))
            observed = min(1.0, max(0.0, float(inside[1].sum() / size)))
            spread = gap_spread(inside.astype(np.float64), middles[part], noise_std)
            found.append(_Group(CalibrationBin(score, observed, size), spread))
    return tuple(found)
