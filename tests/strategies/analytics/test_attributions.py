"""Attributions as integers: of a row alone, to the bit, and never longer than a count."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.analytics.attributions import Attributions
from strategies.analytics.contributions import contributions, reference_of
from strategies.encoding import Vector
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature
from strategies.models import DenseModel

SPEC = FeatureSpec(
    features=(
        NumericFeature("a", 0.0, 1.0, missing="indicator"),
        CategoricalFeature("c", ("x", "y")),
        NumericFeature("b", 0.0, 1.0),
    )
)


def made(model: DenseModel, vector: Vector, spec: FeatureSpec = SPEC, clip: float = 1.0) -> Attributions:
    return Attributions(model, vector, spec, clip=clip, pieces=math.prod(width + 1 for width in model.hidden))


@settings(deadline=None)
@given(
    st.sampled_from([(), (3,), (4, 2)]),
    st.lists(st.floats(width=32), min_size=6, max_size=6),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=1e-6, max_value=1000.0),
    st.integers(0, 99),
)
def test_no_row_has_an_attribution_longer_than_a_count(
    hidden: tuple[int, ...], row: list[float], scale: float, clip: float, seed: int
) -> None:
    model = DenseModel(inputs=SPEC.width, hidden=hidden)
    with np.errstate(all="ignore"):
        vector = np.random.default_rng(seed).normal(size=model.size) * scale
        found = made(model, vector, clip=clip).steps(np.array([row], dtype=np.float32))
    assert sum(int(each) ** 2 for each in found.ravel()) <= 256**2
    np.testing.assert_array_equal(found[0], np.abs(found[1]))


def wide() -> tuple[FeatureSpec, DenseModel, Vector, npt.NDArray[np.float32]]:
    """Wide enough for a matrix library to add up in several ways."""
    spec = FeatureSpec(features=tuple(NumericFeature(f"f{each}", 0.0, 1.0) for each in range(40)))
    model = DenseModel(inputs=40, hidden=(70, 20))
    source = np.random.default_rng(5)
    return (
        spec,
        model,
        source.normal(size=model.size) * 0.3,
        source.normal(size=(300, 40)).astype(np.float32),
    )


def test_a_rows_attribution_does_not_depend_on_the_rows_around_it() -> None:
    spec, model, vector, rows = wide()
    one = made(model, vector, spec, clip=0.7)
    together = one.steps(rows)
    for place in (0, 1, 63, 255, 256, 299):
        np.testing.assert_array_equal(one.steps(rows[place : place + 1])[:, :, 0], together[:, :, place])
    np.testing.assert_array_equal(one.steps(rows[3:257]), together[:, :, 3:257])
    exact = contributions(model.split(vector), rows, reference_of(spec), by_row=True)
    for some in (slice(0, 1), slice(7, 40), slice(100, 299)):
        np.testing.assert_array_equal(
            contributions(model.split(vector), rows[some], reference_of(spec), by_row=True), exact[some]
        )


def test_weights_that_overflow_at_the_end_of_a_line_do_not_tie_a_row_to_its_neighbours() -> None:
    """Whoever sends the weights could have one row, of more pieces than the others, take the attributions of all others of its block away."""
    spec = FeatureSpec(features=(NumericFeature("a", 0.0, 1.0),))
    model = DenseModel(inputs=1, hidden=(2, 5))
    # The third of five units is zero just at the end of the line to 1/4, and what it takes off keeps the sum of the others from overflowing.
    layers = [
        (np.array([[1.0], [-1.0]]), np.array([0.0, 0.5])),
        (
            np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]),
            np.array([1.0, 0.25, 1.0, 9.0, 1.0]),
        ),
        (np.array([[1e308, 1e308, 1e308, 1e308, 1.0]]), np.array([0.0])),
    ]
    vector = np.concatenate([part.ravel() for layer in layers for part in layer])
    for (weight, bias), (given_weight, given_bias) in zip(model.split(vector), layers, strict=True):
        np.testing.assert_array_equal(weight, given_weight)
        np.testing.assert_array_equal(bias, given_bias)
    one = made(model, vector, spec, clip=0.1)
    rows = np.array([[0.25], [0.25], [1.0]], dtype=np.float32)
    alone = one.steps(rows[:2])
    assert alone.any()
    np.testing.assert_array_equal(one.steps(rows)[:, :, :2], alone)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_weights_tie_a_row_to_its_neighbours(seed: int) -> None:
    source = np.random.default_rng(seed)
    sizes = (1, int(source.integers(2, 4)), int(source.integers(1, 4)), 1)
    size = source.choice([1.0, 1e154, 1e308])
    layers = [
        (
            source.choice([-1.0, 0.0, 0.5, 1.0], size=(after, before)) * size,
            source.choice([-1.0, 0.0, 0.5, 1.0], size=after) * size,
        )
        for before, after in pairwise(sizes)
    ]
    rows = np.array([[0.0], [0.5], [-0.5], [1.0], [-1.0], [2.0], [np.inf], [np.nan]], dtype=np.float32)
    with np.errstate(all="ignore"):
        together = contributions(layers, rows, np.zeros(1), by_row=True)
        for place in range(len(rows)):
            alone = contributions(layers, rows[place : place + 1], np.zeros(1), by_row=True)
            np.testing.assert_array_equal(alone[0], together[place])


def test_by_row_they_are_the_same_but_for_last_bits() -> None:
    spec, model, vector, rows = wide()
    quick, by_row = (
        contributions(model.split(vector), rows, reference_of(spec), by_row=each) for each in (False, True)
    )
    np.testing.assert_allclose(quick, by_row, rtol=0, atol=1e-12)


def test_parts_divide_the_sum() -> None:
    spec, model, vector, rows = wide()
    one = made(model, vector, spec)
    parts = np.arange(300) % 2
    total = one.sums(rows, parts, 2)
    assert total.shape == (2, 2, 40)
    np.testing.assert_array_equal(total.sum(axis=0), one.sums(rows, np.zeros(300, dtype=np.int64), 1)[0])
    np.testing.assert_array_equal(total[1], one.steps(rows[1::2]).sum(axis=2))


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_model_that_is_not_finite_gives_nothing(weight: float) -> None:
    spec, model, vector, rows = wide()
    assert not made(model, np.full_like(vector, weight), spec).steps(rows).any()
