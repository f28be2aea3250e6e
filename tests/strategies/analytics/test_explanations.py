"""What released attributions say: intervals that hold, ranks that are tied where they must be, agreement that finds what moved, and silence where noise hides all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from strategies.analytics.agreement import agreement
from strategies.analytics.explanations import Explanation, Sums, explanation_of, parts_of, whole_of
from strategies.analytics.panels import AttributionPanel
from tests.strategies.analytics.explanations_for_tests import FEATURES, contributions, panel, shortened

SCALES = (0.6, 0.3, 0.29, 0.0)
CLIP = 2.0


def whole(found: AttributionPanel, noise: float = 0.0) -> Sums:
    return whole_of(found, noise * math.sqrt(16))


def said(found: AttributionPanel, noise: float = 0.0) -> Explanation:
    return explanation_of(whole(found, noise))


def test_exact_sums_give_means_shares_and_order() -> None:
    rows = contributions(1, 5000, SCALES, (0.2, 0.0, -0.1, 0.0))
    counted = shortened(rows, CLIP)
    found = said(panel([rows]))
    assert found.cannot == ""
    assert found.features[0].feature == "debt"
    total = np.abs(counted).mean(axis=0).sum()
    for each in found.features:
        place = FEATURES.index(each.feature)
        assert each.absolute.value == pytest.approx(np.abs(counted[:, place]).mean())
        assert each.signed.value == pytest.approx(counted[:, place].mean())
        assert each.share is not None
        assert each.share.value == pytest.approx(np.abs(counted[:, place]).mean() / total)
        assert each.absolute.low <= each.absolute.value <= each.absolute.high
    names = {each.feature: each for each in found.features}
    assert (names["debt"].best, names["debt"].worst) == (1, 1)
    assert (names["age"].best, names["age"].worst, names["age"].seen) == (4, 4, False)
    assert {(names[each].best, names[each].worst) for each in ("income", "term")} == {(2, 3)}
    assert names["debt"].on_balance == 1
    assert names["age"].on_balance == 0
    assert "age contributes nothing to any row, or less than is counted" in found.cautions
    assert "the order of term and income is open" in found.cautions


@pytest.mark.parametrize("noise", [0.0, 10.0, 40.0])
def test_intervals_hold_the_population_in_at_least_95_of_100_repetitions(noise: float) -> None:
    """Against the population's own figures: 1,000,000 rows before rounding. The bound on sampling makes intervals wider than they need be."""
    means = (0.2, 0.0, -0.1, 0.0)
    population = contributions(99, 1_000_000, SCALES, means)
    unit = population / np.maximum(1.0, np.sqrt(2.0 * (population**2).sum(axis=1, keepdims=True)) / CLIP)
    absolute, signed = np.abs(unit).mean(axis=0), unit.mean(axis=0)
    shares = absolute / absolute.sum()
    held, told, orders = {"absolute": 0, "signed": 0, "share": 0}, 0, 0
    for seed in range(200):
        found = said(panel([contributions(seed, 2000, SCALES, means)], noise_std=noise, seed=seed), noise)
        for each in found.features:
            place = FEATURES.index(each.feature)
            told += 1
            held["absolute"] += each.absolute.low - 1e-12 <= absolute[place] <= each.absolute.high
            held["signed"] += each.signed.low <= signed[place] <= each.signed.high
            assert each.share is not None
            held["share"] += each.share.low - 1e-12 <= shares[place] <= each.share.high
        true_rank = {FEATURES[place]: 1 + rank for rank, place in enumerate(np.argsort(-absolute))}
        orders += all(each.best <= true_rank[each.feature] <= each.worst for each in found.features)
    assert told == 800
    assert {name for name, each in held.items() if each / told < 0.95} == set()
    assert orders >= 190


def test_noise_alone_is_said_to_hide_everything() -> None:
    """In at most 5 of 100 repetitions is one of four features seen that contributes nothing."""
    seen = 0
    for seed in range(400):
        found = said(panel([np.zeros((2000, 4))], noise_std=20.0, seed=seed), 20.0)
        seen += not found.cannot
        assert found.cannot == "" or "hides what every feature contributes" in found.cannot
    assert seen <= 0.05 * 400 + 2 * math.sqrt(400 * 0.05)


def test_rows_that_noise_hides_are_said_to_be_hidden() -> None:
    found = said(panel([contributions(1, 20, SCALES)], noise_std=50.0), 50.0)
    assert (found.features, found.cannot) == ((), "noise hides how many rows were explained")


def test_sums_of_nothing_are_no_figures() -> None:
    found = said(panel([np.zeros((100, 4))]))
    assert found.features == ()
    assert "no feature contributes 0.00781 logits" in found.cannot


