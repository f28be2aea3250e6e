"""Fixed point: what is rounded is off by less than a step and right on average, and no honest sum wraps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.plan_sites import MAX_SITES
from strategies.errors import Refused, UsageError
from strategies.secagg import fixedpoint
from strategies.secagg.fixedpoint import Grid, OverflowRisk, fitting_grid, ring_for, rounded_norm_bound
from strategies.secagg.masks import DRAW_BITS
from strategies.secagg.payloads import Counts, Moments, dither_seed
from strategies.secagg.rings import Ring
from tests.strategies.secagg.attacks_for_tests import Guard, off
from tests.strategies.secagg.sums_for_tests import SEED


@given(st.lists(st.floats(-20, 20), max_size=50), st.integers(1, 2**20))
def test_embedding_is_off_by_less_than_a_step_after_clipping(values: list[float], levels: int) -> None:
    grid = Grid(bound=8.0, levels=levels)
    vector = np.array(values, dtype=np.float64)
    found = grid.value(grid.embed(vector, SEED))
    assert (np.abs(found - np.clip(vector, -8, 8)) <= grid.step * (1 + 1e-9)).all()
    assert (np.abs(found) <= 8.0 * (1 + 1e-12)).all()


def test_embedding_is_right_on_average() -> None:
    grid = Grid(bound=1.0, levels=2)
    found = grid.value(grid.embed(np.full(200_000, 0.3), SEED))
    assert set(np.unique(found)) == {0.0, 0.5}
    # Standard error 0.5 sqrt(0.6 0.4 / 200000) = 0.00055.
    assert found.mean() == pytest.approx(0.3, abs=0.003)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_rounding_lengthens_no_vector_beyond_its_bound(values: list[float]) -> None:
    grid, vector = Grid(bound=1.0, levels=50), np.array(values)
    rounded = grid.value(grid.embed(vector, SEED))
    assert (
        np.linalg.norm(rounded)
        <= rounded_norm_bound(float(np.linalg.norm(vector)), grid, len(values)) + 1e-12
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_sent(value: float) -> None:
    with pytest.raises(Refused, match="not finite"):
        Grid(bound=1.0, levels=10).embed(np.array([0.0, value]), SEED)


@given(st.integers(1, 2**30), st.integers(1, 1000))
def test_the_worst_sum_does_not_wrap_and_one_bit_less_would(levels: int, cohort: int) -> None:
    ring = ring_for(levels, cohort)
    worst = levels * cohort
    for sign in (1, -1):
        assert ring.decode(ring.encode(np.array([sign * worst])))[0] == sign * worst
    if ring.bits > 2:
        smaller = Ring(ring.bits - 1)
        assert smaller.decode(smaller.encode(np.array([worst])))[0] != worst


def test_noise_is_given_room() -> None:
    """40 standard deviations would be absurd, 5 too few: exp(-z^2/2) 2 d = 2^-40 for a million coordinates gives z = 9.2."""
    quiet, noisy = ring_for(1000, 10, dimension=10**6), ring_for(1000, 10, dimension=10**6, noise_std=1e4)
    assert quiet.bits == 15
    assert noisy.modulus // 2 > 1e4 * 9.1 + 10_000
    assert noisy.bits == 18


def test_too_much_for_any_ring_is_an_overflow_risk() -> None:
    with pytest.raises(OverflowRisk, match="takes 63 bits; at most 62 are there"):
        ring_for(2**52, 2**9)


@pytest.mark.parametrize(("levels", "cohort"), [(2**52 - 1, 2**8), (2**40, 2**20 - 1), (2**60 - 1, 1)])
def test_the_largest_sums_that_there_is_a_ring_for(levels: int, cohort: int) -> None:
    ring, largest = ring_for(levels, cohort), levels * cohort
    assert ring.bits <= 62
    assert ring.decode(ring.encode(np.array([largest, -largest]))).tolist() == [largest, -largest]
    with pytest.raises(OverflowRisk, match="Use fewer levels"):
        ring_for(4 * levels, 2 * cohort)


def test_moments_and_counts_of_the_largest_cohort_have_a_ring_and_of_a_larger_one_may_not() -> None:
    assert Moments(MAX_SITES).ring.bits == 62
    assert Counts(MAX_SITES).ring.bits == 51
    with pytest.raises(OverflowRisk, match="a sum of 1024 vectors"):
        _ = Moments(1024).ring


def test_noise_that_has_no_room_is_an_overflow_risk() -> None:
    assert ring_for(1, 3, noise_std=1e17).bits == 61
    with pytest.raises(OverflowRisk):
        ring_for(1, 3, noise_std=1e18)


@pytest.mark.parametrize(
    "wrong", [(0, 1, 1, 0.0), (1, 0, 1, 0.0), (1, 1, 0, 0.0), (1, 1, 1, -1.0), (1, 1, 1, math.inf)]
)
def test_a_sum_of_nothing_has_no_ring(wrong: tuple[int, int, int, float]) -> None:
    levels, cohort, dimension, noise = wrong
    with pytest.raises(UsageError, match="are at least 1, and the noise is finite"):
        ring_for(levels, cohort, dimension=dimension, noise_std=noise)


@pytest.mark.parametrize(
    ("bound", "levels"), [(0.0, 5), (-1.0, 5), (math.inf, 5), (math.nan, 5), (1.0, 0), (1.0, 2**53)]
)
def test_a_grid_is_finite(bound: float, levels: int) -> None:
    with pytest.raises(UsageError, match="a grid has"):
        Grid(bound=bound, levels=levels)


# Stochastic rounding at its edges.


@given(st.floats(1e-6, 1e6), st.integers(3, 128), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_points_of_the_grid_stay_where_they_are(bound: float, cohort: int, seed: int) -> None:
    """To the rounding errors of a quotient, which move a point once in some 2^32 draws."""
    grid, _ = fitting_grid(bound, cohort)
    points = np.random.Generator(np.random.Philox(seed)).integers(-grid.levels, grid.levels + 1, 1000)
    assert np.array_equal(grid.embed(grid.value(points), dither_seed(str(seed))), points)


LOWEST, HIGHEST = 0, 2**DRAW_BITS - 1
"""The ends of what the dither can be, in units of 2^-24."""


@pytest.mark.parametrize("drawn", [LOWEST, HIGHEST])
@pytest.mark.parametrize("levels", [1, 3, 2**16, 2_796_202, 2_147_483])
def test_the_most_unlikely_draws_move_no_value_by_more_than_a_step(
    monkeypatch: Guard, levels: int, drawn: int
) -> None:
    off(monkeypatch, fixedpoint, "uniform_draws", lambda _, count: np.full(count, drawn))
    grid = Grid(bound=0.7, levels=levels)
    values = np.concatenate((np.linspace(-0.7, 0.7, 9999), [-0.7, 0.7, 0.0, -5e-324, 5e-324]))
    found = grid.embed(values, SEED)
    assert np.abs(found).max() == levels
    assert (np.abs(found - values / grid.step) <= 1).all()


@pytest.mark.parametrize("drawn", [LOWEST, HIGHEST])
@pytest.mark.parametrize("levels", [2**16, 2**22])
def test_points_of_a_grid_of_powers_of_two_stay_whatever_is_drawn(
    monkeypatch: Guard, levels: int, drawn: int
) -> None:
    off(monkeypatch, fixedpoint, "uniform_draws", lambda _, count: np.full(count, drawn))
    grid = Grid(bound=4.0, levels=levels)
    points = np.linspace(-levels, levels, 2**17 + 1).astype(np.int64)
    assert np.array_equal(grid.embed(grid.value(points), SEED), points)


@pytest.mark.parametrize("beyond", [1.0, math.nextafter(1.0, 2.0), 1.5, 1e308])
@pytest.mark.parametrize("cohort", [3, 4, 64, 128, 1000])
def test_the_bounds_are_never_exceeded(cohort: int, beyond: float) -> None:
    grid, _ = fitting_grid(1.0, cohort)
    found = grid.embed(np.repeat([beyond, -beyond], 5000), SEED)
    assert set(found.tolist()) == {grid.levels, -grid.levels}


def test_a_value_may_round_beyond_the_bound_without_the_last_clip(monkeypatch: Guard) -> None:
    """The control: where the quotient of the bound is a little more than the levels, the lowest draw leaves one level more below."""
    off(monkeypatch, fixedpoint, "uniform_draws", lambda _, count: np.full(count, LOWEST))
    grids = (Grid(bound=0.7, levels=levels) for levels in range(1, 1000))
    grid = next(grid for grid in grids if grid.bound / grid.step > grid.levels)
    assert np.floor(-grid.bound / grid.step + LOWEST) == -(grid.levels + 1)
    assert grid.embed(np.full(1, -0.7), SEED)[0] == -grid.levels
