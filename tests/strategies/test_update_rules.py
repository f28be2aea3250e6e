"""Robust rules: the order of answers is nothing to them, liars move them within what honest sites sent, and each has the numbers that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.aggregation import Contribution, weighted_mean
from strategies.encoding import Vector, vector_digest
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.update_rules import Median, MultiKrum, RobustRule, TrimmedMean, WeightedMean

HUGE = st.floats(-1e300, 1e300)
RULES = [
    pytest.param(TrimmedMean(2), id="trimmed mean"),
    pytest.param(Median(), id="median"),
    pytest.param(MultiKrum(2), id="Multi-Krum"),
]
IN_RANGE = RULES[:2]


def sent(rows: Sequence[Vector] | Vector, first: int = 0) -> list[Contribution]:
    """One contribution a row, of sites named in order."""
    return [
        Contribution(SiteName(f"site-{place + first:02d}"), np.asarray(row, dtype=np.float64))
        for place, row in enumerate(rows)
    ]


@st.composite
def cohorts(draw: st.DrawFn, liars: int) -> tuple[Vector, Vector]:
    """What honest sites send, (h, d), of which `liars` are fewer than half and few enough for Multi-Krum, and what the others do, (liars, d)."""
    honest, d = draw(st.integers(liars + 3, liars + 6)), draw(st.integers(1, 4))
    near = draw(hnp.arrays(np.float64, (honest, d), elements=st.floats(-1e3, 1e3)))
    far = draw(hnp.arrays(np.float64, (liars, d), elements=HUGE))
    return near, far


@pytest.mark.parametrize("rule", RULES)
@given(cohort=cohorts(2), shuffler=st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_change_a_bit(
    rule: RobustRule, cohort: tuple[Vector, Vector], shuffler: Random
) -> None:
    contributions = sent(np.concatenate(cohort))
    shuffled = list(contributions)
    shuffler.shuffle(shuffled)
    assert vector_digest(rule.aggregate(shuffled)) == vector_digest(rule.aggregate(contributions))


@pytest.mark.parametrize("rule", IN_RANGE)
@given(cohort=cohorts(2))
def test_liars_of_any_size_leave_each_coordinate_among_the_honest_values(
    rule: RobustRule, cohort: tuple[Vector, Vector]
) -> None:
    """The breakdown of Yin et al. 2018: as many as are trimmed, or fewer than half under the median."""
    honest, liars = cohort
    found = rule.aggregate(sent(np.concatenate((liars, honest))))
    assert (found >= honest.min(axis=0)).all()
    assert (found <= honest.max(axis=0)).all()


@given(cohort=cohorts(2))
def test_one_liar_more_than_are_trimmed_moves_the_trimmed_mean_as_far_as_it_likes(
    cohort: tuple[Vector, Vector],
) -> None:
    """The control: the bound is the rule's, and not of luck."""
    honest, _ = cohort
    liars = np.full((3, honest.shape[1]), 1e200)
    assert (TrimmedMean(2).aggregate(sent(np.concatenate((liars, honest)))) > 1e190).all()


@given(cohort=cohorts(1))
def test_one_liar_moves_a_mean_as_far_as_it_likes(cohort: tuple[Vector, Vector]) -> None:
    """The control of all rules: McMahan's mean has no breakdown point."""
    honest, _ = cohort
    liar = np.full((1, honest.shape[1]), 1e200)
    assert (WeightedMean().aggregate(sent(np.concatenate((liar, honest)))) > 1e190).all()


@given(cohort=cohorts(2))
def test_multi_krum_is_as_near_to_the_honest_as_blanchard_et_al_prove(
    cohort: tuple[Vector, Vector],
) -> None:
    """Whatever is chosen has a score no higher than an honest site's, so a liar among the chosen is near to n - f - 2 of the others, of which more
    are honest than lie: it is no further from some honest update than the honest ones are from each other, times the root of their number."""
    honest, liars = cohort
    contributions = sent(np.concatenate((liars, honest)))
    near = len(contributions) - 4
    chosen = MultiKrum(2).chosen(contributions)
    assert len(chosen) == near
    spread = max(float(np.linalg.norm(a - b)) for a in honest for b in honest)
    for each in contributions:
        if each.site in chosen:
            distance = min(float(np.linalg.norm(each.vector - other)) for other in honest)
            assert distance <= np.sqrt(near) * spread * (1 + 1e-9)


