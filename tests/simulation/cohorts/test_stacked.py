"""Stacked training is the sites' own training, client by client: over shapes, row counts, batches, epochs, penalties and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.descent import Descent, descend
from simulation.cohorts.stacked import Rows, descend_stacked
from strategies.encoding import Vector
from strategies.models import DenseModel

CLOSE = 1e-5


class OneClient:
    """Rows of one client for `descend`, as `client.training.encoded.Batches` gives them."""

    def __init__(self, x: np.ndarray, y: np.ndarray, importance: np.ndarray) -> None:
        self._x, self._y, self._importance = (torch.from_numpy(each) for each in (x, y, importance))

    def __len__(self) -> int:
        return len(self._y)

    def of(self, order: torch.Tensor, size: int):
        from client.training.encoded import Batch

        for first in range(0, len(order), size):
            rows = order[first : first + size]
            inputs = self._x[rows]
            yield Batch(
                lambda numbers, inputs=inputs: inputs[numbers],
                self._y[rows],
                self._importance[rows],
                torch.arange(len(rows)),
            )


def rule(**changes: float) -> Descent:
    values = {
        "epochs": 1, "batch_size": 4, "learning_rate": 0.2, "l2": 0.0, "proximal_mu": 0.0, "negative_weight": 1.0, "positive_weight": 1.0,
    }  # fmt: skip
    return Descent(**{**values, **changes})  # type: ignore[arg-type]


def both(
    descent: Descent, model: DenseModel, counts: list[int], seed: int, *, weighted: bool = True
) -> tuple[Vector, Vector]:
    """Updates of the same clients, stacked and one by one, (clients, d) each."""
    source = np.random.default_rng(seed)
    x = source.normal(size=(sum(counts), model.inputs)).astype(np.float32)
    y = (source.random(sum(counts)) < 0.4).astype(np.float32)
    importance = (source.integers(0, 3, sum(counts)) / 2).astype(np.float32)
    start = model.initial(seed) + source.normal(scale=0.1, size=model.size)
    seeds = [int(each) for each in source.integers(0, 2**62, len(counts))]
    rows = Rows(
        torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(importance) if weighted else None, counts
    )
    found = descend_stacked(descent, model, start, rows, seeds)
    ends = np.cumsum(counts)
    one_by_one = []
    for end, count, own in zip(ends, counts, seeds, strict=True):
        chosen = slice(end - count, end)
        counted = importance[chosen] if weighted else np.ones(count, dtype=np.float32)
        client = OneClient(x[chosen], y[chosen], counted)
        one_by_one.append(descend(descent, model, start, client, seed=own))  # type: ignore[arg-type]
    return found, np.array(one_by_one).reshape(len(counts), model.size)


models = st.builds(
    lambda inputs, hidden: DenseModel(inputs=inputs, hidden=tuple(hidden)),
    inputs=st.integers(1, 12),
    hidden=st.lists(st.integers(1, 9), max_size=2),
)
rules = st.builds(
    rule,
    batch_size=st.integers(1, 30),
    epochs=st.integers(1, 3),
    l2=st.sampled_from([0.0, 0.01, 0.3]),
    proximal_mu=st.sampled_from([0.0, 0.1, 1.0]),
    negative_weight=st.sampled_from([1.0, 0.5]),
    positive_weight=st.sampled_from([1.0, 3.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    descent=rules,
    model=models,
    counts=st.lists(st.integers(0, 23), min_size=1, max_size=7),
    seed=st.integers(0, 2**32),
    weighted=st.booleans(),
)
def test_stacked_clients_train_as_each_would_alone(
    descent: Descent, model: DenseModel, counts: list[int], seed: int, weighted: bool
) -> None:
    stacked, alone = both(descent, model, counts, seed, weighted=weighted)
    assert np.abs(stacked - alone).max() < CLOSE
    for place, count in enumerate(counts):
        assert count or not stacked[place].any()


def test_updates_are_large_beside_what_is_taken_for_equal() -> None:
    stacked, alone = both(rule(epochs=2), DenseModel(inputs=5, hidden=(6,)), [12, 1, 30], 1)
    assert np.abs(alone).max(axis=1).min() > 1000 * CLOSE
    assert np.abs(stacked - alone).max() < CLOSE


@pytest.mark.parametrize(
    "changed",
    [{"l2": 0.3}, {"proximal_mu": 1.0}, {"positive_weight": 3.0}, {"epochs": 3}, {"batch_size": 5}],
)
def test_what_a_rule_says_would_be_missed(changed: dict[str, float]) -> None:
    """The tests above can see each of these."""
    model, counts = DenseModel(inputs=5, hidden=(6,)), [14, 9]
    stacked, _ = both(rule(epochs=2), model, counts, 2)
    _, alone = both(rule(**{"epochs": 2, **changed}), model, counts, 2)
    assert np.abs(stacked - alone).max() > 100 * CLOSE


def test_equal_slices_give_equal_bits() -> None:
    model, counts = DenseModel(inputs=7, hidden=(8,)), [9, 0, 17, 4]
    first, _ = both(rule(epochs=2), model, counts, 5)
    again, _ = both(rule(epochs=2), model, counts, 5)
    assert first.tobytes() == again.tobytes()


def test_nobody_with_rows_moves_nobody() -> None:
    stacked, _ = both(rule(), DenseModel(inputs=3), [0, 0], 1)
    assert stacked.shape == (2, 4)
    assert not stacked.any()


def test_gradients_are_those_of_torchs_own_vectorised_autograd() -> None:
    """One step of every client against `torch.func`: `vmap` of `grad` of `functional_call`."""
    from torch import nn

    clients, count, model = 5, 8, DenseModel(inputs=6, hidden=(7, 4))
    source = np.random.default_rng(3)
    x = torch.from_numpy(source.normal(size=(clients * count, 6)).astype(np.float32))
    y = (x[:, 0] > 0).to(torch.float32)
    start = model.initial(4)
    network = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 1))
    parameters = {
        f"{2 * place}.{name}": torch.from_numpy(part).to(torch.float32)
        for place, parts in enumerate(model.split(start))
        for name, part in zip(("weight", "bias"), parts, strict=True)
    }

    def loss(weights: dict[str, torch.Tensor], rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(network, weights, (rows,))[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)

    slopes = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        parameters, x.view(clients, count, 6), y.view(clients, count)
    )
    expected = -0.2 * torch.cat([slopes[name].reshape(clients, -1) for name in parameters], dim=1)
    rows = Rows(x, y, None, [count] * clients)
    found = descend_stacked(rule(batch_size=count), model, start, rows, list(range(clients)))
    assert np.abs(found - expected.numpy()).max() < CLOSE
