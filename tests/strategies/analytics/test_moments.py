import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.aggregation import Contribution, total
from strategies.analytics.moments import fault_of, moments, robust_scaling, scaling_from
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


# What a site cannot have counted, and what one that lies can do where sites count alike.


@given(unit_tables)
def test_moments_of_rows_have_no_fault(units: np.ndarray) -> None:
    assert fault_of(moments(units)) is None


def test_moments_that_were_added_up_row_by_row_have_no_fault() -> None:
    units = np.random.default_rng(3).random(100_000)
    for values in (units, np.full_like(units, 0.1), units * 1e-160):
        one_by_one = [float(np.cumsum(each)[-1]) for each in (values, values * values)]
        assert fault_of(np.array([len(values), *one_by_one])) is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([1e15, 0.0, 0.0], "count 1e\\+15, .* and counts of rows are whole numbers from 0 to 2147483648"),
        ([2.0**31 + 1, 0.0, 0.0], "counts of rows are whole numbers"),
        ([-1.0, 0.0, 0.0], "counts of rows are whole numbers"),
        ([2.5, 1.0, 0.5], "counts of rows are whole numbers"),
        ([np.nan, 0.0, 0.0], "counts of rows are whole numbers"),
        ([np.inf, 0.0, 0.0], "counts of rows are whole numbers"),
        ([10.0, 11.0, 5.0], r"a sum of values in \[0, 1\] is from 0 to their count"),
        ([10.0, -1.0, 5.0], r"a sum of values in \[0, 1\]"),
        ([10.0, np.nan, 5.0], r"a sum of values in \[0, 1\]"),
        ([0.0, 1.0, 1.0], r"a sum of values in \[0, 1\]"),
        ([10.0, 5.0, 5.1], "squares of values in .* add up to no more than the values"),
        ([10.0, 5.0, -0.1], "squares of values in"),
        ([10.0, 5.0, np.nan], "squares of values in"),
        ([10.0, 1e308, 1e308], r"a sum of values in \[0, 1\]"),
        ([10.0, 5.0, 2.4], "squares add up to no less than the square of the sum by the count"),
        ([10.0, 5.0, 0.0], "squares add up to no less"),
    ],
)
def test_moments_that_no_rows_have_are_told_by_their_feature(sent: list[float], words: str) -> None:
    fault = fault_of(np.array([[3.0, 1.0, 1.0], sent]).T.ravel())
    assert fault is not None
    assert re.search(words, fault)
    assert "numeric feature number 2" in fault


def test_sites_that_are_alike_have_the_scaling_of_each() -> None:
    """And not of the largest alone."""
    source = np.random.default_rng(5)
    sites = np.stack([moments(source.beta(2.0, 5.0, size=(rows, 3))) for rows in (4000, 40_000, 6000, 5000)])
    robust, pooled = robust_scaling(sites), scaling_from(sites.sum(axis=0))
    np.testing.assert_allclose(robust.mean, pooled.mean, rtol=0.01)
    np.testing.assert_allclose(robust.std, pooled.std, rtol=0.02)


EXTREMES = (
    [2.0**31, 0.0, 0.0],
    [2.0**31, 2.0**31, 2.0**31],
    [1.0, 1.0, 1.0],
    [0.0] * 3,
    [2.0**31, 2.0**30, 2.0**30],
)


@pytest.mark.parametrize("lie", EXTREMES)
@pytest.mark.parametrize("honest", [3, 4])
def test_fewer_than_half_of_the_sites_keep_the_scaling_among_honest_ones(
    lie: list[float], honest: int
) -> None:
    source = np.random.default_rng(honest)
    tables = [source.beta(2.0, 5.0 + each, size=(500, 1)) for each in range(honest)]
    liars = np.tile(lie, ((honest - 1) // 2 or 1, 1))
    assert 2 * len(liars) < len(liars) + honest
    assert all(fault_of(each) is None for each in liars)
    scaling = robust_scaling(np.concatenate((np.stack([moments(each) for each in tables]), liars)))
    means = [each.mean() for each in tables]
    (mean,), (std,) = scaling.mean, scaling.std
    assert min(means) <= mean <= max(means)
    away = [np.sqrt(((each - mean) ** 2).mean()) for each in tables]
    assert min(away) * (1 - 1e-12) <= std <= max(away) * (1 + 1e-12)
    if lie[0] == 2.0**31 != 2.0 * lie[1]:  # the control: the total is the liars'
        total_ = scaling_from(np.stack([*(moments(each) for each in tables), *liars]).sum(axis=0))
        assert total_.std[0] < 0.001
        assert std > 0.1


def test_a_feature_that_hardly_varies_at_half_of_the_sites_is_not_blown_up_at_the_others() -> None:
    flat, wide = moments(np.full((50, 1), 0.25)), moments(np.linspace(0.0, 1.0, 50)[:, None])
    assert robust_scaling(np.stack([flat, flat, wide])).std == (1.0,)
    assert robust_scaling(np.stack([flat, wide, wide])).std[0] == pytest.approx(0.29, abs=0.1)


def test_a_site_without_a_value_has_no_part_in_that_features_scaling() -> None:
    some = [moments(np.column_stack((np.linspace(0.2, 0.4, 9), np.full(9, np.nan)))) for _ in range(2)]
    other = moments(np.column_stack((np.linspace(0.2, 0.4, 9), np.linspace(0.5, 0.7, 9))))
    assert robust_scaling(np.stack([*some, other])).mean == pytest.approx((0.3, 0.6))
    with pytest.raises(Refused, match="numeric feature number 2 has no value at any site"):
        robust_scaling(np.stack(some))
    assert robust_scaling(np.empty((3, 0))).mean == ()
