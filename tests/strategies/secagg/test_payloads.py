"""What is summed up: updates with weights, moments and counts as integers of a ring."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.secagg_codec import encode_frame
from strategies.secagg.fixedpoint import fitting_grid
from strategies.secagg.messages import Frame, MaskedInput
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates, dither_seed
from tests.strategies.secagg.attempt_for_tests import STATEMENT, attempt_of, names
from tests.strategies.secagg.sums_for_tests import MOST_ROWS, SEED, equal_weights, mean_of, updates_of, worst

SITE = names(1)[0]
COHORTS = [3, 4, 64, 128, 1000]


# Weights.


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_weighted_mean_of_the_survivors_is_right_to_the_grid(data: st.DataObject) -> None:
    """Each input is off by less than a step of the grid, so a mean by less than a step of each survivor over the sum of their shares."""
    count = data.draw(st.integers(3, 12))
    weights = {site: data.draw(st.integers(100, 1000)) for site in names(count)}
    bound = data.draw(st.floats(1e-3, 1e3))
    rule = WeightedUpdates(bound, weights)
    source = np.random.Generator(np.random.Philox(data.draw(st.integers(0, 2**32))))
    updates = {site: source.uniform(-bound, bound, 20) for site in weights}
    survivors = data.draw(st.lists(st.sampled_from(names(count)), min_size=3, unique=True))
    total = sum(rule.embed(site, updates[site], dither_seed(site)) for site in survivors)
    exact = sum(weights[s] * updates[s] for s in survivors) / sum(weights[s] for s in survivors)
    step = fitting_grid(bound, count)[0].step
    shares = sum(weights[s] for s in survivors) / max(weights.values())
    off_by = np.abs(rule.mean(np.asarray(total), survivors) - exact)
    assert (off_by <= len(survivors) * step / shares + 1e-12 * bound).all()


def test_the_weighted_mean_of_a_whole_attempt() -> None:
    weights = dict(zip(names(4), (1, 2, 3, 4), strict=True))
    updates = updates_of(4)
    exact = sum(weights[site] * updates[site] for site in updates) / 10
    assert mean_of(weights, updates) == pytest.approx(exact, abs=1e-6)


def test_updates_beyond_the_bound_are_clipped_before_they_are_weighed() -> None:
    """A site of little weight cannot make up for it with a large update."""
    rule = WeightedUpdates(1.0, dict(zip(names(3), (1, 1, 4), strict=True)))
    grid, _ = fitting_grid(1.0, 3)
    light = rule.embed(names(3)[0], np.asarray([100.0, -100.0]), SEED)
    assert grid.value(light) == pytest.approx([0.25, -0.25], abs=grid.step)


# Moments and counts.


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-MOST_ROWS, MOST_ROWS), min_size=4, max_size=4), min_size=3, max_size=9))
def test_moments_are_exact_to_half_a_step_each(rows: list[list[float]]) -> None:
    rule = Moments(len(rows))
    total = np.sum([rule.embed(np.asarray(row)) for row in rows], axis=0)
    pooled = rule.value(rule.ring.decode(rule.ring.encode(total)))
    exact = [math.fsum(column) for column in zip(*rows, strict=True)]
    # A float64 holds a sum of nine such values to 2^-17, if it is large.
    assert (np.abs(pooled - exact) <= len(rows) * 2.0**-21 + np.spacing(np.abs(exact))).all()


def test_counts_of_rows_among_moments_are_exact() -> None:
    rule = Moments(3)
    rows = np.asarray([0.0, 1.0, 123_456_789.0, MOST_ROWS])
    assert np.array_equal(rule.value(rule.embed(rows)), rows)
    third = rule.value(rule.embed(np.asarray([1 / 3])))
    assert 0 < abs(third[0] - 1 / 3) <= 2.0**-21


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**40), min_size=6, max_size=6), min_size=3, max_size=9))
def test_counts_are_exact(cells: list[list[int]]) -> None:
    rule = Counts(len(cells))
    total = np.sum([rule.embed(np.asarray(each, np.int64).reshape(2, 3)) for each in cells], axis=0)
    pooled = rule.ring.decode(rule.ring.encode(total))
    assert pooled.tolist() == [sum(column) for column in zip(*cells, strict=True)]


# Worst cases.


@pytest.mark.parametrize("payload", ["updates", "moments", "counts"])
@pytest.mark.parametrize("cohort", COHORTS)
def test_the_worst_sum_of_a_full_cohort_does_not_wrap(cohort: int, payload: str) -> None:
    ring, ends = worst(cohort)[payload]
    total = ring.zeros(2)
    for _ in range(cohort):
        total += ring.encode(ends)
    assert ring.decode(total).tolist() == [cohort * int(end) for end in ends]
    assert int(ends[0]) * cohort > ring.modulus // 8  # near the end of the ring, so it matters


# What it costs to send.


@pytest.mark.parametrize("dimension", [10_000, 100_000])
def test_an_upload_takes_at_most_four_fifths_of_float32(dimension: int) -> None:
    for cohort in range(3, 65):
        ring = equal_weights(cohort).ring
        packed = bytes(ring.packed_size(dimension))
        sent = MaskedInput(site=SITE, statement=STATEMENT, packed=packed, signature=bytes(64))
        frame = encode_frame(Frame(attempt_of(), sent))
        assert 3 * dimension <= len(frame) <= 0.80 * 4 * dimension


# Dither.

DITHERS = [
    ("tabular/1", "7", "site-0000", "3"),
    ("tabular/2", "7", "site-0000", "3"),
    ("tabular/1", "8", "site-0000", "3"),
    ("tabular/1", "7", "site-0001", "3"),
    ("tabular/1", "7", "site-0000", "4"),
    ("tabular/1", "7", "site-0000"),
    ("tabular/1", "7", "site-0000", "3", ""),
    ("tabular/1", "7site-0000", "3"),
    ("7", "tabular/1", "site-0000", "3"),
]


def test_dither_follows_from_names_and_from_nothing_else() -> None:
    seeds = [dither_seed(*each).reveal() for each in DITHERS]
    assert seeds == [dither_seed(*each).reveal() for each in DITHERS]
    assert len(set(seeds)) == len(DITHERS)


def test_equal_names_round_alike_and_others_do_not() -> None:
    rule, update = equal_weights(4), np.random.Generator(np.random.Philox(1)).uniform(-1, 1, 1000)
    first, again, other = (rule.embed(SITE, update, dither_seed(*DITHERS[which])) for which in (0, 0, 1))
    assert np.array_equal(first, again)
    # Two roundings of a fraction f differ with probability 2 f (1 - f): a third on average, and 15 is its standard deviation of 1000.
    assert 333 - 75 < np.count_nonzero(first != other) < 333 + 75
    assert np.abs(first - other).max() == 1
