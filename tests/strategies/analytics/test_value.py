"""What decisions come to in money: the arithmetic is that of the rows themselves, intervals hold the truth as often as they say, and the best threshold says how
much it is flattered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.analytics.estimates import Estimate
from strategies.analytics.noisy import score_bounds
from strategies.analytics.value import (
    Amounts,
    Part,
    ReviewAmounts,
    Rule,
    ScoreTable,
    arithmetic,
    best_threshold,
    cells_of,
    mean_of,
    over_thresholds,
    share_of,
)
from strategies.analytics.value_difference import difference
from strategies.errors import Refused, UsageError

AMOUNTS = Amounts(
    approve=(-120.0, 2400.0), decline=(60.0, 10.0), review=ReviewAmounts(cost=25.0, finds=0.7, turns_away=0.1)
)
BINS = 16
BOUNDS = score_bounds(BINS, "even")


def rows(
    rng: np.random.Generator, number: int, skill: float = 1.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes and the scores of two models, whose errors are partly the same."""
    bad = (rng.random(number) < 0.12).astype(int)
    shared = rng.standard_normal(number)
    scores = [
        1.0 / (1.0 + np.exp(1.6 - skill * each * bad - 0.8 * shared - 0.5 * rng.standard_normal(number)))
        for each in (1.0, 0.8)
    ]
    return bad, scores[0], scores[1]


def table(
    bad: np.ndarray, scores: np.ndarray, noise_std: float = 0.0, rng: np.random.Generator | None = None
) -> ScoreTable:
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(place + BINS * bad, minlength=2 * BINS).reshape(2, BINS).astype(np.int64)
    if rng is not None:
        counts = counts + np.rint(rng.normal(0.0, noise_std, counts.shape)).astype(np.int64)
    return ScoreTable(counts=counts, bounds=BOUNDS, noise_std=noise_std)


def by_rows(bad: np.ndarray, scores: np.ndarray, amounts: Amounts, declines: float, reviews: float) -> float:
    """What the rows come to on average: row by row, in a loop, from the scores themselves."""
    total = 0.0
    for outcome, score in zip(bad.tolist(), scores.tolist(), strict=True):
        if score >= declines:
            total += amounts.decline[outcome]
        elif amounts.review is not None and score >= reviews:
            away = amounts.review.finds if outcome else amounts.review.turns_away
            total += amounts.review.cost
            total += away * amounts.decline[outcome] + (1.0 - away) * amounts.approve[outcome]
        else:
            total += amounts.approve[outcome]
    return total / len(bad)


@given(st.integers(0, 2**32 - 1), st.integers(1, BINS - 1), st.integers(1, BINS - 1))
def test_the_lines_add_up_to_what_the_rows_come_to(seed: int, declines: int, reviews: int) -> None:
    bad, scores, _ = rows(np.random.default_rng(seed), 400)
    counted, rule = table(bad, scores), Rule(declines, reviews)
    told = by_rows(bad, scores, AMOUNTS, BOUNDS[declines], BOUNDS[reviews])
    lines = arithmetic(counted, AMOUNTS, rule)
    assert sum(each.amount for each in lines) / counted.rows == pytest.approx(told)
    assert mean_of(counted, cells_of(AMOUNTS, rule, BINS)).value == pytest.approx(told)
    assert over_thresholds(counted, AMOUNTS, reviews)[declines].value == pytest.approx(told)
    parts = {each.part: each.rows for each in lines}
    assert sum(parts[each] for each in list(Part)[:5]) == counted.rows


def test_a_band_above_the_threshold_reviews_nobody() -> None:
    bad, scores, _ = rows(np.random.default_rng(1), 500)
    counted = table(bad, scores)
    lines = {each.part: each for each in arithmetic(counted, AMOUNTS, Rule(3, 9))}
    assert lines[Part.REVIEWED].rows == 0.0
    assert lines[Part.DECLINED_BAD].rows == (bad * (scores >= BOUNDS[3])).sum()


def test_without_review_there_are_four_lines() -> None:
    bad, scores, _ = rows(np.random.default_rng(1), 500)
    plain = Amounts(approve=AMOUNTS.approve, decline=AMOUNTS.decline)
    lines = arithmetic(table(bad, scores), plain, Rule(8))
    assert [each.part for each in lines] == list(Part)[:4]


def test_thresholds_are_where_bins_begin() -> None:
    bad, scores, _ = rows(np.random.default_rng(1), 500)
    counted = table(bad, scores)
    assert [counted.nearest(each) for each in (0.0001, 0.25, 0.27, 0.9999)] == [1, 4, 4, BINS - 1]


COVERED = {0.0: (0.92, 0.98), 4.0: (0.92, 0.98), 12.0: (0.92, 0.98)}


