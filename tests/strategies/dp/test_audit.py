"""What guesses prove, and what they would typically prove: against enumeration, scipy and mechanisms whose epsilon is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss
from scipy.stats import binom

from strategies.dp.audit import (
    LARGEST_EPSILON,
    Guesses,
    Sample,
    epsilon_lower_bound,
    gaussian_sample,
    gaussian_separation,
    guesses_to_refute,
    most_telling,
    p_value,
    right_guesses,
    typical_bound,
)
from strategies.errors import UsageError

CASES = [(1, 1, 1), (20, 10, 7), (100, 100, 64), (1000, 150, 149), (1000, 500, 500), (5000, 4999, 2600)]


def guesses(canaries: int, made: int, right: int) -> Guesses:
    return Guesses(canaries=canaries, made=made, right=right)


def rate_of_right(epsilon: float) -> float:
    """Of guesses about randomised response that is exactly (epsilon, 0)-private."""
    return math.exp(epsilon) / (1 + math.exp(epsilon))


# --- the test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 4.0])
def test_without_delta_the_p_value_is_the_binomial_tail(case: tuple[int, int, int], epsilon: float) -> None:
    _, made, right = case
    tail = binom.sf(right - 1, made, rate_of_right(epsilon))
    assert p_value(guesses(*case), epsilon=epsilon, delta=0.0) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize("case", CASES[:-1])
@pytest.mark.parametrize("delta", [1e-6, 1e-3])
def test_delta_adds_the_steepest_slope_below_the_tail(case: tuple[int, int, int], delta: float) -> None:
    canaries, made, right = case
    rate = rate_of_right(1.5)
    tail = binom.sf(right - 1, made, rate)
    slopes = [(binom.sf(right - 1 - i, made, rate) - tail) / i for i in range(1, right + 1)]
    expected = min(1.0, tail + 2 * canaries * delta * max(slopes))
    assert p_value(guesses(*case), epsilon=1.5, delta=delta) == pytest.approx(expected, rel=1e-7)


def test_the_p_value_falls_with_right_guesses_and_rises_with_epsilon_and_delta() -> None:
    by_right = [p_value(guesses(300, 100, right), epsilon=1.0, delta=1e-5) for right in range(101)]
    assert by_right == sorted(by_right, reverse=True)
    assert by_right[0] == 1.0
    by_epsilon = [p_value(guesses(300, 100, 90), epsilon=e, delta=1e-5) for e in np.linspace(0, 5, 40)]
    assert by_epsilon == sorted(by_epsilon)
    assert p_value(guesses(300, 100, 90), epsilon=1.0, delta=1e-3) > by_epsilon[8]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_the_bound_is_the_last_epsilon_that_is_refuted(case: tuple[int, int, int], delta: float) -> None:
    bound = epsilon_lower_bound(guesses(*case), delta=delta, confidence=0.95)
    assert p_value(guesses(*case), epsilon=bound + 1e-6, delta=delta) > 0.05
    assert bound == 0.0 or p_value(guesses(*case), epsilon=bound, delta=delta) <= 0.05


@pytest.mark.parametrize("made", [10, 100, 1000])
def test_if_all_guesses_are_right_the_bound_has_a_closed_form(made: int) -> None:
    rate = 0.05 ** (1 / made)
    bound = epsilon_lower_bound(guesses(made, made, made), delta=0.0, confidence=0.95)
    assert bound == pytest.approx(math.log(rate / (1 - rate)), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0, 8.0])
def test_so_many_right_guesses_refute_and_one_fewer_do_not(epsilon: float) -> None:
    needed = guesses_to_refute(epsilon, 0.95)
    assert p_value(guesses(needed, needed, needed), epsilon=epsilon, delta=0.0) <= 0.05
    assert p_value(guesses(needed - 1, needed - 1, needed - 1), epsilon=epsilon, delta=0.0) > 0.05


@pytest.mark.parametrize("made", [100, 300])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_a_bound_is_above_the_truth_no_more_often_than_the_confidence_says(made: int, epsilon: float) -> None:
    """Of randomised response, for which the theorem is exact: every number of right guesses is looked at."""
    rate = rate_of_right(epsilon)
    wrong = sum(
        binom.pmf(right, made, rate)
        for right in range(made + 1)
        if epsilon_lower_bound(guesses(made, made, right), delta=0.0, confidence=0.9) > epsilon
    )
    assert 0.02 < wrong <= 0.1


def test_a_mechanism_that_gives_all_away_with_probability_delta_is_not_refuted_too_often() -> None:
    """It is (epsilon, delta)-private, and with probability delta every guess is right."""
    made, epsilon, delta = 50, 1.0, 0.02
    rate = rate_of_right(epsilon)
    law = (1 - delta) * binom.pmf(np.arange(made + 1), made, rate)
    law[made] += delta
    bounds = [
        epsilon_lower_bound(guesses(made, made, right), delta=delta, confidence=0.95)
        for right in range(made + 1)
    ]
    assert law[np.array(bounds) > epsilon].sum() <= 0.05
    careless = [
        epsilon_lower_bound(guesses(made, made, right), delta=0.0, confidence=0.98)
        for right in range(made + 1)
    ]
    assert law[np.array(careless) > epsilon].sum() > 0.02


# --- guesses ----------------------------------------------------------------------------------------------------------


def test_the_highest_scores_are_guessed_in_and_the_lowest_out() -> None:
    scores = np.array([0.1, 5.0, -3.0, 2.0, -0.2, -4.0])
    included = np.array([True, True, False, False, True, True])
    assert right_guesses(scores, included, 0) == 0
    assert right_guesses(scores, included, 2) == 1  # 5.0 was in, -4.0 was too
    assert right_guesses(scores, included, 4) == 2  # 2.0 was not in, -3.0 was not
    assert right_guesses(scores, included, 6) == 3  # 0.1 was in, -0.2 was too
    assert right_guesses(scores, included, 1) == 1  # an odd guess is of the first kind


@pytest.mark.parametrize(
    ("canaries", "made", "right"), [(0, 0, 0), (10, 11, 5), (10, 5, 6), (10, 5, -1), (10**7, 5, 5)]
)
def test_guesses_that_cannot_be_are_refused(canaries: int, made: int, right: int) -> None:
    with pytest.raises(UsageError):
        guesses(canaries, made, right)


def test_what_is_no_number_is_refused() -> None:
    given = guesses(10, 5, 4)
    for epsilon, delta in ((math.nan, 0.1), (-0.1, 0.1), (1.0, math.nan), (1.0, 1.0), (1.0, -1e-9)):
        with pytest.raises(UsageError):
            p_value(given, epsilon=epsilon, delta=delta)
    for confidence in (0.0, 1.0, math.nan):
        with pytest.raises(UsageError, match="confidence"):
            epsilon_lower_bound(given, delta=1e-5, confidence=confidence)
    with pytest.raises(UsageError):
        guesses_to_refute(math.nan, 0.95)
    for scores, made in ((np.array([1.0, math.nan]), 1), (np.ones(2), 3), (np.ones(3), 1)):
        with pytest.raises(UsageError):
            right_guesses(scores, np.array([True, False]), made)
    with pytest.raises(UsageError):
        gaussian_separation(1.0, math.nan)


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 4.0, 20.0, 100.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_the_separation_is_that_of_a_gaussian_mechanism_exactly_at_the_claim(
    epsilon: float, delta: float
) -> None:
    separation = gaussian_separation(epsilon, delta)
    loss = GaussianPrivacyLoss(standard_deviation=1 / separation)
    assert loss.get_delta_for_epsilon(epsilon) == pytest.approx(delta, rel=1e-6)


def test_a_claim_of_any_size_has_a_separation() -> None:
    assert gaussian_separation(0.0, 1e-5) == pytest.approx(2.5e-5, rel=0.01)
    assert gaussian_separation(1e6, 1e-5) == gaussian_separation(LARGEST_EPSILON, 1e-5)


@pytest.mark.parametrize("separation", [0.5, 2.0])
def test_the_typical_bound_is_the_median_of_bounds_that_are_found(separation: float) -> None:
    source = np.random.default_rng(1)
    found = []
    for _ in range(200):
        included = source.random(400) < 0.5
        scores = source.normal(size=400) + separation * included
        right = right_guesses(scores, included, 80)
        found.append(epsilon_lower_bound(guesses(400, 80, right), delta=1e-5, confidence=0.95))
    sample = gaussian_sample(separation, 4000)
    typical = typical_bound(sample, canaries=400, made=80, delta=1e-5, confidence=0.95)
    assert np.quantile(found, 0.35) <= typical <= np.quantile(found, 0.65)


def test_the_number_of_guesses_that_tells_most_grows_with_what_there_is_to_tell() -> None:
    chosen = [
        most_telling(gaussian_sample(separation, 2000), canaries=1000, delta=1e-5, confidence=0.95)
        for separation in (0.7, 2.0, 12.0)
    ]
    assert chosen[0] < chosen[1] < chosen[2] == 1000
    sample = gaussian_sample(2.0, 2000)
    bounds = {
        made: typical_bound(sample, canaries=1000, made=made, delta=1e-5, confidence=0.95)
        for made in (chosen[1], 20, 1000)
    }
    assert max(bounds, key=lambda made: bounds[made]) == chosen[1]


def test_scores_that_tell_nothing_typically_show_nothing() -> None:
    nothing = Sample(inside=np.arange(100.0), outside=np.arange(100.0))
    assert typical_bound(nothing, canaries=500, made=100, delta=1e-5, confidence=0.95) == 0.0
