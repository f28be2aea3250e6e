import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import calibration
from sklearn import metrics as sk

from strategies.analytics.histograms import counts_from, metrics_from, score_counts
from strategies.errors import Refused, UsageError


@st.composite
def binned(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores at bin midpoints, labels of both classes, and the number of bins."""
    bins = draw(st.integers(1, 40))
    size = draw(st.integers(2, 60))
    places = draw(st.lists(st.integers(0, bins - 1), min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 1), min_size=size - 2, max_size=size - 2))
    return (np.array(places) + 0.5) / bins, np.array([0, 1, *labels]), bins


@given(binned())
def test_metrics_agree_with_sklearn_on_binned_scores(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    scores, labels, bins = case
    found = metrics_from(score_counts(scores, labels, bins))
    false_rate, true_rate, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    assert (found.rows, found.positives) == (len(labels), labels.sum())
    assert found.auc == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert found.log_loss == pytest.approx(sk.log_loss(labels, scores), rel=1e-12)
    assert found.brier == pytest.approx(sk.brier_score_loss(labels, scores), rel=1e-12)
    assert found.ks == pytest.approx(np.abs(true_rate - false_rate).max(), abs=1e-12)


def test_calibration_agrees_with_sklearn() -> None:
    source = np.random.default_rng(11)
    scores = (np.floor(source.beta(2.0, 3.0, 4000) * 1000) + 0.5) / 1000
    labels = (source.random(4000) < scores**1.3).astype(np.int64)
    found = metrics_from(score_counts(scores, labels, 1000)).calibration
    observed, mean_score = calibration.calibration_curve(labels, scores, n_bins=10)
    np.testing.assert_allclose([group.observed for group in found], observed, rtol=1e-12)
    np.testing.assert_allclose([group.mean_score for group in found], mean_score, rtol=1e-12)
    assert sum(group.rows for group in found) == 4000


def test_a_thousand_bins_are_close_to_the_raw_scores() -> None:
    source = np.random.default_rng(12)
    scores = source.beta(2.0, 5.0, 20_000)
    labels = (source.random(20_000) < scores).astype(np.float64)
    found = metrics_from(score_counts(scores, labels, 1000))
    assert found.auc == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-4)
    assert found.log_loss == pytest.approx(sk.log_loss(labels, scores), abs=1e-3)


def test_counts_are_by_label_and_bin_with_the_last_bin_closed() -> None:
    counts = score_counts(np.array([0.0, 0.24, 0.25, 0.99, 1.0]), np.array([0, 1, 1, 0, 1]), 4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 0, 0, 1], [1, 1, 0, 1]]


@given(binned(), st.integers(0, 60))
def test_counts_add_up_over_sites(case: tuple[np.ndarray, np.ndarray, int], cut: int) -> None:
    scores, labels, bins = case
    parts = score_counts(scores[:cut], labels[:cut], bins) + score_counts(scores[cut:], labels[cut:], bins)
    assert np.array_equal(parts, score_counts(scores, labels, bins))


def test_auc_does_not_overflow_for_many_rows() -> None:
    many = 2**52
    assert metrics_from(np.array([[many, many], [0, many]])).auc == 0.75


def test_a_sum_over_sites_reads_back_as_counts() -> None:
    counts = np.array([[1, 2, 3], [4, 5, 6]])
    assert counts_from(counts.ravel().astype(np.float64), 3).tolist() == counts.tolist()


@pytest.mark.parametrize("bad", [[1.0, -1.0], [1.0, 0.5], [1.0, np.nan], [1.0, 2.0**54], [1.0], [[1.0, 2.0]]])
def test_a_sum_that_is_no_count_is_refused(bad: list[float]) -> None:
    with pytest.raises(Refused, match="score count"):
        counts_from(np.array(bad), 1)


@pytest.mark.parametrize(("row", "name"), [(0, "negative"), (1, "positive")])
def test_metrics_need_both_classes(row: int, name: str) -> None:
    counts = np.ones((2, 5), dtype=np.int64)
    counts[row] = 0
    with pytest.raises(Refused, match=f"no {name} example"):
        metrics_from(counts)


@pytest.mark.parametrize(
    "counts",
    [np.ones(4, np.int64), np.ones((3, 4), np.int64), np.ones((2, 0), np.int64), -np.ones((2, 4), np.int64)],
)
def test_other_shapes_and_negative_counts_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(UsageError, match="score counts have shape"):
        metrics_from(counts)


@pytest.mark.parametrize(
    ("scores", "labels", "bins", "message"),
    [
        ([0.5], [1], 0, "number of score bins is 0"),
        ([0.5], [1, 0], 2, "scores have shape"),
        ([[0.5]], [[1]], 2, "scores have shape"),
        ([1.5], [1], 2, "a score is NaN or lies outside"),
        ([np.nan], [1], 2, "a score is NaN or lies outside"),
        ([0.5], [2], 2, "a label is neither 0 nor 1"),
        ([0.5], [np.nan], 2, "a label is neither 0 nor 1"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(scores: list, labels: list, bins: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_counts(np.array(scores), np.array(labels), bins)
