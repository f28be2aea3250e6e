"""The local training of many clients at once: what `client.training.descent` does for one, with a row of weights a client.

1. A batch of every client is one array, (clients, rows, inputs); a step is a few batched products. Gradients are the closed form of dense layers
   with ReLU under cross-entropy: no graph is kept.
2. Clients are ordered by their number of batches. Those who are through an epoch are left out of its remaining steps, penalties included; rows that fill up
   a short batch count 0.
3. What a client gets does not depend on the others but for rounding: products of another size may add in another order. Equal slices give equal bits.

Equal to `descend` to 1e-5 in every coordinate, which tests hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from client.training.descent import Descent
from client.training.network import tensor
from strategies.encoding import Vector
from strategies.models import DenseModel


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Training rows of some clients, client after client: `x`, (n, inputs) float32, labels `y`, (n,), what each row counts beside its class,
    `importance`, (n,) float32 (None: 1), and how many are whose, `counts`, a whole number a client."""

    x: torch.Tensor
    y: torch.Tensor
    importance: torch.Tensor | None
    counts: Sequence[int]


@dataclass(slots=True)
class _Layer:
    """One layer of all clients: `weight`, (clients, outputs, inputs), and `bias`, (clients, 1, outputs)."""

    weight: torch.Tensor
    bias: torch.Tensor
    weight_anchor: torch.Tensor
    bias_anchor: torch.Tensor


def descend_stacked(
    rule: Descent, model: DenseModel, start: Vector, rows: Rows, seeds: Sequence[int]
) -> Vector:
    """Local minus global of each client, (clients, d) float64, in the order of `rows.counts`; `seeds` are the clients' own, for their batch orders.

    Each as `client.training.descent.descend` returns it: exactly zero for a client without rows.
    """
    torch.set_num_threads(1)  # of this thread: stacks run beside each other, and one is too small for two
    with torch.inference_mode():
        return _Stack(rule, model, start, rows, seeds).trained()


class _Stack:
    """The clients of one call, by falling number of batches."""

    def __init__(
        self, rule: Descent, model: DenseModel, start: Vector, rows: Rows, seeds: Sequence[int]
    ) -> None:
        self._rule = rule
        counts = np.asarray(rows.counts, dtype=np.int64)
        self._order = np.argsort(-counts, kind="stable")
        self._counts = counts[self._order]
        self._firsts = (np.cumsum(counts) - counts)[self._order]
        self._generators = [torch.Generator().manual_seed(seeds[place]) for place in self._order]
        self._batch = int(min(rule.batch_size, self._counts.max(initial=0)))
        self._batches = -(-self._counts // rule.batch_size)
        self._rows = rows
        self._weights = self._row_weights(rows)
        self._layers = [_stacked(weight, bias, len(counts)) for weight, bias in model.split(start)]
        self._size = model.size

    def _row_weights(self, rows: Rows) -> torch.Tensor:
        """What each row counts in the loss, (n,)."""
        rule = self._rule
        weights = torch.where(rows.y > 0, rule.positive_weight, rule.negative_weight).to(torch.float32)
        return weights if rows.importance is None else weights * rows.importance

    def trained(self) -> Vector:
        """All epochs; the updates in the order that was given."""
        for _ in range(self._rule.epochs if self._batch else 0):
            for step, places in enumerate(self._orders()):
                active = int(np.searchsorted(-self._batches, -step, side="left"))
                self._step(step, places[:active])
        flat = np.zeros((len(self._counts), self._size))
        parts = [
            part.reshape(len(self._counts), -1)
            for each in self._layers
            for part in (
                each.weight.double() - each.weight_anchor.double(),
                each.bias.double() - each.bias_anchor.double(),
            )
        ]
        flat[self._order] = torch.cat(parts, dim=1).numpy()
        return flat

    def _orders(self) -> torch.Tensor:
        """Where the rows of each batch lie, (steps, clients, rows of a batch): a new order for each client, filled up with row 0."""
        most, clients = int(self._batches[0]), len(self._counts)
        size = self._rule.batch_size
        places = torch.zeros((clients, most * size if most > 1 else self._batch), dtype=torch.int64)
        for client, (count, first) in enumerate(
            zip(self._counts.tolist(), self._firsts.tolist(), strict=True)
        ):
            order = torch.randperm(count, generator=self._generators[client])
            torch.add(order, first, out=places[client, :count])
        return places.view(clients, most, self._batch).transpose(0, 1).contiguous()

    def _step(self, step: int, places: torch.Tensor) -> None:
        """One batch of each client in `places`, (clients, rows)."""
        active, size = places.shape
        there = torch.from_numpy(np.minimum(self._counts[:active] - step * self._rule.batch_size, size))
        flat = places.reshape(-1)
        x = self._rows.x.index_select(0, flat).view(active, size, -1)
        y = self._rows.y.index_select(0, flat).view(active, size)
        counted = self._weights.index_select(0, flat).view(active, size)
        counted = counted / there[:, None].to(torch.float32)
        if int(there[-1]) < size:  # the fewest rows are at the end
            counted.masked_fill_(torch.arange(size) >= there[:, None], 0.0)
        self._descend(active, x, y, counted)

    def _descend(self, active: int, x: torch.Tensor, y: torch.Tensor, counted: torch.Tensor) -> None:
        """Forwards, backwards, and one move of every layer."""
        layers, inputs = self._layers, [x]
        for each in layers[:-1]:
            hidden = torch.baddbmm(each.bias[:active], inputs[-1], each.weight[:active].transpose(1, 2))
            inputs.append(hidden.relu_())
        last = layers[-1]
        logits = torch.baddbmm(last.bias[:active], inputs[-1], last.weight[:active].transpose(1, 2))
        slope = ((logits[..., 0].sigmoid_() - y) * counted)[..., None]
        for place in range(len(layers) - 1, -1, -1):
            each, values = layers[place], inputs[place]
            weight_slope = torch.bmm(slope.transpose(1, 2), values)
            bias_slope = slope.sum(dim=1, keepdim=True)
            if place:
                # ReLU's own values say where it let through; they are not needed any more.
                slope = _outer(slope, each.weight[:active]).mul_(values.sign_())
            self._move(each, active, weight_slope, bias_slope)

    def _move(self, each: _Layer, active: int, weight_slope: torch.Tensor, bias_slope: torch.Tensor) -> None:
        """One step down; the penalties enter as their closed-form gradients, as they do at a site."""
        rule, weight, bias = self._rule, each.weight[:active], each.bias[:active]
        if rule.proximal_mu:
            weight_slope.add_(weight - each.weight_anchor, alpha=rule.proximal_mu)
            bias_slope.add_(bias - each.bias_anchor, alpha=rule.proximal_mu)
        if rule.l2:
            weight_slope.add_(weight, alpha=rule.l2)
        weight.sub_(weight_slope, alpha=rule.learning_rate)
        bias.sub_(bias_slope, alpha=rule.learning_rate)


def _outer(slope: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(clients, rows, outputs) by (clients, outputs, inputs); of one output each product is one term, which needs no sum."""
    return slope * weight if weight.shape[1] == 1 else torch.bmm(slope, weight)


def _stacked(weight: Vector, bias: Vector, clients: int) -> _Layer:
    """A layer of the global model, once for each client."""
    weight_anchor, bias_anchor = tensor(weight)[None], tensor(bias)[None, None]
    return _Layer(
        weight_anchor.repeat(clients, 1, 1), bias_anchor.repeat(clients, 1, 1), weight_anchor, bias_anchor
    )
