"""One round of training at one site: plain mini-batch SGD on class-weighted cross-entropy.

Nothing here reads a global random state or a clock; the batch order comes from the seed that is passed in. The rule may not
change under the name "tabular/1": sites whose rounds differ would no longer train one model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from client.training.encoded import Batches
from client.training.network import DenseNetwork
from strategies.encoding import Vector
from strategies.models import DenseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Constants of the plan. The loss of a batch of m rows is

        1/m sum_i c(y_i) BCE(logit_i, y_i)  +  l2/2 sum ||weight||^2  +  mu/2 ||w - w_global||^2

    with c the class weight; biases are in the proximal term but not in the l2 term. Proximal term: Li et al. 2020 (FedProx),
    equation 2.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    l2: float
    proximal_mu: float
    negative_weight: float
    positive_weight: float


def descend(rule: Descent, model: DenseModel, start: Vector, rows: Batches, *, seed: int) -> Vector:
    """Train from `start`, (d,) float64, on `rows` with labels 0 and 1.

    Returns local minus global, (d,) float64, counted from `start` as rounded to float32, so a site that takes no step sends
    exactly zero. Each of `rule.epochs` passes draws its own order from `seed`; a last short batch is used as it is.
    """
    network = DenseNetwork(model, start)
    anchor = [parameter.detach().clone() for parameter in network.parameters]
    began = network.vector()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(rule.epochs):
        order = torch.randperm(len(rows), generator=generator)
        for x, y in rows.of(order, rule.batch_size):
            importance = torch.where(y > 0, rule.positive_weight, rule.negative_weight).to(torch.float32)
            _step(rule, network, anchor, _loss(network, x, y, importance))
    return network.vector() - began


def _loss(network: DenseNetwork, x: torch.Tensor, y: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
    """The mean over rows, not over importance: a batch without a positive must not weigh more than one with."""
    return torch.nn.functional.binary_cross_entropy_with_logits(network.logits(x), y, weight=importance)


def _step(rule: Descent, network: DenseNetwork, anchor: list[torch.Tensor], loss: torch.Tensor) -> None:
    """Move every parameter by one gradient; the two penalties enter as their closed-form gradients."""
    parameters = network.parameters
    gradients = torch.autograd.grad(loss, parameters)
    decayed = {id(weight) for weight in network.weights}
    with torch.no_grad():
        for parameter, origin, gradient in zip(parameters, anchor, gradients, strict=True):
            slope = gradient + rule.proximal_mu * (parameter - origin)
            if id(parameter) in decayed:
                slope += rule.l2 * parameter
            parameter.sub_(rule.learning_rate * slope)
