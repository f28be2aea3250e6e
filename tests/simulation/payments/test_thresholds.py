"""F1, and the threshold that gives the highest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from simulation.payments.thresholds import best_threshold, f1

DECISIONS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30)


@given(DECISIONS)
def test_f1_is_the_known_one(rows: list[tuple[int, bool]]) -> None:
    flagged, fraud = np.array([score > 3 for score, _ in rows]), np.array([bad for _, bad in rows])
    assert abs(f1(flagged, fraud) - f1_score(fraud, flagged, zero_division=1.0)) < 1e-12


@given(DECISIONS)
def test_no_other_threshold_has_a_higher_f1(rows: list[tuple[int, bool]]) -> None:
    scores, fraud = np.array([score / 6 for score, _ in rows]), np.array([bad for _, bad in rows])
    chosen = f1(scores >= best_threshold(scores, fraud), fraud)
    assert chosen >= max(f1(scores >= each, fraud) for each in [*scores, 2.0]) - 1e-12


def test_who_knows_no_fraud_flags_nothing() -> None:
    scores = np.array([0.1, 0.9])
    assert not (scores >= best_threshold(scores, np.array([False, False]))).any()


def test_a_threshold_lies_halfway_to_the_next_score() -> None:
    assert best_threshold(np.array([0.9, 0.5, 0.1]), np.array([True, False, False])) == 0.7
