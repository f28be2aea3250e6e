"""Groups: which rows are in which, and which groups are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.analytics.groups import group_codes, group_counts, group_edges, hidden_groups
from strategies.analytics.panels import NOT_GIVEN
from strategies.features import Coded

GROUPS = ("f", "m", NOT_GIVEN)


def test_words_numbers_and_codes_fall_into_the_same_groups() -> None:
    words = np.array(["m", "f", None, "x", ""], dtype=object)
    assert group_codes(words, GROUPS).tolist() == [1, 0, 2, 2, 2]
    coded = Coded(np.array([1, 0, 2], dtype=np.uint16), ("f", "m"))
    assert group_codes(coded, GROUPS).tolist() == [1, 0, 2]
    assert group_codes(np.array([0.0, 1.0, np.nan, 0.5]), ("false", "true", NOT_GIVEN)).tolist() == [
        0,
        1,
        2,
        2,
    ]


def test_a_contract_that_has_the_word_for_missing_has_one_group_of_it() -> None:
    coded = Coded(np.array([1, 0, 2], dtype=np.uint16), (NOT_GIVEN, "m"))
    assert group_codes(coded, ("m", NOT_GIVEN)).tolist() == [0, 1, 1]


@settings(deadline=None)
@given(st.floats(0.005, 0.995), st.integers(1, 20).map(lambda half: 2 * half))
def test_edges_ascend_from_0_to_1_with_the_threshold_in_the_middle(decline_at: float, bins: int) -> None:
    edges = group_edges(decline_at, bins)
    assert (edges[0], edges[bins // 2], edges[-1]) == (0.0, decline_at, 1.0)
    assert (np.diff(edges) > 0).all()


def test_a_row_at_the_threshold_is_declined_and_a_score_that_is_no_number_is_one_half() -> None:
    edges = group_edges(0.3, 4)
    scores = np.array([0.3, np.nextafter(0.3, 0.0), 0.0, 1.0, np.nan])
    counts = group_counts(np.zeros(5, dtype=np.int64), np.zeros(5), scores, edges, 2)
    assert counts.shape == (2, 2, 4)
    assert counts[0, 0].tolist() == [1, 1, 2, 1]
    assert counts.sum() == 5


CASES = {
    "none is small": ({"f": 200, "m": 300, NOT_GIVEN: 0}, (NOT_GIVEN,)),
    "one small group takes the next with it": ({"f": 200, "m": 300, "x": 3, NOT_GIVEN: 0}, ("f", "x", NOT_GIVEN)),
    "two that are small together are not enough": ({"f": 200, "m": 300, "x": 3, "y": 4}, ("f", "x", "y")),
    "two that together have enough hide each other": ({"f": 200, "m": 300, "x": 60, "y": 70}, ("x", "y")),
    "two groups, one small": ({"f": 9, "m": 300}, ("f", "m")),
    "all small": ({"f": 9, "m": 8}, ("f", "m")),
    "no rows at all": ({"f": 0, "m": 0}, ("f", "m")),
}  # fmt: skip


@pytest.mark.parametrize(("sizes", "hidden"), CASES.values(), ids=CASES.keys())
def test_where_counts_are_exact_nothing_that_the_total_tells_is_left(
    sizes: dict[str, float], hidden: tuple[str, ...]
) -> None:
    assert hidden_groups(sizes, 100, 0.0, 8) == hidden
    told = sum(rows for group, rows in sizes.items() if group not in hidden)
    rest = sum(sizes.values()) - told
    assert rest == 0 or rest >= 100 or not told


def test_with_noise_the_lower_end_decides_and_the_total_tells_nothing_certain() -> None:
    # A group of 16 cells with deviation 5 each has one of 20: 39 rows lower at its lower end.
    assert hidden_groups({"f": 138.0, "m": 140.0, "x": 3.0}, 100, 5.0, 16) == ("f", "x")
    assert hidden_groups({"f": 500.0, "m": 500.0, "x": -7.0}, 100, 5.0, 16) == ("x",)
