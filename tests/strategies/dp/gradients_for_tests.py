"""Gradients computed plainly, row by row in float64, and data to compute them from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.dp.clipping import clipped_sum
from strategies.encoding import Vector
from strategies.models import DenseModel, sigmoid


@dataclass(frozen=True)
class Weights:
    """What rows of either class count."""

    negative: float = 1.0
    positive: float = 1.0


EVEN, UNEVEN = Weights(), Weights(0.7, 3.0)


@dataclass(frozen=True)
class Case:
    """A model at a vector, and rows."""

    model: DenseModel
    vector: Vector
    x: np.ndarray
    y: Vector

    def sum(self, places=slice(None), *, clip: float = 1.0, weights=EVEN, units=None) -> np.ndarray:
        chosen = None if units is None else np.asarray(units)[places]
        return clipped_sum(
            self.model, self.vector, self.x[places], self.y[places], clip=clip, weights=weights, units=chosen
        )


def case(inputs: int = 30, hidden: tuple[int, ...] = (64, 32), rows: int = 64, seed: int = 0) -> Case:
    """Normal features; weights as in a model that has trained for a while."""
    random = np.random.default_rng(seed)
    model = DenseModel(inputs=inputs, hidden=hidden)
    vector = model.initial(seed) + random.normal(size=model.size) * 0.05
    x = random.normal(size=(rows, inputs)).astype(np.float32)
    return Case(model, vector, x, (random.random(rows) < 0.3).astype(np.float64))


def plain_gradient(model: DenseModel, vector: Vector, x: np.ndarray, y: float, weights: Weights) -> Vector:
    """One row's gradient, by the textbook."""
    parameters = model.split(vector)
    values = [x.astype(np.float64)]
    for weight, bias in parameters[:-1]:
        values.append(np.maximum(weight @ values[-1] + bias, 0.0))
    weight, bias = parameters[-1]
    slope = (sigmoid(weight @ values[-1] + bias) - y) * (weights.positive if y else weights.negative)
    parts = []
    for place in reversed(range(len(parameters))):
        parts = [np.outer(slope, values[place]).ravel(), slope, *parts]
        if place:
            slope = (parameters[place][0].T @ slope) * (values[place] > 0)
    return np.concatenate(parts)


def plain_sum(case: Case, *, clip: float, weights=EVEN, units=None) -> Vector:
    """The sum that `clipped_sum` rounds, one unit after the other."""
    rows = [
        plain_gradient(case.model, case.vector, *row, weights) for row in zip(case.x, case.y, strict=True)
    ]
    units = np.arange(len(rows)) if units is None else np.asarray(units)
    total = np.zeros(case.model.size)
    for unit in np.unique(units):
        mean = np.mean([rows[place] for place in np.flatnonzero(units == unit)], axis=0)
        total += mean * min(1.0, clip / np.linalg.norm(mean))
    return total


def squared_norm(integers: np.ndarray) -> int:
    """Exact, whatever the size."""
    return sum(value * value for value in integers.tolist())
