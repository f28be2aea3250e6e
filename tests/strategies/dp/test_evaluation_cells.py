"""One vector of blocks: taken apart as it was joined, moved by a row as far as its weight says, and without panels what it was."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.dp.evaluation_cells import ATTRIBUTION_STEPS, EvaluationCells
from strategies.errors import UsageError

CELLS = st.builds(
    EvaluationCells,
    bins=st.integers(1, 5),
    models=st.integers(1, 2),
    groups=st.lists(st.integers(2, 4), max_size=3).map(tuple),
    group_bins=st.integers(1, 4),
    attributed=st.integers(0, 4),
    parts=st.integers(1, 2),
    profile=st.lists(st.integers(2, 6), max_size=3).map(tuple),
)


@given(CELLS, st.integers(0, 2**32 - 1))
def test_blocks_are_joined_as_they_are_taken_apart(cells: EvaluationCells, seed: int) -> None:
    total = np.random.default_rng(seed).integers(0, 1000, cells.dimension) * cells.steps
    found = cells.blocks(total)
    attributions = found.attributions
    joined = cells.joined(
        [
            found.scores // cells.steps,
            *(each // cells.steps for each in found.groups),
            found.part_rows // cells.steps,
            attributions // cells.stress,
            *(each // cells.profile_steps for each in found.profile),
        ]
    )
    np.testing.assert_array_equal(joined, total)
    assert found.scores.size == cells.scored
    first, end = cells.signed
    np.testing.assert_array_equal(total[first:end], attributions.ravel())


@given(CELLS, st.integers(1, 10**6))
def test_the_sensitivity_is_the_root_of_the_blocks_a_row_is_in_times_rows_and_rounded_up(
    cells: EvaluationCells, rows: int
) -> None:
    exact = (rows * cells.profile_steps) ** 2 * cells.weight
    found = Fraction(cells.sensitivity(rows)) ** 2
    assert exact <= found <= exact * (1 + Fraction(1, 10**15))
    judged = cells.models + len(cells.groups) + (0 if not cells.attributed else min(cells.parts, 2))
    assert cells.weight == judged * cells.stress**2 + len(cells.profile)
    # What a profile does to the noise of other counts: it never doubles their variance.
    assert cells.sensitivity(rows) / (rows * cells.steps) <= (judged + 1) ** 0.5 * (1 + 1e-12)


def test_without_panels_it_is_a_vector_of_score_counts() -> None:
    plain = EvaluationCells(32)
    assert (plain.dimension, plain.steps, plain.weight, plain.levels) == (64, 1, 1, 1 << 31)
    assert EvaluationCells(32, attributed=3).steps == ATTRIBUTION_STEPS
    assert [EvaluationCells(8, profile=(3,) * many).stress for many in (0, 1, 2, 4, 5, 21)] == [
        1,
        1,
        2,
        2,
        3,
        5,
    ]
    assert EvaluationCells(32, attributed=3).dimension == 64 + 6
    assert EvaluationCells(32, attributed=3, parts=2).dimension == 64 + 12 + 2
    with pytest.raises(UsageError, match=r"shape \(63,\); this one has 64 cells"):
        plain.blocks(np.zeros(63, dtype=np.int64))
