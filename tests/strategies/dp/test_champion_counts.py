"""How far one unit moves the counts of one model, and of two that score the same rows: by trying everything there is."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from strategies.dp.evaluation_cells import EvaluationCells

BINS = 2


def vector_of(rows: tuple[tuple[int, ...], ...], models: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The counts of rows, each a label and a bin for each model."""
    counts = np.zeros((models, 2, BINS), dtype=np.int64)
    for label, *bins in rows:
        for model, place in enumerate(bins):
            counts[model, label, place] += 1
    return counts.ravel()


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_unit_moves_the_counts_further_than_the_sensitivity_and_one_moves_them_so_far(
    models: int, most: int
) -> None:
    kinds = list(product(range(2), *[range(BINS)] * models))
    units = [rows for count in range(1, most + 1) for rows in combinations_with_replacement(kinds, count)]
    others = vector_of(tuple(kinds), models)
    squares = {int(((others + vector_of(rows, models) - others) ** 2).sum()) for rows in units}
    bound = Fraction(EvaluationCells(BINS, models).sensitivity(most)) ** 2
    assert max(squares) == models * most**2
    assert max(squares) <= bound <= max(squares) * (1 + Fraction(1, 10**15))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 100, 999, 12345])
def test_the_bound_of_two_models_is_rounded_up(rows: int) -> None:
    assert Fraction(EvaluationCells(BINS, 2).sensitivity(rows)) ** 2 >= 2 * rows**2
    assert EvaluationCells(BINS, 2).sensitivity(rows) == pytest.approx(rows * math.sqrt(2), rel=1e-15)


def test_a_bound_of_one_model_would_be_too_small_for_two() -> None:
    """The very mistake that would halve what is charged."""
    moved = vector_of(((1, 0, 1),), 2)
    assert int((moved**2).sum()) == 2 > EvaluationCells(BINS).sensitivity(1) ** 2
    assert int(np.abs(moved).sum()) == 2


def test_one_model_is_as_it_was() -> None:
    assert EvaluationCells(8) == EvaluationCells(8, 1)
    assert (EvaluationCells(8).dimension, EvaluationCells(8).sensitivity(3)) == (16, 3.0)
    assert EvaluationCells(8, 2).dimension == 32
