"""Private steps at a site: what one unit can move, how much noise there is, and that both are constants of the plan."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.training import local
from strategies.dp.clipping import FRACTION_BITS, clipped_sum
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.models import DenseModel, sigmoid
from tests.client.local_for_tests import MODEL, Rows, rows, rule

WIDE = DenseModel(inputs=150, hidden=(128,))
"""Of some 19,000 parameters: enough to measure noise with."""

Draws = list[tuple[float, int, bytes]]


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise alone is replaced, by zeros."""
    monkeypatch.setattr(local, "discrete_gaussian", lambda variance, size, seed: np.zeros(size, np.int64))


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Every draw of noise: variance, size and seed. The noise is the real one."""
    seen: Draws = []

    def watched(variance: float, size: int, seed: NoiseSeed) -> np.ndarray:
        seen.append((variance, size, seed.reveal()))
        return discrete_gaussian(variance, size, seed)

    monkeypatch.setattr(local, "discrete_gaussian", watched)
    return seen


# --- randomness -------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_others_differ() -> None:
    given = rule(expected_batch=10, local_steps=3)
    one, again, other = rows().update(given), rows().update(given), rows().update(given, 2)
    assert one.tobytes() == again.tobytes()
    assert np.count_nonzero(one == other) == 0


def test_no_global_random_state_is_used_or_changed() -> None:
    results = []
    for number in (1, 2):
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        results.append(rows().update(rule(expected_batch=10, local_steps=3)))
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
    assert results[0].tobytes() == results[1].tobytes()


def test_each_step_draws_one_noise_for_all_parameters_under_a_seed_of_its_own(draws: Draws) -> None:
    rows().update(rule(expected_batch=10, local_steps=7))
    assert [size for _, size, _ in draws] == [MODEL.size] * 7
    assert {variance for variance, _, _ in draws} == {local.DEVIATION_STEPS**2}
    assert len({seed for _, _, seed in draws}) == 7


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "clip", "batch", "rate", "steps"),
    [(1.0, 1.0, 40, 0.5, 1), (0.3, 2.5, 8, 0.1, 1), (4.0, 0.01, 33, 2.0, 9)],
)
def test_the_noise_is_multiplier_times_clip_over_the_expected_batch(
    noise: float, clip: float, batch: int, rate: float, steps: int
) -> None:
    given = rule(noise=noise, clip=clip, expected_batch=batch, learning_rate=rate, local_steps=steps)
    update = rows(0, model=WIDE).update(given)
    deviation = rate * noise * clip / batch * steps**0.5
    assert np.std(update) == pytest.approx(deviation, rel=5 / (2 * WIDE.size) ** 0.5)
    assert abs(np.mean(update)) < 5 * deviation / WIDE.size**0.5
    inside = np.mean(np.abs(update) < deviation)
    assert inside == pytest.approx(0.6827, abs=5 * (0.22 / WIDE.size) ** 0.5)


def test_twice_the_rows_have_the_same_noise_and_the_same_denominator() -> None:
    few = rows()
    many = Rows(np.tile(few.x, (2, 1)), np.tile(few.y, 2), np.arange(80), 80)
    nobody = rows(0).update(rule())
    moved = (
        few.update(rule()) - nobody
    )  # one seed, so one noise: its difference is the clipped sum's share alone
    assert np.linalg.norm(moved) > 0.05
    np.testing.assert_allclose(many.update(rule()) - nobody, 2 * moved, atol=1e-9)


def test_a_step_that_takes_nobody_is_a_step_like_any_other(draws: Draws) -> None:
    given = rule(expected_batch=1, nominal_rows=10**9, local_steps=5)
    update = rows().update(given)
    assert len(draws) == 5
    assert update.tobytes() == rows(0).update(given).tobytes()
    assert np.std(update) > 0


def test_sums_and_noise_are_whole_steps_of_one_grid() -> None:
    """What the low bits of a float could tell of the sum that noise was added to is gone."""
    given = rule(expected_batch=1, nominal_rows=1, learning_rate=1.0)
    model = DenseModel(inputs=100)
    levels = rows(model=model).update(given, vector=np.zeros(model.size)) / given.grid
    assert np.array_equal(levels, np.rint(levels))
    assert np.count_nonzero(levels % 2) > model.size / 4


# --- what one unit moves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, 1e30, 3e38])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("clip", [0.01, 1.0, 2.0])
def test_one_unit_moves_the_model_by_its_gradient_and_at_most_the_clipping_norm(
    size: float, members: int, clip: float
) -> None:
    given, model, start = rule(clip=clip), DenseModel(inputs=6), np.ones(7)
    few = rows(model=model)
    moved = few.joined(np.full(6, -size), rows=members).update(given, vector=start) - few.update(
        given, vector=start
    )
    gradient = sigmoid(np.array(6 * size - 1)) * (1 + 6 * size**2) ** 0.5
    assert np.linalg.norm(moved) <= 0.5 * clip / 40 * (1 + 1e-9)
    assert np.linalg.norm(moved) == pytest.approx(0.5 * min(clip, gradient) / 40, rel=1e-4)


def test_the_bound_holds_for_a_sum_that_rounding_lengthens(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a grid so coarse that rounding by itself would lengthen it visibly."""
    monkeypatch.setattr(local, "DEVIATION_STEPS", 2.0**6)
    given, model = rule(), DenseModel(inputs=200)
    bound = 0.5 / 40 * (1 + 1e-9)
    assert given.clip(model.size) < 0.8
    for number in range(20):
        source = np.random.default_rng(number)
        base = rows(30, model=model)
        joined = base.joined(source.normal(size=200) * 100)
        assert np.linalg.norm(joined.update(given) - base.update(given)) <= bound
    monkeypatch.setattr(local.LocalRule, "clip", lambda self, dimension: self.training.clip)  # planted
    assert np.linalg.norm(joined.update(given) - base.update(given)) > bound


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_unit_whose_gradient_is_not_finite_adds_nothing(bad: float) -> None:
    given = rule(local_steps=2)
    spoilt = np.array([0.5, bad, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(rows().joined(spoilt).update(given), rows().update(given), atol=1e-12)
    one_of_many = np.stack([np.full(6, 0.5), spoilt, np.full(6, 0.5)])
    customer = rows().joined(one_of_many, rows=3)
    np.testing.assert_allclose(customer.update(given), rows().update(given), atol=1e-12)


@pytest.mark.parametrize("weight", [1e200, 1e308, np.inf, np.nan])
def test_a_model_beyond_all_numbers_is_no_reason_to_refuse(weight: float) -> None:
    update = rows().update(rule(local_steps=2), vector=np.full(MODEL.size, weight))
    assert np.isfinite(update).all()


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("noiseless")
def test_units_are_taken_independently_at_the_plans_rate_anew_in_each_step() -> None:
    """Of units that are all alike, the length of a step tells how many were taken."""
    alike = Rows(np.ones((50, 6), np.float32), np.ones(50), np.arange(50), 50, DenseModel(inputs=6))
    start, one = np.zeros(7), 1e-7 * 1.0 / 30
    given = rule(expected_batch=30, nominal_rows=100, learning_rate=1e-7, local_steps=1)
    twice = replace(given, training=given.training.model_copy(update={"local_steps": 2}))
    taken = []
    for number in range(200):
        first, both = (np.linalg.norm(alike.update(each, number, start)) / one for each in (given, twice))
        taken.append((first, both - first))
    counts = np.array(taken)
    assert np.allclose(counts, np.rint(counts), atol=1e-3)
    variance = 50 * 0.3 * 0.7
    assert np.mean(counts, axis=0) == pytest.approx([15, 15], abs=5 * (variance / 200) ** 0.5)
    assert np.var(counts, axis=0) == pytest.approx([variance] * 2, rel=5 * (2 / 200) ** 0.5)
    assert abs(np.corrcoef(counts.T)[0, 1]) < 5 / 200**0.5


# --- equal to the other modes' sum -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("noiseless")
@pytest.mark.parametrize("given", [rows(), rows(600), rows().of_customers(1, 9, 4, 20, 6)])
@pytest.mark.parametrize("hidden", [(), (5,), (7, 3)])
@pytest.mark.parametrize("clip", [0.2, 1.0, 5.0])
def test_without_noise_a_step_is_the_clipped_sum_of_the_other_modes(
    given: Rows, hidden: tuple[int, ...], clip: float
) -> None:
    given = replace(given, model=DenseModel(inputs=6, hidden=hidden))
    weighted = rule(clip=clip, learning_rate=40.0, class_weights={"negative": 0.5, "positive": 3.0})
    start = given.model.initial(3) + 0.01
    total = clipped_sum(
        given.model,
        start,
        given.x,
        given.y,
        clip=clip,
        weights=weighted.training.class_weights,
        units=None if given.units == len(given.unit) else given.unit,
    )
    expected = -np.ldexp(total.astype(np.float64), -FRACTION_BITS) * clip
    found = given.update(weighted, vector=start)
    assert np.linalg.norm(found - expected) <= 1e-5 * clip * given.units  # that sum is rounded, unit by unit
    assert np.linalg.norm(expected) > 0.01 * clip * given.units


@pytest.mark.usefixtures("noiseless")
def test_a_customers_gradient_is_the_mean_of_its_rows_and_is_clipped_as_one() -> None:
    given = replace(rows().of_customers(1, 9, 4, 20, 6), model=DenseModel(inputs=6))
    start = np.linspace(-1, 1, 7)
    expected = np.zeros(7)
    for unit in range(5):
        x, y = (values[given.unit == unit].astype(np.float64) for values in (given.x, given.y))
        slope = 1 / (1 + np.exp(-(x @ start[:6] + start[6]))) - y
        mean = np.concatenate([slope @ x, [slope.sum()]]) / len(y)
        expected -= mean * min(1.0, 0.4 / np.linalg.norm(mean))
    found = given.update(rule(clip=0.4, learning_rate=40.0), vector=start)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("noiseless")
@pytest.mark.parametrize("given", [rows(), rows().of_customers(1, 9, 4, 20, 6)])
def test_how_many_gradients_fit_into_memory_changes_nothing(
    given: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = rule(expected_batch=20, local_steps=3)
    at_once = given.update(steps)
    for numbers in (1, 3 * MODEL.size):
        monkeypatch.setattr(local, "BLOCK_NUMBERS", numbers)
        np.testing.assert_allclose(given.update(steps), at_once, atol=1e-12)
