"""Clipped sums over rows: the right gradients, each row's part exactly bounded, and exactly its own."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.dp.clipping import FRACTION_BITS, clipped_sum, gradient_value
from strategies.errors import UsageError
from tests.strategies.dp.gradients_for_tests import (
    EVEN,
    UNEVEN,
    Case,
    Weights,
    case,
    plain_sum,
    squared_norm,
)

BOUND = 4**FRACTION_BITS
MODELS = [(30, ()), (7, (5,)), (30, (64, 32)), (1, (1, 1)), (3, (300,)), (12, (9, 8, 7))]
CLIPS = [0.05, 1.0, 30.0]


# --- the right gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_the_sum_is_that_of_rows_clipped_one_by_one(
    inputs: int, hidden: tuple[int, ...], clip: float
) -> None:
    """A row is off by no more than truncation: less than 1e-5 of the clipping norm."""
    given_rows = case(inputs, hidden, rows=300)
    value = gradient_value(given_rows.sum(clip=clip, weights=UNEVEN), clip)
    error = np.linalg.norm(value - plain_sum(given_rows, clip=clip, weights=UNEVEN))
    assert error < 1e-5 * 300 * clip


@pytest.mark.parametrize("weights", [EVEN, UNEVEN, Weights(0.0, 1.0)])
@pytest.mark.parametrize(("inputs", "hidden"), [(30, ()), (30, (64, 32)), (7, (5,))])
def test_the_sum_is_what_opacus_clips(inputs: int, hidden: tuple[int, ...], weights: Weights) -> None:
    rows = case(inputs, hidden, rows=200, seed=3)
    for clip in CLIPS:
        value = gradient_value(rows.sum(clip=clip, weights=weights), clip)
        assert np.linalg.norm(value - _opacus_sum(rows, clip, weights)) < 1e-5 * 200 * clip


def _opacus_sum(rows: Case, clip: float, weights: Weights) -> np.ndarray:
    """The sum of clipped gradients that Opacus' optimiser makes before noise, without its 1e-6 in the denominator."""
    import torch
    from opacus import GradSampleModule
    from torch import nn

    steps: list[nn.Module] = []
    for place, (weight, bias) in enumerate(rows.model.split(rows.vector)):
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.copy()))
            linear.bias.copy_(torch.from_numpy(bias.copy()))
        steps += [nn.ReLU(), linear] if place else [linear]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = GradSampleModule(nn.Sequential(*steps), loss_reduction="sum")
        y = torch.from_numpy(rows.y)
        logits = network(torch.from_numpy(rows.x).double())[:, 0]
        each = torch.where(y > 0.5, weights.positive, weights.negative)
        nn.functional.binary_cross_entropy_with_logits(logits, y, weight=each, reduction="sum").backward()
    samples = torch.cat([p.grad_sample.flatten(1) for p in network.parameters()], dim=1)
    factors = (clip / samples.norm(dim=1)).clamp(max=1.0)
    return (factors @ samples).numpy()


def test_a_row_that_is_long_is_clipped_to_the_clipping_norm_and_a_short_one_left_alone() -> None:
    rows = case(rows=40)
    whole = [
        math.sqrt(squared_norm(rows.sum(slice(i, i + 1), clip=1e-3))) / 2**FRACTION_BITS for i in range(40)
    ]
    assert min(whole) > 1 - 1e-4
    lengths = [np.linalg.norm(plain_sum(_row(rows, i), clip=math.inf)) for i in range(40)]
    parts = [gradient_value(rows.sum(slice(i, i + 1), clip=100.0), 100.0) for i in range(40)]
    assert np.allclose([np.linalg.norm(part) for part in parts], lengths, rtol=1e-3)


def _row(rows: Case, place: int) -> Case:
    return Case(rows.model, rows.vector, rows.x[place : place + 1], rows.y[place : place + 1])


def test_no_rows_add_up_to_zeros() -> None:
    assert not case().sum(slice(0, 0)).any()


def test_a_gradient_of_zero_adds_nothing() -> None:
    """The class that does not count has no slope, and so no direction to be scaled in."""
    rows = case(rows=50)
    only = rows.sum(weights=Weights(0.0, 1.0))
    assert (only == rows.sum(rows.y > 0.5)).all()


