"""Counts by protected group, class and score, and which of them are told to nobody.

1. A value that is missing, or no word of the contract, is the group `NOT_GIVEN`; each row is in one group.
2. The threshold is an edge of the bins, so that declined and accepted rows of a group are counted exactly, before noise.
3. A group is told only if, at the lower end of what noise allows, it has the plan's least number of rows. Where counts are exact the total would tell
   what is hidden, so more is hidden with it: until those that are hidden are at least two groups with rows, of that many rows together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from strategies.analytics.noisy import LOGIT_RANGE
from strategies.encoding import Vector
from strategies.features import Coded
from strategies.models import sigmoid

Integers = npt.NDArray[np.int64]

_Z: Final = 1.959963984540054
"""Two-sided 95 % of a Gaussian."""
_LABELS: Final = 2


def group_edges(decline_at: float, bins: int) -> Vector:
    """The bounds of an even number of score bins, (bins + 1,): `decline_at` in the middle, even in the logit on either side, the outer two open."""
    middle = math.log(decline_at / (1.0 - decline_at))
    half = bins // 2
    logits = np.concatenate(
        (
            np.linspace(-LOGIT_RANGE, middle, half + 1)[:-1],
            np.linspace(middle, LOGIT_RANGE, half + 1),
        )
    )
    edges = sigmoid(logits)
    edges[0], edges[half], edges[-1] = 0.0, decline_at, 1.0
    return edges


def group_codes(values: npt.NDArray[Any] | Coded, groups: Sequence[str]) -> Integers:
    """The place among `groups` of each row's value, (n,): of words, or of numbers that are 0 for the first and 1 for the second. The last is anybody else's."""
    if not isinstance(values, Coded) and values.dtype.kind in "fiub":
        numbers = values.astype(np.float64)
        return np.where(numbers == 0.0, 0, np.where(numbers == 1.0, 1, 2)).astype(np.int64)
    last, known = len(groups) - 1, {word: place for place, word in enumerate(groups[:-1])}
    if isinstance(values, Coded):
        table = np.array([*(known.get(word, last) for word in values.vocabulary), last], dtype=np.int64)
        return table[values.codes]
    return np.fromiter((known.get(word, last) for word in values), dtype=np.int64, count=len(values))


def group_counts(codes: Integers, labels: Vector, scores: Vector, edges: Vector, groups: int) -> Integers:
    """Rows by group, class and score bin, (groups, 2, bins); a score that is no number counts as one half."""
    bins = len(edges) - 1
    known = np.nan_to_num(scores, nan=0.5)
    place = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, bins - 1)
    cell = (codes * _LABELS + labels.astype(np.int64)) * bins + place
    return (
        np.bincount(cell, minlength=groups * _LABELS * bins).astype(np.int64).reshape(groups, _LABELS, bins)
    )


def hidden_groups(sizes: Mapping[str, float], minimum: int, cell_std: float, cells: int) -> tuple[str, ...]:
    """Which groups are not told, in the order of `sizes`: rows by group, each a sum of `cells` with noise of standard deviation `cell_std`."""
    margin = _Z * cell_std * math.sqrt(cells)
    hidden = {group for group, rows in sizes.items() if not rows - margin >= minimum}
    if cell_std == 0.0:
        others = sorted(sizes.keys() - hidden, key=lambda group: (sizes[group], group))
        while others and _is_told_by_the_total([sizes[group] for group in hidden], minimum):
            hidden.add(others.pop(0))
    return tuple(group for group in sizes if group in hidden)


def _is_told_by_the_total(hidden: Sequence[float], minimum: int) -> bool:
    """Whether all rows less those that are told are the rows of one small group, or of few people."""
    with_rows = [rows for rows in hidden if rows]
    return bool(with_rows) and (len(with_rows) == 1 or sum(with_rows) < minimum)
