import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.errors import Refused, UsageError
from strategies.features import STD_FLOOR, CategoricalFeature, FeatureSpec, NumericFeature, Scaling

AMOUNT = NumericFeature("amount", 0.0, 50.0)
INCOME = NumericFeature("income", 10.0, 110.0, "log1p", "indicator")
TERM = CategoricalFeature("term", ("short", "long"))
SPEC = FeatureSpec((AMOUNT, TERM, INCOME))
NAN = float("nan")
COLUMNS = {
    "amount": np.array([0.0, 25.0, 99.0, -5.0]),
    "income": np.array([10.0, NAN, 110.0, 60.0]),
    "term": np.array(["short", None, "other", "long"], dtype=object),
    "unused": np.array(["x"]),
}


def test_columns_name_the_width() -> None:
    assert SPEC.columns == ("amount", "term=short", "term=long", "term:other", "income", "income:missing")
    assert SPEC.width == 6
    assert SPEC.numeric == (AMOUNT, INCOME)


def test_unit_values_are_clipped_transformed_and_mapped() -> None:
    expected = [[0.0, 0.0], [0.5, NAN], [1.0, 1.0], [0.0, math.log(51.0) / math.log(101.0)]]
    units = SPEC.unit_values(COLUMNS)
    assert units.dtype == np.float64
    np.testing.assert_allclose(units, expected, rtol=1e-15)


def test_encode_matches_the_rows_written_by_hand() -> None:
    rows = SPEC.encode(COLUMNS, Scaling((0.5, 0.25), (0.25, 0.5)))
    fourth = (math.log(51.0) / math.log(101.0) - 0.25) / 0.5
    expected = [
        [-2.0, 1.0, 0.0, 0.0, -0.5, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 1.0, 1.5, 0.0],
        [-2.0, 0.0, 1.0, 0.0, fourth, 0.0],
    ]
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.array(expected, np.float32))


def test_the_identity_scaling_leaves_unit_values() -> None:
    rows = FeatureSpec((AMOUNT,)).encode(COLUMNS, Scaling.identity(1))
    assert rows[:, 0].tolist() == [0.0, 0.5, 1.0, 0.0]


@given(
    st.lists(st.floats(), min_size=1),
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e9),
    st.sampled_from(["none", "log1p"]),
)
def test_unit_values_never_leave_zero_to_one(
    values: list[float], low: float, span: float, transform: str
) -> None:
    feature = NumericFeature("x", low, low + span, transform, "indicator")  # type: ignore[arg-type]
    units = feature.unit_values({"x": np.array(values)})
    assert np.array_equal(np.isnan(units), np.isnan(values))
    present = units[~np.isnan(units)]
    assert ((present >= 0.0) & (present <= 1.0)).all()


@given(st.lists(st.one_of(st.none(), st.sampled_from(["", "short", "long", "x"])), max_size=20))
def test_each_row_has_exactly_one_category(values: list[str | None]) -> None:
    rows = FeatureSpec((TERM,)).encode({"term": np.array(values, dtype=object)}, Scaling((), ()))
    assert rows.shape == (len(values), 3)
    assert (rows.sum(axis=1) == 1.0).all()
    assert rows[:, 0].tolist() == [value == "short" for value in values]


def test_text_arrays_and_whole_numbers_are_columns_too() -> None:
    columns = {"amount": np.array([0, 50]), "term": np.array(["long", ""])}
    rows = FeatureSpec((AMOUNT, TERM)).encode(columns, Scaling.identity(1))
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]


def test_a_missing_value_is_refused_where_the_contract_says_so() -> None:
    with pytest.raises(Refused, match="column amount has 1 missing values; its contract refuses them"):
        SPEC.encode({**COLUMNS, "amount": np.array([1.0, NAN, 2.0, 3.0])}, Scaling.identity(2))


def test_an_absent_column_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="column amount is missing from the table; the nearest is amounts"):
        FeatureSpec((AMOUNT,)).unit_values({"amounts": np.array([1.0])})


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("amount", np.array(["1", "2", "3", "4"], dtype=object), "its contract says number"),
        ("term", np.array([1.0, 2.0, 3.0, 4.0]), "its contract says category"),
        ("amount", np.zeros(3), "the columns differ in length"),
        ("amount", np.zeros((4, 1)), "a column is one-dimensional"),
    ],
)
def test_a_column_of_the_wrong_kind_is_refused(name: str, column: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SPEC.encode({**COLUMNS, name: column}, Scaling.identity(2))


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0), (2.0, 1.0), (NAN, 1.0), (0.0, math.inf), (-1e308, 1e308)]
)
def test_a_range_that_is_no_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="the range of x"):
        NumericFeature("x", low, high)


@pytest.mark.parametrize("vocabulary", [(), ("a", "a"), ("a", "")])
def test_a_vocabulary_has_distinct_words(vocabulary: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="the vocabulary of x"):
        CategoricalFeature("x", vocabulary)


def test_features_are_some_and_distinct() -> None:
    with pytest.raises(UsageError, match="empty"):
        FeatureSpec(())
    with pytest.raises(UsageError, match="'amount' twice"):
        FeatureSpec((AMOUNT, AMOUNT))


def test_scaling_floors_a_constant_column() -> None:
    assert Scaling((0.5,), (0.0,)).std == (STD_FLOOR,)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), ()), ((NAN,), (1.0,)), ((0.0,), (math.inf,)), ((0.0,), (-0.1,))]
)
def test_scaling_is_finite_and_matched(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="the scaling"):
        Scaling(mean, std)


def test_a_scaling_for_other_features_is_refused() -> None:
    with pytest.raises(UsageError, match="for 1 numeric features; this model has 2"):
        SPEC.encode(COLUMNS, Scaling.identity(1))