# --- exactly bounded ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [1e-3, 1.0, 7.3])
@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_no_row_is_longer_than_the_clipping_norm_to_the_last_bit(
    inputs: int, hidden: tuple[int, ...], clip: float
) -> None:
    rows = case(inputs, hidden, rows=60, seed=7)
    assert all(squared_norm(rows.sum(slice(i, i + 1), clip=clip)) <= BOUND for i in range(60))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    inputs=st.integers(1, 20),
    hidden=st.lists(st.integers(1, 20), max_size=3),
    spread=st.floats(1e-3, 1e3),
    clip=st.floats(1e-6, 1e6),
)
def test_neighbours_differ_by_at_most_the_clipping_norm(
    seed: int, inputs: int, hidden: list[int], spread: float, clip: float
) -> None:
    rows = case(inputs, tuple(hidden), rows=12, seed=seed)
    rows = Case(rows.model, rows.vector, rows.x * np.float32(spread), rows.y)
    difference = rows.sum(clip=clip) - rows.sum(slice(1, None), clip=clip)
    assert squared_norm(difference) <= BOUND


# --- exactly its own ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "hidden"), [*MODELS, (40, (257,))])
def test_a_sum_is_the_sum_of_its_rows_alone_to_the_bit(inputs: int, hidden: tuple[int, ...]) -> None:
    """Whatever else is in the block, and over the border between two blocks. Products of float64 differ here in the last bits."""
    rows = case(inputs, hidden, rows=264, seed=1)
    alone = sum(rows.sum(slice(i, i + 1)) for i in range(264))
    assert (rows.sum() == alone).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 700), removed=st.integers(0, 699), data=st.data())
def test_order_does_not_matter_and_removing_rows_takes_away_their_parts(
    seed: int, count: int, removed: int, data: st.DataObject
) -> None:
    hidden = data.draw(st.sampled_from([(), (17,), (33, 9), (300,)]))
    rows = case(data.draw(st.integers(1, 40)), hidden, rows=count, seed=seed)
    order = np.random.default_rng(seed).permutation(count)
    whole = rows.sum()
    assert (rows.sum(order) == whole).all()
    gone, kept = np.split(order, [removed % count])
    assert (whole - rows.sum(kept) == rows.sum(gone)).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("hidden", [(), (16, 8)])
def test_a_row_that_is_not_finite_adds_nothing_and_changes_no_other(
    hidden: tuple[int, ...], poison: float
) -> None:
    rows = case(10, hidden, rows=300)
    rows.x[[3, 299], 4] = poison
    rows.y[77] = math.nan
    sound = np.setdiff1d(np.arange(300), [3, 77, 299])
    assert (rows.sum() == rows.sum(sound)).all()
    assert not rows.sum([3, 77, 299]).any()


def test_rows_that_overflow_do_not_poison_others() -> None:
    rows = case(10, (16, 8), rows=300)
    rows.x[5] = 3e38
    others = np.delete(np.arange(300), 5)
    assert (rows.sum() - rows.sum([5]) == rows.sum(others)).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_model_that_is_not_finite_gives_zeros(poison: float) -> None:
    rows = case()
    rows.vector[-1] = poison
    assert not rows.sum().any()


# --- what is refused, and the way back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_that_is_not_above_zero_and_finite_is_refused(clip: float) -> None:
    with pytest.raises(UsageError, match="clipping norm"):
        case().sum(clip=clip)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_below_zero_or_not_finite_are_refused(weight: float) -> None:
    for weights in (Weights(weight, 1.0), Weights(1.0, weight)):
        with pytest.raises(UsageError, match="class weight"):
            case().sum(weights=weights)


def test_shapes_that_do_not_fit_are_refused() -> None:
    rows = case()
    model, vector, x, y = rows.model, rows.vector, rows.x, rows.y
    units = np.arange(len(y))
    for bad in (
        (vector[1:], x, y, None),
        (vector, x[:, 1:], y, None),
        (vector, x[0], y, None),
        (vector, x, y[1:], None),
        (vector, x, y, units[1:]),
    ):
        with pytest.raises(UsageError, match="shape"):
            clipped_sum(model, bad[0], bad[1], bad[2], clip=1.0, weights=EVEN, units=bad[3])


def test_the_value_of_a_sum_is_its_integers_times_clip_over_two_to_the_36() -> None:
    total = np.array([0, 1, -(2**36), 3 << 40], dtype=np.int64)
    assert gradient_value(total, 0.5).tolist() == [0.0, 2.0**-37, -0.5, 24.0]
