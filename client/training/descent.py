"""One round of training at one site: plain mini-batch SGD on class-weighted cross-entropy.

Nothing here reads a global random state or a clock; the batch order comes from the seed that is passed in. The rule may not
change under the name "tabular/1": sites whose rounds differ would no longer train one model.

A batch is computed in blocks of rows, whose gradients are added in order: memory is bounded, and depends on the model and not on the machine, so
that equal inputs give equal bits whatever a site's limits are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from client.training.encoded import Batches
from client.training.network import DenseNetwork
from client.training.pace import Pace, unhurried
from strategies.encoding import Vector
from strategies.models import DenseModel

BLOCK_NUMBERS: Final = 1 << 22
"""How many inputs and activations are held at a time: 16 MiB of each kind. A part of the behaviour "tabular/1"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Constants of the plan. The loss of a batch of m rows is

        1/m sum_i c(y_i) BCE(logit_i, y_i)  +  l2/2 sum ||weight||^2  +  mu/2 ||w - w_global||^2

    with c the class weight, times what the plan says of the row's protected group where it reweighs; biases are in the proximal term but not in the l2 term. Proximal term: Li et al. 2020 (FedProx),
    equation 2.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    l2: float
    proximal_mu: float
    negative_weight: float
    positive_weight: float


def descend(
    rule: Descent, model: DenseModel, start: Vector, rows: Batches, *, seed: int, pace: Pace = unhurried
) -> Vector:
    """Train from `start`, (d,) float64, on `rows` with labels 0 and 1.

    Returns local minus global, (d,) float64, counted from `start` as rounded to float32, so a site that takes no step sends
    exactly zero. Each of `rule.epochs` passes draws its own order from `seed`; a last short batch is used as it is. `pace` hears of
    each batch, and may raise.
    """
    network = DenseNetwork(model, start)
    anchor = [parameter.detach().clone() for parameter in network.parameters]
    began = network.vector()
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(rows) // rule.batch_size)
    done, of = 0, rule.epochs * batches
    for _ in range(rule.epochs):
        order = torch.randperm(len(rows), generator=generator)
        for batch in rows.of(order, rule.batch_size):
            pace(done, of)
            blocks = _weighted(rule, batch.blocks(at_a_time(model)))
            _step(rule, network, anchor, gradients_of(network, blocks, len(batch)))
            done += 1
    pace(done, of)
    return network.vector() - began


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a batch: `x` (k, inputs), `y` (k,) and what each counts in the loss, `importance` (k,)."""

    x: torch.Tensor
    y: torch.Tensor
    importance: torch.Tensor


def _weighted(
    rule: Descent, blocks: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> Iterator[Block]:
    """Inputs and labels, with what each row counts."""
    for x, y, weights in blocks:
        importance = torch.where(y > 0, rule.positive_weight, rule.negative_weight).to(torch.float32)
        yield Block(x, y, importance * weights)


def at_a_time(model: DenseModel) -> int:
    """How many rows are computed at a time, at least one: a constant of the model."""
    return max(1, BLOCK_NUMBERS // (model.inputs + sum(model.hidden) + 1))


def gradients_of(network: DenseNetwork, blocks: Iterable[Block], rows: int) -> list[torch.Tensor]:
    """The gradient of the loss of a batch of `rows` rows, in blocks; of a batch that is one block, what torch's own mean gives."""
    totals: list[torch.Tensor] = []
    for block in blocks:
        reduction = "mean" if len(block.y) == rows else "sum"
        loss = _loss(network, block, reduction)
        found = torch.autograd.grad(loss if reduction == "mean" else loss / rows, network.parameters)
        totals = [total + part for total, part in zip(totals, found, strict=True)] if totals else list(found)
    return totals


def _loss(network: DenseNetwork, block: Block, reduction: str) -> torch.Tensor:
    """Over rows, not over importance: a batch without a positive must not weigh more than one with."""
    return torch.nn.functional.binary_cross_entropy_with_logits(
        network.logits(block.x), block.y, weight=block.importance, reduction=reduction
    )


def _step(
    rule: Descent, network: DenseNetwork, anchor: list[torch.Tensor], gradients: list[torch.Tensor]
) -> None:
    """Move every parameter by one gradient; the two penalties enter as their closed-form gradients."""
    parameters = network.parameters
    decayed = {id(weight) for weight in network.weights}
    with torch.no_grad():
        for parameter, origin, gradient in zip(parameters, anchor, gradients, strict=True):
            slope = gradient + rule.proximal_mu * (parameter - origin)
            if id(parameter) in decayed:
                slope += rule.l2 * parameter
            parameter.sub_(rule.learning_rate * slope)
