"""How models are measured and compared, against scikit-learn and DeLong's interval."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from client.personal.measures import Comparison, _Ranking, compare, level
from client.personal.parts import Rows
from strategies.encoding import Vector
from strategies.models import sigmoid

N = 2000


def rows_of(y: Vector, unit: np.ndarray | None = None, *, positive: float = 1.0) -> Rows:
    return Rows(
        name="held-out",
        x=np.zeros((len(y), 1), dtype=np.float32),
        y=y,
        unit=np.arange(len(y)) if unit is None else unit,
        importance=np.where(y > 0.5, positive, 1.0),
    )


def drawn(seed: int, n: int = N) -> tuple[Vector, Vector, Vector]:
    """Labels, the scores that they were drawn from, and others that know less."""
    source = np.random.default_rng(seed)
    logits = source.normal(-1, 1.5, n)
    y = (source.uniform(size=n) < sigmoid(logits)).astype(np.float64)
    return y, sigmoid(logits), sigmoid(logits + source.normal(0, 1.0, n))


def compared(seed: int, *, looks: int = 1, n: int = N) -> Comparison:
    y, good, worse = drawn(seed, n)
    return compare({"a": good, "b": worse}, rows_of(y), seed=1, looks=looks)


def test_auc_and_loss_are_those_of_scikit_learn() -> None:
    y, good, worse = drawn(1)
    found = compare({"good": good, "coarse": np.round(worse, 1) * 0.98 + 0.01}, rows_of(y), seed=1)
    for name, scores in (("good", good), ("coarse", np.round(worse, 1) * 0.98 + 0.01)):
        assert found.measured[name].auc.value == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
        assert found.measured[name].loss.value == pytest.approx(log_loss(y, scores), abs=1e-9)
        assert found.measured[name].mean_score == pytest.approx(scores.mean())


def test_a_drawn_auc_is_that_of_weighted_rows() -> None:
    y, _, worse = drawn(2)
    weight = np.random.default_rng(3).integers(0, 4, N).astype(np.float64)
    assert _Ranking(np.round(worse, 1), y).auc(weight) == pytest.approx(
        roc_auc_score(y, np.round(worse, 1), sample_weight=weight), abs=1e-12
    )


def test_class_weights_count_in_the_loss() -> None:
    y, good, _ = drawn(1)
    found = compare({"a": good}, rows_of(y, positive=3.0), seed=1).measured["a"].loss.value
    terms = np.where(y > 0.5, -3.0 * np.log(good), -np.log(1 - good))
    assert found == pytest.approx(terms.mean())


def _delong(y: Vector, a: Vector, b: Vector) -> float:
    """Standard error of the difference of two AUCs on the same rows (DeLong et al. 1988, equation 5)."""
    structure = []
    for scores in (a, b):
        positive, negative = scores[y > 0.5], scores[y < 0.5]
        wins = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
        structure.append((wins.mean(axis=1), wins.mean(axis=0)))
    (pa_, na), (pb, nb) = structure
    return float(np.sqrt(np.var(pa_ - pb, ddof=1) / len(pa_) + np.var(na - nb, ddof=1) / len(na)))


def test_the_interval_of_a_difference_in_auc_is_delongs() -> None:
    y, good, worse = drawn(4)
    gain = compare({"a": good, "b": worse}, rows_of(y), seed=1).gain("a", "b").auc
    error = (gain.high - gain.low) / 2 / 1.959964
    assert error == pytest.approx(_delong(y, good, worse), rel=0.12)


def test_two_models_that_are_equally_good_are_told_apart_as_often_as_was_said() -> None:
    """The labels come of both models' mean, so neither is better; at 95 % one in twenty is called so, half of them for either."""
    called = 0
    for seed in range(200):
        source = np.random.default_rng(1000 + seed)
        common, first, second = (
            source.normal(-1, 1.2, 400),
            source.normal(0, 0.7, 400),
            source.normal(0, 0.7, 400),
        )
        y = (source.uniform(size=400) < sigmoid(common)).astype(np.float64)
        scores = {"a": sigmoid(common + first), "b": sigmoid(common + second)}
        gain = compare(scores, rows_of(y), seed=seed, draws=150).gain("a", "b")
        called += gain.loss.is_above_zero
    assert called <= 12  # 5 expected, binomial: more than 12 has a chance below 0.2 %


def test_a_model_that_knows_more_is_found_to() -> None:
    gain = compared(5).gain("a", "b")
    assert gain.is_better
    assert not gain.is_worse
    assert compared(5).gain("b", "a").is_worse


def test_copies_of_rows_of_one_customer_tell_no_more_than_the_customer() -> None:
    y, good, worse = drawn(6, 500)
    once = compare({"a": good, "b": worse}, rows_of(y), seed=1).gain("a", "b").loss
    rows = rows_of(np.repeat(y, 4), np.repeat(np.arange(500), 4))
    copied = compare({"a": np.repeat(good, 4), "b": np.repeat(worse, 4)}, rows, seed=1).gain("a", "b").loss
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high))


def test_more_looks_ask_for_more() -> None:
    assert [level(each) for each in (1, 2, 5)] == [0.95, 0.975, 0.99]
    once, often = compared(7).gain("a", "b").loss, compared(7, looks=10).gain("a", "b").loss
    assert often.value == once.value
    assert (often.high - often.low) / (once.high - once.low) == pytest.approx(2.807034 / 1.959964, rel=1e-5)


def test_equal_arguments_give_equal_results() -> None:
    assert compared(8).gain("a", "b") == compared(8).gain("a", "b")
