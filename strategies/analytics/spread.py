"""How far noise on the counts moves each metric: its standard deviation, by the delta method, from the noisy counts alone.

Noise of standard deviation s on every cell, independent, moves a smooth metric f by about s |grad f|. KS and the calibration gap are the largest of
several such figures; what stands for them is the largest standard deviation among these, and whoever bounds them must bear in mind how many there are
(`protos.gates`). Counts of two models have noise of their own each, so differences of their metrics have the sum of the variances, whichever rows they share.
Sampling of held-out rows is not counted: the bound is about what the exact counts of these very rows would have said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector


def auc_slopes(counts: npt.NDArray[np.float64], area: float) -> Vector:
    """The gradient of the area, ties half, by the counts (2, bins): (2 bins,)."""
    negatives, positives = (float(each) for each in counts.sum(axis=1))
    below = np.cumsum(counts[0]) - counts[0] / 2.0
    above = positives - np.cumsum(counts[1]) + counts[1] / 2.0
    slopes: Vector = np.concatenate((above - area * positives, below - area * negatives)) / (
        negatives * positives
    )
    return slopes


def spread_of(
    counts: npt.NDArray[np.float64], middles: Vector, area: float, noise_std: float
) -> Mapping[str, float]:
    """Standard deviation by metric, of (2, bins) counts whose classes are both seen, with scores `middles` and `area` under the curve."""
    sizes = counts.sum(axis=1)
    rows = float(sizes.sum())
    losses = np.stack((-np.log1p(-middles), -np.log(middles)))
    squares = np.stack((middles**2, (1.0 - middles) ** 2))
    slopes = {
        "auc": auc_slopes(counts, area),
        "log_loss": (losses - (counts * losses).sum() / rows) / rows,
        "brier": (squares - (counts * squares).sum() / rows) / rows,
    }
    found = {name: noise_std * float(np.sqrt((each * each).sum())) for name, each in slopes.items()}
    return {**found, "ks": noise_std * _largest_distance_slope(counts, sizes)}


def _largest_distance_slope(counts: npt.NDArray[np.float64], sizes: Vector) -> float:
    """The longest gradient of the difference between the classes' distributions, over all thresholds."""
    bins = counts.shape[1]
    below = np.arange(1, bins + 1)
    total = np.zeros(bins)
    for label, size in zip(counts, sizes, strict=True):
        share = np.clip(np.cumsum(label) / size, 0.0, 1.0)
        # Cells below the threshold count 1 - share each, those above -share.
        total += (below * (1.0 - share) ** 2 + (bins - below) * share**2) / size**2
    return float(np.sqrt(total.max()))


def gap_spread(inside: npt.NDArray[np.float64], middles: Vector, noise_std: float) -> float:
    """Standard deviation of (mean score - share of positives) of one group's counts, (2, bins of the group)."""
    size = float(inside.sum())
    gap = (inside.sum(axis=0) * middles).sum() / size - inside[1].sum() / size
    slopes = (middles - np.array([[0.0], [1.0]]) - gap) / size
    return noise_std * float(np.sqrt((slopes * slopes).sum()))
