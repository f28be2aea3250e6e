"""What each feature adds to a model's answer: contributions of encoded columns to the logit, and their sums by feature.

1. A contribution is relative to a reference: the applicant for whom every number is at its training mean, nothing is missing, and each word
   of a vocabulary is equally likely. All of it is public or released already: the scaling's means and the contract's vocabularies.
2. For logistic regression it is weight x (value - reference), exactly.
3. For a network it is the integrated gradient (Sundararajan, Taly, Yan 2017, equation 1) of the logit along the straight line from the
   reference. A ReLU network is piecewise linear on that line, so the integral is a finite sum over its pieces: no step count, no quadrature.
4. Contributions of a row add up to logit(row) - logit(reference): the axiom of completeness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature
from strategies.models import Parameters

_CHUNK: Final = 256
"""Rows at once: what is held beside a row is its pieces times the width of a layer."""

Rows = npt.NDArray[np.float64]


def reference_of(features: FeatureSpec) -> Vector:
    """The reference in encoded columns, (width,) float64: 0 for a scaled number and its indicator, 1/V for each of V words, 0 for "other"."""
    parts: list[float] = []
    for feature in features.features:
        match feature:
            case NumericFeature():
                parts += [0.0] * len(feature.columns)
            case CategoricalFeature():
                words = len(feature.vocabulary)
                parts += [1.0 / words] * words + [0.0]
    return np.array(parts)


def by_feature(features: FeatureSpec, contributions: Rows) -> Rows:
    """Sums over each feature's encoded columns, indicators and one-hot groups included: (n, width) to (n, features) float64."""
    lengths = [len(feature.columns) for feature in features.features]
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.intp)
    return np.asarray(np.add.reduceat(contributions, starts, axis=1))


Product = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Of values, (..., k), and a matrix, (k, m)."""


def _in_order(values: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Their product, added up term by term: each element a function of its own row, to the bit, wherever it stands and whatever is beside it."""
    total = np.zeros((*values.shape[:-1], matrix.shape[1]))
    term = np.empty_like(total)
    for place, row in enumerate(matrix):
        np.multiply(values[..., place, None], row, out=term)
        total += term
    return total


def contributions(
    layers: Sequence[Parameters], rows: npt.NDArray[Any], reference: Vector, *, by_row: bool = False
) -> Rows:
    """Contributions to the logit, (n, d) float64, of encoded `rows`, (n, d), for a dense ReLU network of `layers`, the last of one output.

    Those `by_row` are the same but for last bits, slower, and to the bit a function of each row alone, which products of a matrix library are not.
    Raises UsageError for shapes that do not fit.
    """
    width = layers[0][0].shape[1]
    if rows.ndim != 2 or rows.shape[1] != width or reference.shape != (width,):  # noqa: PLR2004
        raise UsageError(
            f"rows {rows.shape} and reference {reference.shape} do not fit a model of {width} inputs"
        )
    steps = rows.astype(np.float64) - reference
    if len(layers) == 1:
        return np.asarray(steps * layers[0][0][0])
    weight, bias = layers[0]
    product: Product = _in_order if by_row else np.matmul
    start = product(reference[None, :], weight.T)[0] + bias
    slopes = product(steps, weight.T)
    gradients = [
        _mean_gradient(layers[1:], start, slopes[first : first + _CHUNK], product)
        for first in range(0, len(rows), _CHUNK)
    ]
    return np.asarray(steps * product(np.concatenate(gradients or [slopes]), weight))


def _mean_gradient(later: Sequence[Parameters], start: Vector, slopes: Rows, product: Product) -> Rows:
    """The mean over the line of d logit / d (first hidden layer before its ReLU), (n, h): that layer is start + t slopes, t from 0 to 1."""
    points = np.broadcast_to(np.array([0.0, 1.0]), (len(slopes), 2))
    for depth in range(len(later)):
        points = _split(points, _before_relu(later[:depth], start, slopes, points, product)[-1])
    middles = (points[:, :-1] + points[:, 1:]) / 2.0
    active = [values > 0.0 for values in _before_relu(later[:-1], start, slopes, middles, product)]
    gradient = active[-1] * later[-1][0][0]
    for (weight, _), mask in zip(reversed(later[:-1]), reversed(active[:-1]), strict=True):
        gradient = product(gradient, weight) * mask
    total = np.zeros(slopes.shape)
    # Piece by piece: those without length, which fill a row up to as many as its neighbours have, add nothing, also where a gradient is not finite.
    for place, length in enumerate(np.diff(points).T[:, :, None]):
        np.add(total, length * gradient[:, place], out=total, where=length > 0.0)
    return total


def _before_relu(
    between: Sequence[Parameters], start: Vector, slopes: Rows, points: Rows, product: Product
) -> list[npt.NDArray[np.float64]]:
    """Every hidden layer before its ReLU at `points`, (n, p): arrays (n, p, h), up to the one behind the last of `between`."""
    values = [start + points[:, :, None] * slopes[:, None, :]]
    for weight, bias in between:
        values.append(product(np.maximum(values[-1], 0.0), weight.T) + bias)
    return values


def _split(points: Rows, values: npt.NDArray[np.float64]) -> Rows:
    """`points` and where a unit of `values`, (n, p, h), linear between neighbours, changes its sign: (n, q) ascending, filled up with 1."""
    left, right = values[:, :-1], values[:, 1:]
    crosses = left * right < 0.0
    share = left / np.where(crosses, left - right, 1.0)
    found = points[:, :-1, None] + np.diff(points)[:, :, None] * share
    # A crossing that overflow hides is none: numbers that are no numbers are sorted behind what fills up, where neighbours decide what is cut off.
    flat = np.where(crosses & np.isfinite(found), found, 1.0).reshape(len(points), -1)
    most = int(crosses.sum(axis=(1, 2)).max(initial=0))
    return np.sort(np.concatenate((points, np.sort(flat, axis=1)[:, :most]), axis=1), axis=1)