def test_contributions_that_reach_the_clip_are_told_of() -> None:
    usual, long = (said(panel([contributions(1, 1000, SCALES)], clip=each)) for each in (8.0, 0.3))
    assert not any("shortened, and strong" in each for each in usual.cautions)
    assert any("Raise evaluation.explanations.clip" in each for each in long.cautions)
    for each in (usual, long):
        assert any("how many rows that shortened is not released" in told for told in each.cautions)


@pytest.mark.parametrize("rows", [-5, 0])
def test_no_rows_are_no_division(rows: int) -> None:
    found = replace(whole(panel([contributions(1, 100, SCALES)])), rows=rows)
    assert explanation_of(found).cannot
    assert agreement(("a", "b"), found, found, sampled=True).cannot


# --- agreement --------------------------------------------------------------------------------------------------------------


def halves(second: tuple[float, ...], noise: float = 0.0, seed: int = 1) -> tuple[Sums, ...]:
    return parts_of(
        panel(
            [contributions(seed, 4000, (0.8, 0.4, 0.15, 0.0)), contributions(seed + 1000, 4000, second)],
            noise_std=noise,
            seed=seed,
        )
    )


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_parts_of_one_population_agree(noise: float) -> None:
    one, other = halves((0.8, 0.4, 0.15, 0.0), noise)
    found = agreement(("a", "b"), one, other, sampled=True)
    assert found.correlation is not None
    assert (found.correlation.value, found.correlation.low) == (1.0, 1.0)
    assert found.compared == ("debt", "income", "term")
    assert found.hidden == ("age",)
    assert found.covered > 0.9
    assert found.deviations is not None
    assert found.deviations < 3


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_planted_instability_is_found_and_named(noise: float) -> None:
    one, other = halves((0.15, 0.4, 0.8, 0.0), noise)
    found = agreement(("a", "b"), one, other, sampled=True)
    assert found.correlation is not None
    assert (found.correlation.value, found.correlation.high) == (-1.0, -1.0)
    assert found.moved in {"debt", "term"}
    assert found.deviations is not None
    assert found.deviations > 10


def test_a_feature_that_vanishes_is_compared_and_named() -> None:
    one, other = halves((0.8, 0.0, 0.15, 0.0), 2.0)
    found = agreement(("a", "b"), one, other, sampled=True)
    assert "income" in found.compared
    assert found.moved == "income"
    assert found.by < 0


def test_correlation_is_kendalls_where_all_is_exact() -> None:
    source = np.random.default_rng(3)
    names = tuple(f"f{each}" for each in range(9))
    one, other = (
        Sums(
            features=names,
            absolute=tuple(source.uniform(0.1, 1.0, 9).tolist()),
            signed=(0.0,) * 9,
            rows=10.0,
            noise_std=0.0,
            row_std=0.0,
            clip=1e-12,
        )
        for _ in range(2)
    )
    found = agreement(("a", "b"), one, other, sampled=False)
    assert found.correlation is not None
    expected = stats.kendalltau(one.absolute, other.absolute).statistic
    assert found.correlation.value == pytest.approx(expected)
    assert (found.correlation.low, found.correlation.high) == pytest.approx((expected, expected))
    assert found.deviations is None
    assert abs(found.by) == pytest.approx(
        max(abs(a - b) / 10 for a, b in zip(one.absolute, other.absolute, strict=True))
    )


def test_lower_end_holds_the_populations_correlation() -> None:
    """Two features that are the same in the population are in either order by chance: that pair stays open."""
    for seed in range(50):
        one, other = parts_of(
            panel(
                [contributions(seed + part, 4000, (0.8, 0.4, 0.4, 0.0)) for part in (0, 500)],
                noise_std=4.0,
                seed=seed,
            )
        )
        found = agreement(("a", "b"), one, other, sampled=True)
        assert found.correlation is not None
        assert found.correlation.low == pytest.approx(1 / 3)
        assert found.correlation.high == 1.0


def test_hidden_features_cannot_be_compared() -> None:
    one, other = halves((0.8, 0.4, 0.15, 0.0), 500.0)
    found = agreement(("a", "b"), one, other, sampled=True)
    assert found.correlation is None
    assert "of 4 features can be seen" in found.cannot


def test_rounds_see_the_same_rows_so_sampling_is_no_difference() -> None:
    rows = contributions(1, 3000, SCALES)
    one, other = (whole(panel([rows], noise_std=3.0, seed=each), 3.0) for each in (1, 2))
    same = agreement(("round 1", "round 2"), one, other, sampled=False)
    wide = agreement(("a", "b"), one, other, sampled=True)
    assert same.deviations is not None
    assert wide.deviations is not None
    assert wide.deviations < same.deviations < 4
