"""The likely cause, by what faults and drifts look like in counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strategies.analytics.drift_causes import Cause, Moved, likely_cause
from strategies.analytics.two_histograms import Histogram

USUAL = np.array([5, 10, 20, 25, 20, 10, 6, 3, 1, 0, 2]) * 100
LABELS = (*(f"{each}0 to {each}9" for each in range(10)), "missing")
ROWS = float(USUAL.sum())


def moved(
    counts: Any, *, kind: Any = "number", feature: str = "income", excess: float = 100.0, noise: float = 8.0
) -> Moved:
    window = np.array(counts, dtype=np.float64)
    labels = LABELS if kind == "number" else tuple(f"w{each}" for each in range(window.size))
    return Moved(
        feature=feature,
        kind=kind,
        labels=labels,
        reference=Histogram(USUAL if kind == "number" else np.array([4000, 3000, 2000, 100]), 20.0),
        window=Histogram(window, noise),
        excess=excess,
    )


def cause(*found: Moved, scores: bool = True, outcomes: bool | None = None, places: Any = None) -> Cause:
    return likely_cause(
        found, scores_moved=scores, outcomes_moved=outcomes, places=places or {"branch": True}
    )


@pytest.mark.parametrize(
    ("counts", "mark", "label"),
    [
        (np.append(USUAL[:-1] * 0.7, 3500), "missing", "missing"),
        ([9800, 50, 0, 0, 0, 0, 0, 0, 0, 0, 200], "out of range", "00 to 09"),
        ([500, 900, 1800, 2200, 1800, 900, 500, 200, 100, 1500, 200], "out of range", "90 to 99"),
        ([20, 30, 50, 60, 50, 30, 9700, 20, 10, 0, 200], "one value", "60 to 69"),
    ],
)
def test_a_fault_is_known_by_its_mark(counts: Any, mark: str, label: str) -> None:
    found = cause(moved(counts))
    assert found.kind == "data fault"
    assert (found.features[0].mark, found.features[0].label) == (mark, label)
    assert f"of rows were {label} in the reference" in found.features[0].words


def test_words_that_the_contract_does_not_have_are_a_fault() -> None:
    assert cause(moved([3000, 2000, 1500, 2600], kind="words")).features[0].mark == "unknown words"


@pytest.mark.parametrize("by", [1, 2])
def test_a_population_that_moves_is_no_fault(by: int) -> None:
    """All values a bin or two higher: neighbours move along, to the end of the range as well."""
    found = cause(moved(np.append(np.roll(USUAL[:-1], by), USUAL[-1])))
    assert (found.kind, found.features[0].mark) == ("population shift", None)
    assert "outcomes have not arrived, so whether the model still fits is not known" in found.words


def test_noise_is_no_mark() -> None:
    counts = USUAL * 0.02
    counts[-1] += 14  # 7 % of 200 rows, of which noise alone may be the cause
    assert cause(moved(counts, noise=8.0)).features[0].mark is None


def test_the_cause_is_a_fault_where_faults_hold_half_of_what_moved() -> None:
    fault, shift = np.append(USUAL[:-1] * 0.7, 3500), np.append(np.roll(USUAL[:-1], 1), USUAL[-1])
    mostly = cause(moved(fault, excess=300.0), moved(shift, feature="age", excess=200.0))
    assert mostly.kind == "data fault"
    assert [(each.feature, each.share) for each in mostly.features] == [("income", 0.6), ("age", 0.4)]
    assert (
        cause(moved(fault, excess=100.0), moved(shift, feature="age", excess=200.0)).kind
        == "population shift"
    )


def test_outcomes_alone_are_concept_drift_and_scores_alone_are_unexplained() -> None:
    assert cause(outcomes=True, scores=False).kind == "concept drift"
    alone = cause(outcomes=False)
    assert alone.kind == "unexplained"
    assert "scores moved at branch though no single input did" in alone.words
    both = cause(moved(np.append(np.roll(USUAL[:-1], 1), USUAL[-1])), outcomes=True)
    assert both.kind == "population shift"
    assert "outcomes moved as well" in both.words


def test_a_place_alone_is_said_to_be_alone() -> None:
    found = cause(moved(USUAL[::-1]), places={"branch": True, "north": False, "south": False})
    assert (found.places, found.alone) == (("branch",), True)
    assert found.words.endswith("look at that place's systems first")
    assert not cause(moved(USUAL[::-1]), places={"branch": True}).alone
    assert cause(moved(USUAL[::-1]), places={"branch": True, "north": True}).places == ("branch", "north")
    many = cause(moved(USUAL[::-1]), places={f"place-{each:02}": True for each in range(500)})
    assert "place-09 and 490 more places: income moved" in many.words
