"""Attributions of made-up rows, as sites would sum them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strategies.analytics.panels import AttributionPanel
from strategies.dp.evaluation_cells import ATTRIBUTION_STEPS

FEATURES = ("debt", "income", "term", "age")
ROWS = "first half of the rows", "second half of the rows"


def contributions(
    seed: int, rows: int, scales: Sequence[float], means: Sequence[float] | None = None
) -> npt.NDArray[np.float64]:
    """(rows, features) in logits: normal around `means`, with deviations `scales`."""
    return np.random.default_rng(seed).normal(means or 0.0, scales, (rows, len(scales)))


def shortened(found: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.float64]:
    """As sites shorten and round them."""
    unit = found / clip
    norm = np.sqrt(2.0 * (unit**2).sum(axis=1, keepdims=True))
    return np.trunc(unit / np.maximum(norm, 1.0) * ATTRIBUTION_STEPS) / ATTRIBUTION_STEPS * clip


def panel(
    parts: Sequence[npt.NDArray[np.float64]],
    clip: float = 2.0,
    noise_std: float = 0.0,
    seed: int = 0,
    features: Sequence[str] = FEATURES,
    names: Sequence[str] = ROWS,
) -> AttributionPanel:
    """Of contributions by part; `noise_std` is that of a count. One part's rows are counted in 16 cells, as those of a histogram are."""
    draw = np.random.default_rng(seed)
    absolute, signed, rows = [], [], []
    for each in parts:
        exact = shortened(each, clip)
        for total, values in ((absolute, np.abs(exact)), (signed, exact)):
            noisy = values.sum(axis=0) + draw.normal(0.0, noise_std * clip, each.shape[1])
            total.append(tuple(noisy.tolist()))
        cells = 1 if len(parts) > 1 else 16
        rows.append(round(len(each) + draw.normal(0.0, noise_std * math.sqrt(cells))))
    return AttributionPanel(
        features=tuple(features),
        clip=clip,
        parts=tuple(names) if len(parts) > 1 else ("all rows",),
        absolute=tuple(absolute),
        signed=tuple(signed),
        rows=tuple(rows),
        noise_std=noise_std * clip,
    )
