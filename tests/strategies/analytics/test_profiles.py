"""A profile has every row in exactly one bin of each feature, at a site as at a place, whatever the values are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract import Contract
from protos.documents import read_document
from strategies.analytics.profiles import Profile
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Coded, Columns, NumericFeature

NAN = math.nan
TERM = CategoricalFeature("term", ("36", "60"))
PROFILE = Profile(
    features=(
        NumericFeature("amount", 0.0, 1000.0),
        TERM,
        NumericFeature("income", 0.0, 99.0, "log1p", "indicator"),
        NumericFeature("owner", 0.0, 1.0),
    ),
    bins=4,
    booleans=frozenset({"owner"}),
)


def table(*rows: tuple[float, str | None, float, float]) -> Columns:
    amount, term, income, owner = zip(*rows, strict=True)
    return {
        "amount": np.array(amount, dtype=np.float64),
        "term": np.array(term, dtype=object),
        "income": np.array(income, dtype=np.float64),
        "owner": np.array(owner, dtype=np.float64),
    }


def test_counts_are_those_made_by_hand() -> None:
    rows = table(
        (-5.0, "36", 0.0, 0.0), (249.0, "60", 9.0, 1.0), (250.0, "x", NAN, NAN), (1e9, None, 99.0, 1.0)
    )
    assert PROFILE.sizes == (5, 3, 5, 3)
    assert PROFILE.by_feature(PROFILE.counts(rows)) == {
        "amount": (2, 1, 0, 1, 0),
        "term": (1, 1, 2),
        "income": (1, 0, 1, 1, 1),  # log1p(9) is half of log1p(99)
        "owner": (1, 2, 1),
    }


def test_labels_are_in_the_contracts_unit() -> None:
    labels = PROFILE.labels
    assert labels["amount"] == ("0 to 250", "250 to 500", "500 to 750", "750 to 1000", "missing")
    assert labels["income"][1:3] == ("2.16228 to 9", "9 to 30.6228")
    assert labels["owner"] == ("false", "true", "missing")
    assert labels["term"] == ("36", "60", "other")
    assert {name: len(each) for name, each in labels.items()} == dict(zip(labels, PROFILE.sizes, strict=True))


def test_words_that_are_coded_count_as_those_that_are_written() -> None:
    written = table((1.0, "36", 1.0, 1.0), (1.0, "61", 1.0, 1.0), (1.0, None, 1.0, 1.0))
    coded = {**written, "term": Coded(np.array([0, 2, 2], dtype=np.uint16), TERM.vocabulary)}
    assert np.array_equal(PROFILE.counts(written), PROFILE.counts(coded))


ANY_ROW = st.tuples(
    st.floats(),
    st.sampled_from(["36", "60", "", "other", None]),
    st.floats(),
    st.sampled_from([0.0, 1.0, NAN]),
)


@given(st.lists(ANY_ROW, max_size=8), ANY_ROW)
def test_any_row_moves_the_counts_by_exactly_the_square_root_of_the_features(rows, more) -> None:
    with_it = PROFILE.counts(table(*rows, more))
    without = PROFILE.counts(table(*rows)) if rows else np.zeros(PROFILE.dimension)
    moved = with_it - without
    assert set(moved.tolist()) <= {0, 1}
    assert np.linalg.norm(moved) == math.sqrt(len(PROFILE.features))


@given(st.floats(-10.0, 110.0), st.integers(2, 100), st.sampled_from(["none", "log1p"]))
def test_a_number_is_in_the_bin_of_its_unit_value(value: float, bins: int, transform) -> None:
    feature = NumericFeature("x", 0.0, 100.0, transform)
    profile = Profile(features=(feature,), bins=bins)
    columns = {"x": np.array([value])}
    (place,) = np.flatnonzero(profile.counts(columns))
    (unit,) = feature.unit_values(columns)
    assert place / bins <= unit * (1 + 1e-12)
    assert unit <= (place + 1) / bins * (1 + 1e-12)


@pytest.mark.parametrize("bins", [3, 4, 7, 10, 30])
def test_a_bound_that_is_a_whole_number_is_in_the_bin_above_it(bins: int) -> None:
    profile = Profile(features=(NumericFeature("x", 5.0, 5.0 + 12.0 * bins),), bins=bins)
    counts = profile.counts({"x": 5.0 + 12.0 * np.arange(bins)})
    assert counts.tolist() == [1] * bins + [0]


def test_counts_of_another_length_are_refused() -> None:
    with pytest.raises(UsageError, match="has 15 counts; its features have 16 bins"):
        PROFILE.by_feature(np.zeros(15, dtype=np.int64))


def test_a_contract_says_which_numbers_are_booleans() -> None:
    agreed = read_document(
        """
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: outcome, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000]}
  owner: {type: boolean, missing: indicator}
  group: {type: category, vocabulary: [a, b]}
protected: [group]
""",
        Contract,
        "contract.yaml",
    )
    profile = agreed.profile(("owner", "amount"), 10)
    assert profile.sizes == (3, 11)
    with pytest.raises(UsageError, match="protected attribute"):
        agreed.profile(("group",), 10)
