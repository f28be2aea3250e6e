"""In which direction each feature moves a model's answer: read off the model itself, which is released, so that nothing about rows is told.

A number is moved from two deviations below its training mean to two above, and a category from word to word, while all other features stay those of the reference
applicant (`strategies.analytics.contributions`). For logistic regression that is the whole truth; in a network other applicants may move otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from strategies.analytics.contributions import Rows, contributions
from strategies.encoding import Vector
from strategies.features import CategoricalFeature, FeatureSpec
from strategies.models import Parameters

_STEPS: Final = np.linspace(-2.0, 2.0, 17)


class Direction(StrEnum):
    """What a higher value does to the score."""

    RAISES = "raises"
    LOWERS = "lowers"
    BOTH = "raises and lowers"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDirection:
    """What one feature does. A number has a `direction`, and `by` is the logit two deviations above its mean less that two below. A category has the words with the
    `lowest` and the `highest` logit, and `by` is how far they lie apart."""

    feature: str
    by: float
    direction: Direction | None = None
    lowest: str = ""
    highest: str = ""


def directions(
    layers: Sequence[Parameters], features: FeatureSpec, reference: Vector
) -> tuple[FeatureDirection, ...]:
    """Of each of `features`, for a dense ReLU network of `layers`, as `contributions` takes them. Raises UsageError for shapes that do not fit."""
    found, first = [], 0
    for feature in features.features:
        columns = slice(first, first + len(feature.columns))
        if isinstance(feature, CategoricalFeature):
            probes = _words(reference, columns, len(feature.vocabulary))
            found.append(_of_words(feature, contributions(layers, probes, reference).sum(axis=1)))
        else:
            probes = np.tile(reference, (len(_STEPS), 1))
            probes[:, first] += _STEPS
            found.append(_of_number(feature.name, contributions(layers, probes, reference).sum(axis=1)))
        first = columns.stop
    return tuple(found)


def _words(reference: Vector, columns: slice, count: int) -> Rows:
    probes = np.tile(reference, (count, 1))
    probes[:, columns] = 0.0
    probes[:, columns.start : columns.start + count] = np.eye(count)
    return probes


def _of_words(feature: CategoricalFeature, logits: Vector) -> FeatureDirection:
    low, high = int(np.argmin(logits)), int(np.argmax(logits))
    return FeatureDirection(
        feature=feature.name,
        by=float(logits[high] - logits[low]),
        lowest=feature.vocabulary[low],
        highest=feature.vocabulary[high],
    )


def _of_number(name: str, logits: Vector) -> FeatureDirection:
    steps = np.diff(logits)
    up, down = bool((steps > 0.0).any()), bool((steps < 0.0).any())
    which = {
        (True, False): Direction.RAISES,
        (False, True): Direction.LOWERS,
        (True, True): Direction.BOTH,
        (False, False): Direction.NEITHER,
    }[up, down]
    return FeatureDirection(feature=name, by=float(logits[-1] - logits[0]), direction=which)
