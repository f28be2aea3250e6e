"""Drift: the stated false-alarm rate holds, a planted shift is found, and distances are told without what chance and noise add."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2_contingency

from strategies.analytics.drift import Drift, drift_between, moved_streams, window_level
from strategies.analytics.two_histograms import Between, Histogram, groups_of
from strategies.errors import Refused, UsageError

NOISE, REFERENCE_NOISE = 8.0, 20.0
"""Of a window: multiplier 2.4 over sqrt(11) cells, epsilon 1.9 at delta 1e-6; of the reference: as a private evaluation of 20,000 rows has."""
SHAPES = {
    "flat": np.full(11, 1.0),
    "skewed": np.exp(-0.8 * np.arange(11)),
    "rare": np.array([1.0] * 5 + [0.003] * 4 + [0.05, 0.01]),
    "words": np.array([5.0, 3.0, 1.0, 0.5, 0.1]),
}


def shares(shape: str) -> np.ndarray:
    return SHAPES[shape] / SHAPES[shape].sum()


def psi(p: np.ndarray, q: np.ndarray) -> float:
    return float(((p - q) * np.log(p / q)).sum())


@cache
def tilted(shape: str, size: float) -> np.ndarray:
    """The shape, leaning to later bins by a PSI of `size`."""
    q = shares(shape)
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2.0
        p = q * np.exp(middle * np.linspace(-1.0, 1.0, q.size))
        p = p / p.sum()
        low, high = (middle, high) if psi(p, q) < size else (low, middle)
    return p


def drawn(rng: np.random.Generator, p: np.ndarray, rows: int, noise: float) -> Histogram:
    return Histogram(rng.multinomial(rows, p) + np.rint(rng.normal(0.0, noise, p.size)), noise)


def compared(reference: Histogram, window: Histogram, tolerated: float = 0.0) -> Drift:
    return drift_between(reference, window, tolerated_psi=tolerated, ordered=True)


def test_exact_counts_of_plenty_give_pearsons_chi_square() -> None:
    """With no noise, and no group that is small, the statistic is that of a table of two samples."""
    rng = np.random.default_rng(1)
    q = shares("flat")
    ours, theirs = rng.multinomial(3000, q), rng.multinomial(9000, q)
    found = drift_between(Histogram(theirs), Histogram(ours), tolerated_psi=0.0, ordered=True)
    expected = chi2_contingency(np.stack((ours, theirs)), correction=False)
    assert found.statistic.value == pytest.approx(expected.statistic, rel=1e-9)
    assert found.statistic.p_value == pytest.approx(expected.pvalue, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["flat", "skewed", "rare"])
@pytest.mark.parametrize(
    ("rows", "noise", "reference_noise"), [(2000, 0.0, 0.0), (2000, 8.0, 20.0), (20_000, 8.0, 20.0)]
)
def test_where_nothing_moves_a_test_errs_no_more_often_than_its_level(
    shape: str, rows: int, noise: float, reference_noise: float
) -> None:
    rng = np.random.default_rng(7)
    q, repeats = shares(shape), 2000
    found = [
        compared(drawn(rng, q, 5000, reference_noise), drawn(rng, q, rows, noise)).statistic.p_value
        for _ in range(repeats)
    ]
    for level in (0.1, 0.01):
        wrong = sum(each <= level for each in found)
        assert binom.sf(wrong - 1, repeats, level) > 1e-4, (level, wrong)


@pytest.mark.slow
def test_200_null_months_raise_alarms_no_more_often_than_is_stated() -> None:
    """A month is a window of twelve streams; all windows of a year share one noisy reference. The rate is stated for a year, so 200 months are 16 of them."""
    rate, horizon, campaigns, rows = 0.2, 12, 8, 2500
    names = [*SHAPES] * 3
    level, rng = window_level(rate, horizon), np.random.default_rng(11)
    alarmed = years = 0
    for _ in range(campaigns):
        for _ in range(200 // horizon):
            references = [drawn(rng, shares(name), 20_000, REFERENCE_NOISE) for name in names]
            months = [
                moved_streams(
                    {
                        str(place): compared(each, drawn(rng, shares(name), rows, NOISE)).statistic.p_value
                        for place, (name, each) in enumerate(zip(names, references, strict=True))
                    },
                    level,
                )
                for _ in range(horizon)
            ]
            alarmed, years = alarmed + any(months), years + 1
    assert years == campaigns * 16
    # At most: with the bound of a union over 144 tests, and of `rare` groups whose variance is taken as more than it is.
    assert binom.sf(alarmed - 1, years, rate) > 0.001, (alarmed, years)
    assert alarmed >= 1


@pytest.mark.parametrize("shape", ["flat", "words", "rare"])
def test_a_shift_of_0_2_is_found_within_two_windows(shape: str) -> None:
    """At the rate of an alarm in 20 horizons of 60 windows, in each of twelve streams."""
    rng, level = np.random.default_rng(3), window_level(0.05, 60) / 12
    q, p = shares(shape), tilted(shape, 0.2)
    found = 0
    for _ in range(100):
        reference = drawn(rng, q, 20_000, REFERENCE_NOISE)
        windows = [compared(reference, drawn(rng, p, 2500, NOISE), 0.02) for _ in range(2)]
        found += any(each.statistic.p_value <= level for each in windows)
    assert found >= 99


@pytest.mark.parametrize("shape", ["flat", "skewed", "rare"])
@pytest.mark.parametrize("rows", [2000, 50_000])
def test_a_drift_that_is_tolerated_alarms_no_more_often_than_is_stated(shape: str, rows: int) -> None:
    rng, q, p, level, repeats = np.random.default_rng(5), shares(shape), tilted(shape, 0.02), 0.05, 400
    wrong = sum(
        compared(drawn(rng, q, 20_000, REFERENCE_NOISE), drawn(rng, p, rows, NOISE), 0.02).statistic.p_value
        <= level
        for _ in range(repeats)
    )
    assert binom.sf(wrong - 1, repeats, level) > 1e-3


@pytest.mark.parametrize("size", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_distances_are_told_without_what_chance_adds_and_their_intervals_cover(
    size: float, noise: float
) -> None:
    rng, q, p, repeats = np.random.default_rng(9), shares("flat"), tilted("flat", size), 300
    found = [compared(drawn(rng, q, 20_000, noise * 2), drawn(rng, p, 3000, noise)) for _ in range(repeats)]
    exact = psi(p, q), jensenshannon(p, q, base=2) ** 2, float(np.abs(np.cumsum(p - q)).max())
    for name, true in zip(("psi", "js", "ks"), exact, strict=True):
        estimates = [getattr(each, name) for each in found]
        covered = sum(each.low <= true + 1e-12 and true <= each.high for each in estimates)
        assert covered >= 0.92 * repeats, (name, covered)
        mean = float(np.mean([each.value for each in estimates]))
        assert abs(mean - true) <= (0.012 if name == "ks" else 0.003), (name, mean, true)


def test_what_a_test_finds_is_what_it_finds_four_times_in_five() -> None:
    rng, level, repeats = np.random.default_rng(2), 1e-3, 300
    q = shares("flat")
    reference = drawn(rng, q, 20_000, REFERENCE_NOISE)
    finds = compared(reference, drawn(rng, q, 2500, NOISE)).statistic.finds(level)
    p = tilted("flat", finds)
    found = [
        compared(drawn(rng, q, 20_000, REFERENCE_NOISE), drawn(rng, p, 2500, NOISE)).statistic.p_value
        <= level
        for _ in range(repeats)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def test_groups_are_chosen_by_the_reference_alone_and_keep_rare_bins_apart() -> None:
    reference = Histogram(np.array([0, 0, 900, 1, 0, 1100, 0, 0, 3]))
    assert groups_of(reference, 2000.0).tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    everything = Histogram(np.array([0, 0, 0, 2000, 0]))
    assert groups_of(everything, 2000.0).tolist() == [0, 0, 0, 1, 2]
    hidden = Histogram(np.array([40, 2000, 50]), 30.0)
    assert groups_of(hidden, 2000.0, apart=False).tolist() == [0, 1, 2]


def test_what_was_never_seen_and_takes_all_is_found() -> None:
    """As in another unit: every row moves to a bin that the reference does not have."""
    reference = Histogram(np.array([0, 1000, 1000, 0, 0]))
    found = drift_between(
        reference, Histogram(np.array([2000, 0, 0, 0, 0])), tolerated_psi=0.02, ordered=True
    )
    assert found.statistic.p_value < 1e-100
    assert found.ks is not None
    assert found.ks.value == pytest.approx(1.0, abs=0.01)


def test_too_few_rows_and_no_traffic_are_said() -> None:
    reference = Histogram(np.array([1000, 1000, 1000]), 5.0)
    for counts, said in (
        ([3, -2, 1], "shows no traffic"),
        ([30, 20, 20], "has about 70 rows"),
        ([-900, 0, 0], "shows no traffic"),
    ):
        with pytest.raises(Refused, match=f"the window {said}"):
            Between.of(reference, Histogram(np.array(counts), 5.0))
    with pytest.raises(Refused, match="the reference shows no traffic"):
        Between.of(Histogram(np.array([0, 1, 2]), 5.0), Histogram(np.array([1000, 1000, 1000]), 5.0))


@pytest.mark.parametrize("noise", [-1.0, math.nan, math.inf])
def test_bad_histograms_are_refused(noise: float) -> None:
    with pytest.raises(UsageError, match="noise of a histogram"):
        Histogram(np.array([1, 2]), noise)
    with pytest.raises(UsageError, match=r"use \(k,\) with k of 2 or more"):
        Histogram(np.array([1]))
    with pytest.raises(UsageError, match="compare counts of the same bins"):
        Between.of(Histogram(np.array([100, 200])), Histogram(np.array([100, 200, 300])))
    with pytest.raises(UsageError, match="tolerated PSI is nan"):
        compared(Histogram(np.array([500, 500])), Histogram(np.array([500, 500])), math.nan)
    with pytest.raises(UsageError, match="false-alarm rate"):
        window_level(1.0, 12)


def test_streams_move_by_holm() -> None:
    p_values = {"a": 0.001, "b": 0.02, "c": 0.6, "d": 0.013}
    assert moved_streams(p_values, 0.05) == ("a", "d", "b")
    assert moved_streams(p_values, 0.01) == ("a",)
    assert moved_streams({"a": 0.013, "b": 0.9}, 0.02) == ()
