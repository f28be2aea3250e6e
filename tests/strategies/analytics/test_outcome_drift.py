"""Outcomes that have arrived: concept drift at equal scores, and metrics with intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from strategies.analytics.outcome_drift import OutcomeCounts, outcome_drift, performance
from strategies.errors import Refused, UsageError

BINS = 20
MIDDLES = (np.arange(BINS) + 0.5) / BINS
USUAL = np.exp(-(((np.arange(BINS) - 7) / 4.0) ** 2))
NOISE = 5.0


def drawn(
    rng: np.random.Generator,
    rows: int,
    outcomes: np.ndarray,
    noise: float = NOISE,
    scores: np.ndarray = USUAL,
) -> OutcomeCounts:
    by_bin = rng.multinomial(rows, scores / scores.sum())
    ones = rng.binomial(by_bin, outcomes)
    counts = np.stack((by_bin - ones, ones))
    return OutcomeCounts(counts + np.rint(rng.normal(0.0, noise, counts.shape)), noise)


def test_exact_metrics_are_those_of_rows_at_the_middle_of_their_bins() -> None:
    window = drawn(np.random.default_rng(1), 3000, MIDDLES, 0.0)
    found = performance(window, window, "even", tolerated_drop=0.0)
    labels = np.repeat([0, 1], window.counts.sum(axis=1).astype(int))
    scores = np.concatenate([np.repeat(MIDDLES, each.astype(int)) for each in window.counts])
    assert found["auc"].window.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["log_loss"].window.value == pytest.approx(log_loss(labels, scores), abs=1e-12)
    assert found["brier"].window.value == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    assert found["calibration"].window.value == pytest.approx(float(scores.mean() - labels.mean()), abs=1e-12)


def test_intervals_of_metrics_cover_what_many_rows_without_noise_say() -> None:
    rng = np.random.default_rng(2)
    true = performance(*[drawn(rng, 2_000_000, MIDDLES, 0.0)] * 2, "even", tolerated_drop=0.0)
    reference, repeats = drawn(rng, 20_000, MIDDLES), 200
    found = [
        performance(reference, drawn(rng, 2000, MIDDLES), "even", tolerated_drop=0.0) for _ in range(repeats)
    ]
    for name, metric in true.items():
        covered = sum(
            each[name].window.low <= metric.window.value <= each[name].window.high for each in found
        )
        assert covered >= 0.91 * repeats, (name, covered)


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_where_outcomes_do_not_move_the_test_errs_at_its_level(noise: float) -> None:
    rng, level, repeats = np.random.default_rng(3), 0.05, 400
    wrong = sum(
        outcome_drift(
            drawn(rng, 20_000, MIDDLES, 2 * noise), drawn(rng, 3000, MIDDLES, noise), tolerated_psi=0.0
        ).statistic.p_value
        <= level
        for _ in range(repeats)
    )
    assert binom.sf(wrong - 1, repeats, level) > 1e-3, wrong


def test_scores_that_move_alone_are_no_concept_drift_and_outcomes_that_move_are() -> None:
    rng = np.random.default_rng(4)
    reference = drawn(rng, 20_000, MIDDLES)
    others = np.exp(-(((np.arange(BINS) - 11) / 4.0) ** 2))
    shifted = outcome_drift(reference, drawn(rng, 4000, MIDDLES, scores=others), tolerated_psi=0.02)
    assert shifted.statistic.p_value > 0.001
    worse = np.clip(MIDDLES + 0.12, 0.0, 1.0)
    moved = outcome_drift(reference, drawn(rng, 4000, worse), tolerated_psi=0.02)
    assert moved.statistic.p_value < 1e-6
    assert all(
        now > before for now, before in zip(moved.observed, moved.expected, strict=True) if before < 0.8
    )
    metrics = performance(reference, drawn(rng, 4000, worse), "even", tolerated_drop=0.02)
    assert metrics["calibration"].p_value < 1e-6


def test_a_model_that_no_longer_ranks_is_worse_by_its_auc() -> None:
    rng = np.random.default_rng(5)
    reference, blind = drawn(rng, 20_000, MIDDLES), np.full(BINS, 0.4)
    found = performance(reference, drawn(rng, 4000, blind), "even", tolerated_drop=0.02)
    assert found["auc"].p_value < 1e-9
    assert found["auc"].window.high < found["auc"].reference.low


def test_few_outcomes_and_other_bins_are_refused() -> None:
    rng = np.random.default_rng(6)
    reference = drawn(rng, 20_000, MIDDLES)
    with pytest.raises(Refused, match="wait until more outcomes have arrived"):
        outcome_drift(reference, drawn(rng, 5, MIDDLES), tolerated_psi=0.0)
    with pytest.raises(Refused, match="below 100 they say nothing"):
        outcome_drift(reference, drawn(rng, 80, MIDDLES, 0.0), tolerated_psi=0.0)
    with pytest.raises(UsageError, match="compare counts of the same bins"):
        performance(reference, OutcomeCounts(np.full((2, 10), 100)), "even", tolerated_drop=0.0)
    with pytest.raises(UsageError, match=r"use \(2, score bins\)"):
        OutcomeCounts(np.zeros((3, 4)))
