"""What stacking clients saves: processor milliseconds a client of one epoch over 640 rows in batches of 64, for networks of rising size.

    python -m tests.benchmarks.stacked_training

Stacked (`simulation.cohorts.stacked`), by torch's own vectorised autograd (`torch.func`), and one client after the other as sites train.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from client.training.descent import descend
from simulation.bench.simulation import ROWS, RULE
from simulation.cohorts.engines import Shape
from simulation.cohorts.stacked import Rows, descend_stacked
from strategies.models import DenseModel
from tests.simulation.cohorts.test_stacked import OneClient

MODELS = (
    DenseModel(inputs=73),
    DenseModel(inputs=30, hidden=(64,)),
    DenseModel(inputs=100, hidden=(128, 64)),
    DenseModel(inputs=100, hidden=(256, 256)),
    DenseModel(inputs=100, hidden=(512, 512)),
    DenseModel(inputs=200, hidden=(900, 900)),
)
FEW = 4


def milliseconds(work: Callable[[], object], clients: int) -> float:
    """Processor time of this thread a client, the least of three: what others on the machine cost is left out."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return 1e3 * min(taken) / clients


def by_torch_func(model: DenseModel, x: torch.Tensor, y: torch.Tensor) -> None:
    """The same batches, in the order of rows."""
    widths = (model.inputs, *model.hidden, 1)
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [*([nn.ReLU()] if place else []), nn.Linear(inputs, outputs)]
    network = nn.Sequential(*layers)

    def loss(weights: dict[str, torch.Tensor], rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(network, weights, (rows,))[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)

    slopes = torch.func.vmap(torch.func.grad(loss))
    weights = {
        name: each.detach()[None].repeat(len(x), *[1] * each.ndim)
        for name, each in network.named_parameters()
    }
    for first in range(0, ROWS, RULE.batch_size):
        batch = slice(first, first + RULE.batch_size)
        found = slopes(weights, x[:, batch], y[:, batch])
        for name, each in weights.items():
            each.sub_(found[name], alpha=RULE.learning_rate)


def main() -> None:
    torch.set_num_threads(1)
    print("parameters  clients  stacked  torch.func  one by one   (processor ms a client)")
    for model in MODELS:
        clients = max(FEW, Shape(model, ROWS, RULE.batch_size).most)  # as slices are cut
        x = np.random.default_rng(0).standard_normal((clients * ROWS, model.inputs), dtype=np.float32)
        y = (x[:, 0] > 0).astype(np.float32)
        rows = Rows(torch.from_numpy(x), torch.from_numpy(y), None, [ROWS] * clients)
        start, seeds = model.initial(0), list(range(clients))
        each = [slice(place * ROWS, (place + 1) * ROWS) for place in range(FEW)]
        alone = [OneClient(x[one], y[one], np.ones(ROWS, dtype=np.float32)) for one in each]
        shaped = rows.x.view(clients, ROWS, -1), rows.y.view(clients, ROWS)
        found = (
            milliseconds(lambda: descend_stacked(RULE, model, start, rows, seeds), clients),  # noqa: B023
            milliseconds(lambda: by_torch_func(model, *shaped), clients),  # noqa: B023
            milliseconds(lambda: [descend(RULE, model, start, one, seed=1) for one in alone], FEW),  # noqa: B023
        )
        print(
            f"{model.size:10}  {clients:7}  {found[0]:7.3f}  {found[1]:10.3f}  {found[2]:10.3f}", flush=True
        )


if __name__ == "__main__":
    main()
