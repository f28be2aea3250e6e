"""Contributions are exact for logistic regression and for ReLU networks of any depth; captum's integrated gradients agree."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.analytics.contributions import by_feature, contributions, reference_of
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature
from strategies.models import DenseModel

SPEC = FeatureSpec(
    (
        NumericFeature(name="amount", low=0.0, high=1.0),
        NumericFeature(name="income", low=0.0, high=1.0, missing="indicator"),
        CategoricalFeature(name="term", vocabulary=("36", "60")),
    )
)


def network(hidden: tuple[int, ...], inputs: int, seed: int) -> tuple[DenseModel, np.ndarray]:
    model = DenseModel(inputs=inputs, hidden=hidden)
    return model, np.random.default_rng(seed).normal(0.0, 0.7, model.size)


@settings(max_examples=60, deadline=None)
@given(
    hidden=st.sampled_from([(), (1,), (7,), (16, 8), (9, 5, 4)]),
    inputs=st.integers(1, 6),
    rows=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_contributions_add_up_to_the_difference_of_logits(hidden, inputs, rows, seed) -> None:
    model, vector = network(hidden, inputs, seed)
    random = np.random.default_rng(seed + 1)
    x = random.normal(0.0, 2.0, (rows, inputs)).astype(np.float32)
    reference = random.normal(0.0, 1.0, inputs).astype(np.float32).astype(np.float64)
    found = contributions(model.split(vector), x, reference)
    at_reference = model.logits(vector, reference.astype(np.float32)[None])
    np.testing.assert_allclose(found.sum(axis=1), model.logits(vector, x) - at_reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("hidden", [(), (12,), (16, 8), (8, 8, 8)])
@pytest.mark.slow
def test_captum_agrees(hidden: tuple[int, ...]) -> None:
    model, vector = network(hidden, 5, 3)
    x = np.random.default_rng(4).normal(0.0, 2.0, (8, 5)).astype(np.float32)
    reference = np.array([0.3, -0.2, 0.0, 0.5, 0.0])

    def logits(rows: torch.Tensor) -> torch.Tensor:
        *inner, (weight, bias) = [tuple(map(torch.from_numpy, each)) for each in model.split(vector)]
        for inner_weight, inner_bias in inner:
            rows = torch.relu(rows @ inner_weight.T + inner_bias)
        return (rows @ weight.T + bias)[:, 0]

    oracle = IntegratedGradients(logits).attribute(
        torch.from_numpy(x.astype(np.float64)),
        baselines=torch.from_numpy(reference[None]),
        n_steps=5000,
        method="riemann_middle",
        internal_batch_size=5000,
    )
    found = contributions(model.split(vector), x, reference)
    np.testing.assert_allclose(found, oracle.numpy(), rtol=0, atol=5e-3)


def test_a_linear_contribution_is_weight_times_distance_from_the_reference() -> None:
    model = DenseModel(inputs=SPEC.width)
    vector = np.array([2.0, -1.0, 0.5, 3.0, 1.0, 9.0, 0.25])
    x = np.array([[1.0, -2.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]])
    found = by_feature(SPEC, contributions(model.split(vector), x, reference_of(SPEC)))
    # The word "36" is 3 against a mean of 2 over the vocabulary; "other" is 9 against the same mean.
    np.testing.assert_allclose(found, [[2.0, 2.0, 1.0], [0.0, 0.5, 7.0]])


def test_no_rows_have_no_contributions_and_other_widths_are_refused() -> None:
    model, vector = network((4,), 3, 1)
    assert contributions(model.split(vector), np.zeros((0, 3)), np.zeros(3)).shape == (0, 3)
    for rows, reference in (
        (np.zeros((1, 4)), np.zeros(3)),
        (np.zeros((1, 3)), np.zeros(4)),
        (np.zeros(3), np.zeros(3)),
    ):
        with pytest.raises(UsageError, match="do not fit a model of 3 inputs"):
            contributions(model.split(vector), rows, reference)
