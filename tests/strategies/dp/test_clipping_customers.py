"""Clipped sums over customers: the mean of a customer's rows, clipped once, bounded exactly, and exactly its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.dp import unit_means
from strategies.dp.backpropagation import Backpropagation
from strategies.dp.clipping import FRACTION_BITS, gradient_value
from tests.strategies.dp.gradients_for_tests import UNEVEN, Case, case, plain_sum, squared_norm

BOUND = 4**FRACTION_BITS
MODELS = [(12, ()), (7, (5,)), (12, (20, 9)), (1, (1, 1)), (5, (300,))]


def _interleaved(rows: int, seed: int = 0) -> np.ndarray:
    """Customers of one row to two hundred, anywhere, with numbers of any kind."""
    random = np.random.default_rng(seed)
    units = random.integers(-5, max(2, rows // 3), size=rows)
    units[: rows // 10] = 2**62
    units[rows // 10 : rows // 3] = -(2**62)
    return random.permutation(units)


@pytest.mark.parametrize("clip", [0.05, 1.0, 5.0])
@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_the_sum_is_that_of_means_clipped_one_by_one(
    inputs: int, hidden: tuple[int, ...], clip: float
) -> None:
    rows, units = case(inputs, hidden, rows=600), _interleaved(600)
    value = gradient_value(rows.sum(clip=clip, weights=UNEVEN, units=units), clip)
    wanted = plain_sum(rows, clip=clip, weights=UNEVEN, units=units)
    assert np.linalg.norm(value - wanted) < 1e-5 * len(np.unique(units)) * clip


def test_a_mean_is_clipped_and_not_the_mean_of_clipped_rows() -> None:
    """Two rows that pull apart leave a mean shorter than the clip, which stays as it is."""
    rows = case(rows=2)
    rows = Case(rows.model, rows.vector, np.repeat(rows.x[:1], 2, axis=0), np.array([0.0, 1.0]))
    value = gradient_value(rows.sum(clip=1.0, units=[4, 4]), 1.0)
    assert np.linalg.norm(value - plain_sum(rows, clip=1.0, units=[4, 4])) < 5e-6
    assert np.linalg.norm(value - plain_sum(rows, clip=1.0) / 2) > 1e-2


def test_the_same_row_ten_times_over_adds_what_it_adds_once() -> None:
    rows = case(rows=1)
    many = Case(rows.model, rows.vector, np.repeat(rows.x, 10, axis=0), np.repeat(rows.y, 10))
    for clip in (0.1, 100.0):
        once, often = rows.sum(clip=clip), many.sum(clip=clip, units=np.zeros(10, dtype=np.int64))
        assert np.linalg.norm(gradient_value(once - often, clip)) < 3e-5 * clip


def test_a_customer_with_one_row_adds_what_the_row_adds_to_the_bit() -> None:
    """So whether any customer has more rows, which is private, changes nothing for the others."""
    rows, units = case(rows=300), np.arange(300)
    assert (rows.sum(units=units) == rows.sum()).all()
    units[1] = 0
    assert (rows.sum(units=units) - rows.sum([0, 1], units=units) == rows.sum(slice(2, None))).all()


@pytest.mark.parametrize("clip", [1e-3, 1.0, 7.3])
@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_no_customer_is_longer_than_the_clipping_norm_to_the_last_bit(
    inputs: int, hidden: tuple[int, ...], clip: float
) -> None:
    rows, units = case(inputs, hidden, rows=200, seed=2), _interleaved(200, seed=2)
    lengths = [squared_norm(rows.sum(units == unit, clip=clip, units=units)) for unit in np.unique(units)]
    assert max(lengths) <= BOUND
    assert clip > 1e-3 or min(lengths) > 0.999 * BOUND


@pytest.mark.parametrize("vector_scale", [0.0, 1e-320, 1e-200, 1.0, 1e150, 1e307])
@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-3, 1e6, 1e38])
def test_absurd_rows_models_and_clips_are_bounded_all_the_same(vector_scale: float, scale: float) -> None:
    rows = case(4, (6, 5), rows=3, seed=5)
    rows = Case(rows.model, rows.vector * vector_scale, rows.x * np.float32(scale), rows.y)
    for clip in (5e-324, 1e-310, 1e-100, 1.0, 1e100, 1.7e308):
        assert squared_norm(rows.sum(clip=clip, units=[1, 1, 1])) <= BOUND


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 400), data=st.data())
def test_order_does_not_matter_and_removing_a_customer_takes_away_its_part(
    seed: int, count: int, data: st.DataObject
) -> None:
    hidden = data.draw(st.sampled_from([(), (17,), (33, 9), (300,)]))
    rows, units = (
        case(data.draw(st.integers(1, 30)), hidden, rows=count, seed=seed),
        _interleaved(count, seed),
    )
    order = np.random.default_rng(seed).permutation(count)
    whole = rows.sum(units=units)
    assert (rows.sum(order, units=units) == whole).all()
    gone = units == data.draw(st.sampled_from(units.tolist()))
    part = rows.sum(gone, units=units)
    assert (whole - rows.sum(~gone, units=units) == part).all()
    assert squared_norm(part) <= BOUND


def test_models_too_large_for_many_means_at_once_are_summed_in_larger_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, units = case(rows=300), _interleaved(300)
    monkeypatch.setattr(unit_means, "_MOST_ELEMENTS", 2 * rows.model.size)
    order = np.random.default_rng(0).permutation(300)
    whole = rows.sum(units=units)
    assert (rows.sum(order, units=units) == whole).all()
    assert np.linalg.norm(gradient_value(whole, 1.0) - plain_sum(rows, clip=1.0, units=units)) < 1e-5 * 100


@pytest.mark.parametrize("chunk", [8, 128])
def test_the_sum_of_a_chunk_is_exact_so_that_the_order_in_it_does_not_matter(chunk: int) -> None:
    rows = case(rows=256)
    rows.x[...] *= 10.0 ** (np.arange(256) % 8)[:, None]  # gradients of very different lengths in one chunk
    back = Backpropagation(rows.model, rows.vector)

    def summed(places: np.ndarray) -> np.ndarray:
        sums = np.zeros((256 // chunk, rows.model.size))
        finite = back.run(rows.x[places], rows.y[places], np.ones(256))
        unit_means._add_chunks(back, finite, sums, chunk)
        return sums

    within = np.random.default_rng(0).permutation(chunk)
    shuffled = np.arange(256).reshape(-1, chunk)[:, within].ravel()
    assert (summed(np.arange(256)) == summed(shuffled)).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_customer_with_a_row_that_is_not_finite_adds_nothing_and_changes_no_other(poison: float) -> None:
    rows = case(10, (16, 8), rows=90)
    units = np.arange(90) // 3
    rows.x[10, 2] = poison
    rows.y[88] = math.nan
    sound = ~np.isin(units, units[[10, 88]])
    assert (rows.sum(units=units) == rows.sum(sound, units=units)).all()
    assert rows.sum(sound, units=units).any()


def test_numbers_of_customers_only_tell_them_apart() -> None:
    rows, units = case(rows=100), np.arange(100) // 4
    renamed = np.random.default_rng(0).permutation(25)[units] * 10**15 - 7
    assert (rows.sum(units=units) == rows.sum(units=renamed)).all()
