"""Rows with groups, labels and scores, and the panels that sites' counts of them add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from strategies.analytics.panels import GroupPanel

EDGES = tuple(np.linspace(0.0, 1.0, 9).tolist())
DECLINES = 4

Rows = tuple[npt.NDArray[np.str_], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def rows(seed: int, sizes: Mapping[str, int], bad: Mapping[str, float]) -> Rows:
    """Group, label and score of each row: the share of label 1 is `bad`, and bad rows score higher."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(list(sizes), list(sizes.values()))
    chance = np.repeat([bad[each] for each in sizes], list(sizes.values()))
    labels = (draw.random(len(groups)) < chance).astype(np.int64)
    return groups, labels, np.clip(draw.beta(2 + 2 * labels, 4 - 1.5 * labels), 0.0, 1.0)


def panel(
    found: Rows, *, noise_std: float = 0.0, seed: int = 0, suppressed: Sequence[str] = ()
) -> GroupPanel:
    """Their counts, each with rounded Gaussian noise."""
    groups, labels, scores = found
    draw = np.random.default_rng(seed)
    counts = {}
    for name in dict.fromkeys(groups.tolist()):
        exact = [np.histogram(scores[(groups == name) & (labels == label)], EDGES)[0] for label in (0, 1)]
        noisy = np.rint(np.array(exact) + draw.normal(0.0, noise_std, (2, len(EDGES) - 1))).astype(int)
        counts[name] = (tuple(noisy[0].tolist()), tuple(noisy[1].tolist()))
    for each in suppressed:
        counts.pop(each, None)
    return GroupPanel(
        attribute="band", edges=EDGES, declines=DECLINES, counts=counts, suppressed=tuple(suppressed)
    )
