import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.aggregation import Contribution, total
from strategies.analytics.moments import moments, scaling_from
from strategies.errors import Refused, UsageError
from strategies.features import STD_FLOOR
from strategies.ids import SiteName

unit_tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.one_of(st.floats(0.0, 1.0), st.just(float("nan"))),
)


@given(unit_tables)
def test_moments_agree_with_numpy(units: np.ndarray) -> None:
    counts, sums, squares = moments(units).reshape(3, -1)
    assert counts.tolist() == (~np.isnan(units)).sum(axis=0).tolist()
    np.testing.assert_allclose(sums, np.nansum(units, axis=0), rtol=1e-13)
    np.testing.assert_allclose(squares, np.nansum(units**2, axis=0), rtol=1e-13)


def test_the_scaling_of_a_split_table_is_that_of_the_whole() -> None:
    source = np.random.default_rng(5)
    units = source.beta(2.0, 5.0, size=(5000, 3))
    units[source.random(units.shape) < 0.1] = np.nan
    parts = [
        Contribution(SiteName(name), moments(part))
        for name, part in zip("abc", np.split(units, [700, 3000]), strict=True)
    ]
    scaling = scaling_from(total(parts))
    np.testing.assert_allclose(scaling.mean, np.nanmean(units, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling.std, np.nanstd(units, axis=0), rtol=1e-10)


@given(unit_tables)
def test_moments_of_unit_values_always_scale_or_name_an_empty_feature(units: np.ndarray) -> None:
    if np.isnan(units).all(axis=0).any():
        with pytest.raises(Refused, match="has no value at any site"):
            scaling_from(moments(units))
    else:
        scaling = scaling_from(moments(units))
        assert all(0.0 <= mean <= 1.0 for mean in scaling.mean)
        assert all(STD_FLOOR <= std <= 0.51 for std in scaling.std)


def test_an_empty_feature_is_named_by_its_number() -> None:
    with pytest.raises(Refused, match="numeric feature number 2 has no value at any site"):
        scaling_from(moments(np.array([[0.5, np.nan]])))


def test_a_constant_feature_gets_the_floor() -> None:
    assert scaling_from(moments(np.full((7, 1), 0.1))).std == (STD_FLOOR,)


def test_no_numeric_feature_means_an_empty_scaling() -> None:
    assert scaling_from(moments(np.empty((4, 0)))).mean == ()


@pytest.mark.parametrize("value", [-0.1, 1.1, np.inf])
def test_a_value_outside_the_unit_range_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"outside \[0, 1\]"):
        moments(np.array([[value]]))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="unit values have shape"):
        moments(np.zeros(3))
    with pytest.raises(UsageError, match="three values a numeric feature"):
        scaling_from(np.zeros(4))


@pytest.mark.parametrize("bad", [[2.0, 3.0, 1.0], [2.0, -1.0, 1.0], [2.0, 1.0, np.nan], [np.nan, 1.0, 1.0]])
def test_sums_that_unit_values_cannot_have_are_refused(bad: list[float]) -> None:
    with pytest.raises(Refused):
        scaling_from(np.array(bad))
