"""Training of a site's own model: mini-batches of the plan's loss, stopped where the rows for tuning say so.

The loss of a batch is the mean of class weight x cross-entropy, plus mu / 2 times the squared distance to an anchor (Li et al. 2021, "Ditto",
equation 2): the shared model where that is personalised, zero where a model begins from nothing. Steps are Adam's. The state after the pass with
the least loss on the tuning rows is kept, and that may be the start. Equal inputs give equal bits on one machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from client.personal.parts import Rows
from client.training.network import DenseNetwork, tensor
from strategies.encoding import Vector
from strategies.models import DenseModel, sigmoid

MOST_PASSES: Final = 60
_PATIENCE: Final = 6
_STEP: Final = 0.01
_LARGEST_BATCH: Final = 256
_SMALLEST_BATCH: Final = 16
_BATCHES_A_PASS: Final = 20
_LEAST_SCORE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Fitted:
    """`vector`, (d,) float64, its mean loss on the tuning rows, and after how many passes."""

    vector: Vector
    loss: float
    passes: int


def fit(
    shape: DenseModel,
    start: Vector,
    anchor: Vector,
    mu: float,
    train: Rows,
    tune: Rows,
    *,
    seed: int,
    threads: int,
) -> Fitted:
    """Train from `start` with the pull `mu` to `anchor`, both (d,) float64. `threads` is torch's, for the whole process."""
    torch.set_num_threads(threads)
    network = DenseNetwork(shape, start)
    origins = DenseNetwork(shape, anchor).parameters
    data = (tensor(train.x), tensor(train.y), tensor(train.importance))
    optimiser = torch.optim.Adam(network.parameters, lr=_STEP)
    order = torch.Generator().manual_seed(seed)
    size = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, len(train) // _BATCHES_A_PASS))
    best = Fitted(start, loss_on(shape, start, tune), 0)
    for number in range(1, MOST_PASSES + 1):
        shuffled = torch.randperm(len(train), generator=order)
        for first in range(0, len(train), size):
            rows = shuffled[first : first + size]
            x, y, importance = (each[rows] for each in data)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                network.logits(x), y, weight=importance
            )
            slopes = torch.autograd.grad(loss, network.parameters)
            for parameter, origin, slope in zip(network.parameters, origins, slopes, strict=True):
                parameter.grad = slope + mu * (parameter - origin).detach()
            optimiser.step()
        vector = network.vector()
        found = loss_on(shape, vector, tune)
        if found < best.loss:  # phrased so that NaN is not better
            best = Fitted(vector, found, number)
        elif number - best.passes >= _PATIENCE:
            break
    return best


def loss_on(shape: DenseModel, vector: Vector, rows: Rows) -> float:
    """Mean of the plan's loss on `rows`, by the reference forward; infinity where it is no number."""
    with np.errstate(all="ignore"):
        found = float(losses(sigmoid(shape.logits(vector, rows.x)), rows).mean())
    return found if np.isfinite(found) else np.inf


def losses(scores: Vector, rows: Rows) -> Vector:
    """Class weight x cross-entropy of each row, (n,), in nats."""
    right = np.where(rows.y > 0.5, scores, 1.0 - scores)  # noqa: PLR2004
    return -rows.importance * np.log(np.maximum(right, _LEAST_SCORE))
