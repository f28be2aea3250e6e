"""Parts stay bounded and each unit's own where models, features, weights and clips are absurd: nothing overflows into a neighbour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.dp.clipping import FRACTION_BITS
from strategies.models import DenseModel
from tests.strategies.dp.gradients_for_tests import Case, Weights, case, squared_norm

BOUND = 4**FRACTION_BITS
CLIPS = [5e-324, 1e-310, 1e-100, 1e-20, 1e-3, 1.0, 1e3, 1e20, 1e100, 1.7e308]
WEIGHTS = [1e-308, 1e-100, 1e-3, 1.0, 1.0, 1e3, 1e100, 1e308]


def _absurd(random: np.random.Generator) -> Case:
    """Parameters from denormal to almost infinite, features likewise, some of neither."""
    hidden = tuple(int(width) for width in random.integers(1, 12, size=random.integers(0, 4)))
    model = DenseModel(inputs=int(random.integers(1, 10)), hidden=hidden)
    rows = int(random.integers(2, 30))
    with np.errstate(all="ignore"):
        vector = random.normal(size=model.size) * 10.0 ** random.choice(
            [-320, -200, -30, -3, 0, 0, 1, 30, 150, 300]
        )
        if random.random() < 0.3:
            vector *= 10.0 ** random.integers(-5, 6, size=model.size)
        vector[random.random(model.size) < random.choice([0.0, 0.0, 0.5])] = 0.0
        spread = 10.0 ** random.choice([-45, -38, -10, -2, 0, 0, 2, 10, 37], size=(rows, 1))
        x = (random.normal(size=(rows, model.inputs)) * spread).astype(np.float32)
    if random.random() < 0.2:
        x[random.random(x.shape) < 0.05] = random.choice([np.nan, np.inf, -np.inf, 3.4e38])
    y = (random.random(rows) < 0.5).astype(np.float64)
    return Case(model, np.clip(vector, -1e308, 1e308), x, y)


def _check(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, clip = _absurd(random), float(random.choice(CLIPS))
    weights = Weights(*(float(weight) for weight in random.choice(WEIGHTS, size=2)))
    customers = random.integers(0, max(1, len(rows.y) // 2), size=len(rows.y))
    for units in (None, customers):
        numbers = np.arange(len(rows.y)) if units is None else units
        parts = [rows.sum(numbers == n, clip=clip, weights=weights, units=units) for n in np.unique(numbers)]
        assert max(squared_norm(part) for part in parts) <= BOUND
        assert (rows.sum(clip=clip, weights=weights, units=units) == sum(parts)).all()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63))
def test_absurd_sums_are_those_of_bounded_parts(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
def test_many_absurd_sums_are_those_of_bounded_parts() -> None:
    for seed in range(2000):
        _check(seed)


SCALES = [0.0, 5e-324, 1e-45, 1e-30, 1e-3, 1.0, 1e6, 1e20, 3e38]


@pytest.mark.parametrize("hidden", [(), (6, 5)])
@pytest.mark.parametrize("vector_scale", [0.0, 1e-320, 1e-200, 1e-3, 1.0, 1e4, 1e150, 1e307])
def test_one_row_is_bounded_at_every_scale(hidden: tuple[int, ...], vector_scale: float) -> None:
    plain = case(4, hidden, rows=1, seed=5)
    for scale in SCALES:
        x = np.array([[scale, -scale, 1.0, scale / 3]], dtype=np.float64).astype(np.float32)
        rows = Case(plain.model, plain.vector * vector_scale, x, plain.y)
        for clip in CLIPS:
            for weight in (1e-300, 1.0, 1e300):
                assert squared_norm(rows.sum(clip=clip, weights=Weights(weight, weight))) <= BOUND


@pytest.mark.parametrize("last", [-1e150, 0.0, 1e150])
def test_units_that_are_silent_behind_huge_ones_have_a_bias_still(last: float) -> None:
    """The third layer is silent, or alone in the third power of 1e150; its bias's 1 is not lost in that scale."""
    model = DenseModel(inputs=1, hidden=(1, 1, 1))
    vector = np.array([1e150, 1e150, 1e150, 0.0, last, 0.0, 1.0, 0.5])
    rows = Case(model, vector, np.ones((1, 1), dtype=np.float32), np.zeros(1))
    part = rows.sum()
    assert 0 < squared_norm(part) <= BOUND
    assert last > 0 or part[-1] > 0.6 * 2**FRACTION_BITS


def test_a_gradient_beyond_float64_is_clipped_and_not_lost() -> None:
    model = DenseModel(inputs=1, hidden=(1,))
    rows = Case(model, np.array([1e300, 0.0, 1e300, 0.0]), np.array([[3e38]], dtype=np.float32), np.zeros(1))
    assert 0.999 * BOUND < squared_norm(rows.sum()) <= BOUND
