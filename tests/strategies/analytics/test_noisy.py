"""Scaling and metrics from noisy sums: right where there is no noise, honest about how uncertain they are where there is, and never at a loss."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from strategies.analytics.moments import moments, scaling_from
from strategies.analytics.noisy import (
    LARGEST_VARIANCE,
    LOGIT_RANGE,
    VARIANCE_FLOOR,
    logit_counts,
    middles_of,
    noisy_metrics,
    noisy_scaling,
)
from strategies.dp.mechanisms import MOMENT_BITS, MomentCells
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.models import sigmoid

BINS = 32
Floats = npt.NDArray[np.float64]


def logits_of(scores: Vector) -> Vector:
    return np.asarray(np.log(scores) - np.log1p(-scores))


def counted(scores: Vector, labels: npt.NDArray[np.int64], bins: int = BINS) -> npt.NDArray[np.int64]:
    return logit_counts(logits_of(scores), labels, bins)


# --- counts of scores -------------------------------------------------------------------------------------------------


@given(
    logits=st.lists(st.floats(-50, 50), min_size=1, max_size=50),
    bins=st.integers(1, 40),
    number=st.integers(0, 999),
)
def test_every_row_is_counted_once_under_its_label_in_the_bin_of_its_logit(
    logits: list[float], bins: int, number: int
) -> None:
    labels = np.random.default_rng(number).integers(0, 2, size=len(logits))
    counts = logit_counts(np.array(logits), labels, bins)
    assert counts.shape == (2, bins)
    assert counts.sum(axis=1).tolist() == [int((labels == 0).sum()), int((labels == 1).sum())]
    edges = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, bins + 1)[1:-1]
    near_an_edge = np.abs(np.subtract.outer(np.array(logits), edges)).min(initial=1.0) < 1e-9
    if not near_an_edge:
        expected, _, _ = np.histogram2d(
            labels, np.searchsorted(edges, logits), bins=[np.arange(3) - 0.5, np.arange(bins + 1) - 0.5]
        )
        assert np.array_equal(counts, expected)


def test_certain_scores_are_in_the_outer_bins_and_what_is_no_number_in_the_middle() -> None:
    logits = np.array([-math.inf, math.inf, -800.0, math.nan, 0.0])
    counts = logit_counts(logits, np.zeros(5), 4)
    assert counts[0].tolist() == [2, 0, 2, 1]


def test_the_middle_of_a_bin_is_in_it() -> None:
    middles = middles_of(BINS)
    counts = logit_counts(logits_of(middles), np.ones(BINS), BINS)
    assert counts[1].tolist() == [1] * BINS


# --- metrics without noise --------------------------------------------------------------------------------------------


def scored(rows: int, seed: int = 0, shift: float = 1.5) -> tuple[Vector, npt.NDArray[np.int64]]:
    """Calibrated scores of two overlapping classes, in a fifth of positives."""
    source = np.random.default_rng(seed)
    labels = (source.uniform(size=rows) < 0.2).astype(np.int64)
    evidence = source.normal(size=rows) + shift * labels
    return sigmoid(shift * (evidence - shift / 2) - math.log(4)), labels


def test_without_noise_metrics_are_exact_for_scores_in_the_middle_of_their_bins() -> None:
    scores, labels = scored(5000)
    place = counted(scores, np.zeros(len(scores), dtype=np.int64))[0]
    middles = np.repeat(middles_of(BINS), place)
    labels = labels[np.argsort(scores)]
    found = noisy_metrics(counted(middles, labels), 0.0)
    false_rate, true_rate, _ = sk.roc_curve(labels, middles, drop_intermediate=False)
    assert (found.rows, found.positives) == (5000, labels.sum())
    assert found.auc == pytest.approx(sk.roc_auc_score(labels, middles), abs=1e-12)
    assert found.log_loss == pytest.approx(sk.log_loss(labels, middles), rel=1e-9)
    assert found.brier == pytest.approx(sk.brier_score_loss(labels, middles), rel=1e-9)
    assert found.ks == pytest.approx(np.abs(true_rate - false_rate).max(), abs=1e-12)


def test_without_noise_metrics_differ_from_the_exact_ones_by_binning_only() -> None:
    scores, labels = scored(50_000)
    found = noisy_metrics(counted(scores, labels), 0.0)
    assert found.auc == pytest.approx(sk.roc_auc_score(labels, scores), abs=0.002)
    assert found.log_loss == pytest.approx(sk.log_loss(labels, scores), abs=0.002)
    assert found.brier == pytest.approx(sk.brier_score_loss(labels, scores), abs=0.001)


def test_bins_in_the_logit_tell_scores_of_rare_events_apart_where_even_ones_do_not() -> None:
    """Why they are: all scores below 1/32 would be in one bin, and the area would be a half."""
    scores, labels = scored(50_000)
    scores = sigmoid(np.log(scores) - np.log1p(-scores) - 3.0)
    exact = sk.roc_auc_score(labels, scores)
    assert noisy_metrics(counted(scores, labels), 0.0).auc == pytest.approx(exact, abs=0.005)
    assert abs(sk.roc_auc_score(labels, np.floor(scores * BINS)) - exact) > 0.03


def test_calibrated_scores_are_seen_to_be() -> None:
    scores, labels = scored(200_000)
    groups = noisy_metrics(counted(scores, labels), 0.0).calibration
    assert len(groups) >= 5
    assert sum(group.rows for group in groups) == 200_000
    for group in groups:
        assert group.observed == pytest.approx(group.mean_score, abs=0.03)


# --- how uncertain ----------------------------------------------------------------------------------------------------


def laws(shift: float) -> tuple[Floats, Floats]:
    """Probabilities of the bins for rows of either class."""
    scores, labels = scored(400_000, seed=9, shift=shift)
    counts = counted(scores, labels)
    negative, positive = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float64)
    return negative, positive


def area(negative: Floats, positive: Floats) -> float:
    return float((positive * (np.cumsum(negative) - negative / 2)).sum())


@pytest.mark.parametrize("noise", [0.0, 3.0, 12.0])
@pytest.mark.parametrize("rows", [(400, 100), (2000, 2000), (5000, 250)])
@pytest.mark.parametrize("shift", [0.3, 1.5])
def test_the_interval_holds_the_true_area_about_nineteen_times_in_twenty(
    noise: float, rows: tuple[int, int], shift: float
) -> None:
    source, (negative, positive) = np.random.default_rng(5), laws(shift)
    true, covered, below, tries = area(negative, positive), 0, 0, 0
    for _ in range(600):
        counts = np.stack(
            [source.multinomial(rows[0], negative), source.multinomial(rows[1], positive)]
        ) + np.rint(source.normal(0.0, noise, size=(2, BINS))).astype(np.int64)
        try:
            found = noisy_metrics(counts, noise)
        except Refused:
            continue
        tries += 1
        assert found.auc_interval is not None
        low, high = found.auc_interval
        covered += low <= true <= high
        below += high < true
    if tries < 500:
        assert min(rows) < 4.0 * noise * math.sqrt(BINS)
        return
    assert 0.92 <= covered / tries <= 0.995
    assert below / tries < 0.06


def test_intervals_that_left_the_noise_out_would_not_hold_it() -> None:
    """The control."""
    source, (negative, positive) = np.random.default_rng(5), laws(1.5)
    true, covered = area(negative, positive), 0
    for _ in range(300):
        counts = np.stack([source.multinomial(2000, each) for each in (negative, positive)])
        found = noisy_metrics(counts + np.rint(source.normal(0.0, 12.0, (2, BINS))).astype(np.int64), 0.0)
        assert found.auc_interval is not None
        covered += found.auc_interval[0] <= true <= found.auc_interval[1]
    assert covered / 300 < 0.8


@pytest.mark.parametrize("rows", [100, 1000, 10_000])
def test_more_rows_and_less_noise_narrow_the_interval(rows: int) -> None:
    def width(rows: int, noise: float) -> float:
        counts = np.stack([np.rint(rows * each) for each in laws(1.5)]).astype(np.int64)
        found = noisy_metrics(counts, noise)
        assert found.auc_interval is not None
        assert found.auc_interval[0] < found.auc < found.auc_interval[1]
        return found.auc_interval[1] - found.auc_interval[0]

    assert width(rows, 0.0) < width(rows, 1.0) < width(rows, 3.0)
    assert width(10 * rows, 1.0) < width(rows, 1.0)


# --- noise that makes counts impossible -------------------------------------------------------------------------------

counts_of_any_kind = st.lists(st.integers(-2000, 5000), min_size=4, max_size=64).map(
    lambda values: np.array(values[: len(values) // 2 * 2], dtype=np.int64).reshape(2, -1)
)


@given(counts=counts_of_any_kind, noise=st.floats(0.0, 3000.0))
def test_whatever_noise_has_made_of_counts_metrics_are_possible_or_refused(
    counts: npt.NDArray[np.int64], noise: float
) -> None:
    try:
        found = noisy_metrics(counts, noise)
    except Refused:
        assert min(counts.sum(axis=1)) <= max(0.0, 3.0 * noise * math.sqrt(counts.shape[1]) + 1e-6)
        return
    assert 0.0 <= found.auc <= 1.0
    assert found.auc_interval is not None
    low, high = found.auc_interval
    assert 0.0 <= low <= found.auc <= high <= 1.0
    assert 0.0 <= found.ks <= 1.0
    assert 0.0 <= found.brier <= 1.0
    assert 0.0 <= found.log_loss < math.inf
    assert 0 < found.positives < found.rows
    for group in found.calibration:
        assert group.rows > 0
        assert 0.0 <= group.observed <= 1.0
        assert 0.0 < group.mean_score < 1.0


def test_classes_that_lie_apart_have_an_area_of_one_also_where_noise_makes_more_of_it() -> None:
    counts = np.zeros((2, BINS), dtype=np.int64)
    counts[0, 2], counts[1, 20] = 1000, 1000
    counts[1, 0], counts[0, 30] = -40, -40
    found = noisy_metrics(counts, 5.0)
    assert (found.auc, found.auc_interval) == (1.0, (1.0, 1.0))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("noise", [0.0, 10.0])
def test_a_class_that_the_noise_hides_is_refused_with_what_to_do(label: int, noise: float) -> None:
    counts = np.full((2, BINS), 100, dtype=np.int64)
    counts[label] = 0
    counts[label, 0] = int(3 * noise * math.sqrt(BINS))
    with pytest.raises(Refused, match="hold out more rows"):
        noisy_metrics(counts, noise)
    counts[label, 0] += 1
    noisy_metrics(counts, noise)


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 0), (1, 2, 3)])
def test_counts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="use \\(2, bins\\)"):
        noisy_metrics(np.ones(shape, dtype=np.int64), 1.0)


def test_groups_that_may_be_noise_alone_are_not_shown() -> None:
    counts = np.zeros((2, BINS), dtype=np.int64)
    counts[:, :4] = 1000
    counts[1, 16:] = np.random.default_rng(1).integers(-20, 20, size=16)
    (group,) = noisy_metrics(counts, 10.0).calibration
    assert group.rows == 8000


# --- scaling ----------------------------------------------------------------------------------------------------------


def pooled(units: Floats, optional: tuple[bool, ...], noise: float = 0.0, seed: int = 0) -> Vector:
    """Moments as the centre reads them, with noise on each."""
    cells = MomentCells(optional)
    total = cells.sums(units) * 2.0 ** (-2 * MOMENT_BITS)
    return np.asarray(total + np.random.default_rng(seed).normal(0.0, noise, size=total.shape))


def units_of(rows: int, seed: int = 0) -> Floats:
    """Three features, of which the second may be missing."""
    source = np.random.default_rng(seed)
    units = np.column_stack([source.beta(2, 5, rows), source.uniform(size=rows), source.beta(0.5, 0.5, rows)])
    units[source.uniform(size=rows) < 0.3, 1] = np.nan
    return units


OPTIONAL = (False, True, False)


@pytest.mark.parametrize("rows", [2, 50, 5000])
def test_without_noise_the_scaling_is_the_exact_one_within_the_steps_that_values_are_read_in(
    rows: int,
) -> None:
    units = units_of(rows)
    found, exact = noisy_scaling(pooled(units, OPTIONAL), OPTIONAL, 0.0), scaling_from(moments(units))
    np.testing.assert_allclose(found.mean, exact.mean, atol=2.0**-11 + 1e-12)
    np.testing.assert_allclose(found.std, np.maximum(exact.std, math.sqrt(VARIANCE_FLOOR)), atol=2.0**-9)


def test_with_noise_that_is_small_beside_the_rows_the_scaling_is_close() -> None:
    units = units_of(20_000)
    found, exact = noisy_scaling(pooled(units, OPTIONAL, 20.0), OPTIONAL, 20.0), scaling_from(moments(units))
    np.testing.assert_allclose(found.mean, exact.mean, atol=0.006)
    np.testing.assert_allclose(found.std, exact.std, atol=0.01)


def test_a_spread_that_the_noise_hides_is_taken_to_be_as_large_as_the_noise() -> None:
    units = np.full((1000, 1), 0.3)
    assert noisy_scaling(pooled(units, (False,)), (False,), 0.0).std == (math.sqrt(VARIANCE_FLOOR),)
    for noise in (10.0, 100.0):
        std = noisy_scaling(pooled(units, (False,)), (False,), noise).std[0]
        assert std == pytest.approx(math.sqrt(noise / 1000))


@given(
    optional=st.lists(st.booleans(), min_size=1, max_size=5).map(tuple),
    data=st.data(),
    noise=st.floats(0.0, 1e6),
)
def test_whatever_noise_has_made_of_moments_they_give_a_scaling(
    optional: tuple[bool, ...], data: st.DataObject, noise: float
) -> None:
    size = MomentCells(optional).dimension
    total = np.array(data.draw(st.lists(st.floats(-1e9, 1e9), min_size=size, max_size=size)))
    found = noisy_scaling(total, optional, noise)
    assert len(found.mean) == len(optional)
    assert all(0.0 <= each <= 1.0 for each in found.mean)
    assert all(math.sqrt(VARIANCE_FLOOR) <= each <= math.sqrt(LARGEST_VARIANCE) for each in found.std)


def test_nobody_gives_the_middle_and_the_widest_spread_that_noise_leaves() -> None:
    found = noisy_scaling(np.zeros(3), (False,), 50.0)
    assert (found.mean, found.std) == ((0.5,), (0.5,))


def test_a_missing_value_counts_for_its_own_feature_only() -> None:
    units = units_of(4000)
    units[:, 1] = np.where(np.isnan(units[:, 1]), np.nan, 0.9)
    found = noisy_scaling(pooled(units, OPTIONAL), OPTIONAL, 0.0)
    assert found.mean[1] == pytest.approx(0.9, abs=2.0**-10)


@pytest.mark.parametrize("size", [0, 6, 9])
def test_moments_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="3 features take 8 values"):
        noisy_scaling(np.zeros(size), OPTIONAL, 1.0)