@pytest.mark.parametrize("noise_std", COVERED)
def test_intervals_hold_the_truth_as_often_as_they_say(noise_std: float) -> None:
    """Of amounts, shares and what declining everybody comes to: 600 samples of 1500 rows against 400,000 rows of the same kind."""
    rng = np.random.default_rng(20261126)
    everybody = rows(rng, 400_000)
    rule = Rule(6, 3)
    cells = cells_of(AMOUNTS, rule, BINS)
    whole = table(everybody[0], everybody[1])
    truths = [mean_of(whole, cells).value, share_of(whole, slice(6, BINS)).value]
    held = np.zeros(2)
    for _ in range(600):
        bad, scores, _ = rows(rng, 1500)
        seen = table(bad, scores, noise_std, rng)
        found = [mean_of(seen, cells), share_of(seen, slice(6, BINS))]
        held += [each.low <= truth <= each.high for each, truth in zip(found, truths, strict=True)]
    least, most = COVERED[noise_std]
    assert (held / 600 >= least).all(), held
    assert (held / 600 <= most).all(), held


@pytest.mark.parametrize("noise_std", [0.0, 6.0])
def test_the_difference_of_two_models_holds_whatever_their_scores_share(noise_std: float) -> None:
    rng = np.random.default_rng(7)
    rules = Rule(6, 3)
    cells = cells_of(AMOUNTS, rules, BINS)
    bad, one, other = rows(rng, 400_000)
    truth = mean_of(table(bad, one), cells).value - mean_of(table(bad, other), cells).value
    held = widths = 0.0
    for _ in range(400):
        bad, one, other = rows(rng, 1500)
        found = difference(table(bad, one, noise_std, rng), cells, table(bad, other, noise_std, rng), cells)
        held += found.low <= truth <= found.high
        widths += (found.high - found.low) / 400
    assert held / 400 >= 0.95
    assert widths < 4.0 * 2400.0 * math.sqrt(0.12 / 1500) * 1.96


def test_the_difference_of_opposite_models_is_as_uncertain_as_is_said() -> None:
    """The arrangement that the interval is for: of the bad ones, each model declines just those that the other approves."""
    rng = np.random.default_rng(11)
    plain = Amounts(approve=(0.0, 100.0), decline=(1.0, 0.0))
    cells, held = cells_of(plain, Rule(8), BINS), 0
    for _ in range(600):
        first = rng.random(400) < 0.5
        bad = np.ones(400, dtype=int)
        one, other = np.where(first, 0.9, 0.1), np.where(first, 0.1, 0.9)
        found = difference(table(bad, one), cells, table(bad, other), cells)
        held += found.low <= 0.0 <= found.high
    assert 0.93 <= held / 600 <= 0.97


@pytest.mark.parametrize("noise_std", [0.0, 8.0])
def test_the_best_threshold_says_how_much_it_is_flattered(noise_std: float) -> None:
    """What was chosen on few rows is dearer on others: the estimate takes off a good part of that, and never adds to it. The interval holds nonetheless."""
    rng = np.random.default_rng(99)
    flat = Amounts(approve=(-100.0, 900.0), decline=(0.0, 0.0))
    everybody = rows(rng, 400_000, skill=0.6)
    truths = [each.value for each in over_thresholds(table(everybody[0], everybody[1]), flat, None)]
    looked = expected = real = held = 0.0
    for _ in range(200):
        bad, scores, _ = rows(rng, 300, skill=0.6)
        best = best_threshold(table(bad, scores, noise_std, rng), flat, None, rng=rng)
        looked += best.cost.value / 200
        expected += best.expected / 200
        real += truths[best.declines] / 200
        held += best.cost.low <= truths[best.declines] <= best.cost.high
    assert looked < real
    assert abs(expected - real) < 0.7 * (real - looked)
    assert held / 200 >= 0.93


def test_equal_draws_give_equal_reports() -> None:
    bad, scores, _ = rows(np.random.default_rng(1), 500)
    found = [best_threshold(table(bad, scores), AMOUNTS, 3, rng=np.random.default_rng(5)) for _ in range(2)]
    assert found[0] == found[1]


def test_noise_that_hides_the_rows_is_refused() -> None:
    with pytest.raises(Refused, match="nothing can be said"):
        ScoreTable(counts=np.full((2, BINS), 3), bounds=BOUNDS, noise_std=40.0)
    with pytest.raises(Refused, match="come to 0 rows"):
        ScoreTable(counts=np.zeros((2, BINS), dtype=np.int64), bounds=BOUNDS)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(3, 16\)"):
        ScoreTable(counts=np.ones((3, BINS), dtype=np.int64), bounds=BOUNDS)
    with pytest.raises(UsageError, match="bounds"):
        ScoreTable(counts=np.ones((2, BINS), dtype=np.int64), bounds=BOUNDS[:-1])


def test_an_interval_of_equal_amounts_is_a_point() -> None:
    counted = ScoreTable(counts=np.full((2, BINS), 9), bounds=BOUNDS)
    found = mean_of(counted, np.full((2, BINS), 5.0))
    assert found == Estimate(5.0, pytest.approx(5.0), pytest.approx(5.0))