def test_multi_krum_leaves_out_whoever_is_far_from_all_others() -> None:
    honest = [[0.0, 0.1], [0.1, 0.0], [0.0, 0.0], [0.1, 0.1], [0.05, 0.05]]
    contributions = sent(np.asarray([[9.0, 9.0], [-9.0, 9.0], *honest]))
    assert set(MultiKrum(2).chosen(contributions)) <= {f"site-0{place}" for place in range(2, 7)}
    inside = MultiKrum(2).aggregate(contributions)
    assert (inside >= 0.0).all()
    assert (inside <= 0.1).all()


def test_multi_krum_takes_the_mean_of_those_that_it_chooses() -> None:
    contributions = sent(np.random.default_rng(3).normal(size=(9, 5)))
    rule = MultiKrum(2)
    taken = [each for each in contributions if each.site in rule.chosen(contributions)]
    assert len(taken) == 9 - 2 - 2
    assert np.array_equal(rule.aggregate(contributions), weighted_mean(taken))


def test_equal_scores_count_by_name() -> None:
    assert MultiKrum(1).chosen(sent(np.zeros((5, 2)))) == ("site-00", "site-01")


@given(hnp.arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)))
def test_the_median_is_the_one_that_everybody_knows(rows: Vector) -> None:
    np.testing.assert_allclose(Median().aggregate(sent(rows)), np.median(rows, axis=0), rtol=1e-12, atol=1e-9)


@given(hnp.arrays(np.float64, st.tuples(st.integers(5, 9), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)))
def test_the_trimmed_mean_is_the_mean_of_what_is_left(rows: Vector) -> None:
    left = np.sort(rows, axis=0)[2:-2]
    np.testing.assert_allclose(TrimmedMean(2).aggregate(sent(rows)), left.mean(axis=0), rtol=1e-9, atol=1e-9)


def test_values_at_the_end_of_float64_are_no_way_to_stop_a_round() -> None:
    rows = np.asarray([[1.7e308], [1.7e308], [1.0], [2.0], [3.0], [4.0], [5.0]])
    for rule in (TrimmedMean(2), Median(), MultiKrum(2)):
        assert (rule.aggregate(sent(rows)) <= 5.0).all()
    with pytest.raises(Refused, match="beyond the range of float64"):
        weighted_mean(sent(rows))


@pytest.mark.parametrize(("rule", "fewest"), [(TrimmedMean(2), 5), (Median(), 3), (MultiKrum(2), 7)])
def test_a_rule_has_the_sites_that_it_needs(rule: RobustRule, fewest: int) -> None:
    assert rule.fewest == fewest
    assert rule.aggregate(sent(np.ones((fewest, 2)))).tolist() == [1.0, 1.0]
    with pytest.raises(Refused, match=f"takes at least {fewest} sites; {fewest - 1} have answered"):
        rule.aggregate(sent(np.ones((fewest - 1, 2))))


@pytest.mark.parametrize("make", [lambda: TrimmedMean(0), lambda: MultiKrum(0), lambda: TrimmedMean(-1)])
def test_a_rule_against_nobody_is_none(make: object) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("rule", RULES)
def test_weights_that_differ_are_refused(rule: RobustRule) -> None:
    contributions = [*sent(np.ones((8, 2))), Contribution(SiteName("zenith"), np.ones(2), 3)]
    with pytest.raises(UsageError, match="counts sites alike"):
        rule.aggregate(contributions)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_with_its_site(rule: RobustRule, value: float) -> None:
    rows = np.ones((8, 2))
    rows[3, 1] = value
    with pytest.raises(Refused, match="site-03 sent a value that is NaN or infinite"):
        rule.aggregate(sent(rows))
