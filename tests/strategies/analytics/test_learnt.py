"""What history says about the next run: bounds that hold, and nothing where there is too little."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.analytics.learnt import (
    LEAST_ASKED,
    LEAST_ROUNDS,
    Absence,
    bound_on_quantile,
    deadline_from,
    enough_with,
    largest_batch,
    largest_minimum,
)
from strategies.errors import UsageError


def test_the_bound_is_above_the_quantile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    ninetieth = np.exp(1.2815515655446004)
    for rounds in (LEAST_ROUNDS, 60, 200):
        held = sum(
            (bound_on_quantile(np.exp(rng.normal(size=rounds))) or 0.0) >= ninetieth for _ in range(2000)
        )
        # Three standard deviations below 95 %.
        assert held / 2000 >= 0.935, rounds


def test_the_bound_is_not_wider_than_it_must_be() -> None:
    values = list(range(1, 201))
    bound = bound_on_quantile(values)
    assert bound is not None
    assert 180 <= bound <= 190


def test_one_round_fewer_than_it_takes_gives_no_bound() -> None:
    assert bound_on_quantile([1.0] * (LEAST_ROUNDS - 1)) is None
    assert bound_on_quantile([1.0] * LEAST_ROUNDS) == 1.0
    assert largest_batch([1.0] * (LEAST_ROUNDS - 1), 60.0) is None


@pytest.mark.parametrize(
    ("bound", "deadline"), [(0.01, 10), (5.0, 10), (5.1, 15), (31.0, 90), (1800.0, 3600), (1801.0, 7200)]
)
def test_deadlines_are_round_and_twice_the_bound(bound: float, deadline: int) -> None:
    assert deadline_from(bound) == deadline


def test_a_site_is_often_away_only_beyond_chance() -> None:
    assert not Absence(LEAST_ASKED - 1, LEAST_ASKED - 1).is_often
    assert Absence(20, 20).is_often
    assert not Absence(20, 5).is_often  # a quarter, just as tolerated
    assert Absence(20, 10).is_often
    assert Absence(40, 0).interval[0] == 0.0
    with pytest.raises(UsageError, match="asked 3 times and missed 4"):
        Absence(3, 4)


def test_enough_sites_is_the_law_of_independent_absences() -> None:
    assert enough_with([0.5, 0.5], 1) == pytest.approx(0.75)
    assert enough_with([0.0, 0.0, 1.0], 3) == 0.0
    rng, absences = np.random.default_rng(1), np.array([0.1, 0.3, 0.02, 0.2, 0.05])
    counted = (rng.random((200_000, 5)) >= absences).sum(axis=1)
    for minimum in range(6):
        assert enough_with(absences, minimum) == pytest.approx((counted >= minimum).mean(), abs=0.005)


def test_the_largest_minimum_is_the_one_that_is_reached_nearly_always() -> None:
    assert largest_minimum([0.01] * 4, 2) == 4
    assert largest_minimum([0.02] * 4, 2) == 3
    assert largest_minimum([0.1, 0.1, 0.1, 0.1], 3) is None
    assert largest_minimum([0.1, 0.1, 0.1, 0.1], 2) == 2


def test_a_batch_keeps_to_the_deadline_with_the_margin() -> None:
    # 0.05 s a unit, a minute, twice over: 600 units.
    assert largest_batch([0.05] * 40, 60.0) == 600
