import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.aggregation import (
    Contribution,
    RunningSum,
    WeightedSum,
    added_in_order,
    total,
    weighted_mean,
)
from strategies.encoding import vector_digest
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName


def _of(site: str, values: object, weight: int = 1) -> Contribution:
    return Contribution(SiteName(site), np.asarray(values, dtype=np.float64), weight)


@st.composite
def cohorts(draw: st.DrawFn) -> list[Contribution]:
    size = draw(st.integers(1, 5))
    sites = draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), min_size=1, max_size=8, unique=True)
    )
    rows = hnp.arrays(np.float64, size, elements=st.floats(-1e100, 1e100))
    return [_of(site, draw(rows), draw(st.integers(1, 1_000_000))) for site in sites]


@given(cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_change_a_bit(cohort: list[Contribution], shuffler: object) -> None:
    shuffled = list(cohort)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    assert vector_digest(weighted_mean(shuffled)) == vector_digest(weighted_mean(cohort))
    assert vector_digest(total(shuffled)) == vector_digest(total(cohort))


def test_order_would_matter_without_sorting() -> None:
    cohort = [_of("c", [1.0]), _of("a", [1e16]), _of("b", [-1e16])]
    assert total(cohort).tolist() == [1.0]
    assert (1.0 + 1e16) - 1e16 != 1.0


@given(cohorts())
def test_the_mean_is_the_weighted_mean(cohort: list[Contribution]) -> None:
    stacked = np.stack([item.vector for item in cohort])
    weights = [item.weight for item in cohort]
    scale = np.abs(stacked).max()
    np.testing.assert_allclose(
        weighted_mean(cohort), np.average(stacked, axis=0, weights=weights), rtol=1e-12, atol=1e-12 * scale
    )


def test_weights_count() -> None:
    assert weighted_mean([_of("a", [1.0, 0.0], 3), _of("b", [5.0, 4.0], 1)]).tolist() == [2.0, 1.0]


def test_total_ignores_weights_and_keeps_counts_exact() -> None:
    counts = np.array([2**52, 7], dtype=np.int64)
    found = total([Contribution(SiteName("a"), counts, 9), _of("b", [1.0, 1.0], 5)])  # type: ignore[arg-type]
    assert found.dtype == np.float64
    assert found.tolist() == [2**52 + 1, 8]


def test_arguments_stay_as_they_are() -> None:
    one = _of("a", [1.0])
    total([one, _of("b", [2.0])])
    assert weighted_mean([one]) is not one.vector
    assert one.vector.tolist() == [1.0]


@pytest.mark.parametrize("combine", [weighted_mean, total])
@pytest.mark.parametrize(
    ("cohort", "message"),
    [
        ([], "no contributions"),
        ([_of("a", [1.0]), _of("b", [1.0]), _of("a", [2.0])], "site a contributed twice"),
        ([_of("a", [1.0]), _of("b", [1.0, 2.0])], r"site b sent shape \(2,\); a sent \(1,\)"),
        ([_of("a", [[1.0]])], "one-dimensional"),
        ([_of("a", [1.0]), _of("b", [np.nan])], "site b sent a value that is NaN or infinite"),
        ([_of("a", [np.inf])], "site a sent a value that is NaN or infinite"),
        ([_of("a", [1.7e308]), _of("b", [1.7e308])], "beyond the range of float64"),
    ],
)
def test_what_cannot_be_added_is_refused(combine: object, cohort: list[Contribution], message: str) -> None:
    with pytest.raises(Refused, match=message):
        combine(cohort)  # type: ignore[operator]


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_one_is_refused(weight: int) -> None:
    with pytest.raises(UsageError, match="the weight of site a"):
        _of("a", [1.0], weight)


@given(cohorts())
def test_a_running_sum_has_the_bits_of_the_mean_at_the_end(cohort: list[Contribution]) -> None:
    running = RunningSum()
    for item in sorted(cohort, key=lambda item: item.site):
        running.add(item)
    assert vector_digest(running.so_far.mean) == vector_digest(weighted_mean(cohort))
    ordered = sorted(cohort, key=lambda item: item.site)
    added = np.zeros(len(ordered[0].vector))
    for item in ordered:
        added = added + item.weight * item.vector
    assert vector_digest(running.so_far.total) == vector_digest(added)
    assert running.so_far.weight == sum(item.weight for item in cohort)


def test_a_running_sum_does_not_change_what_it_said_before() -> None:
    running = RunningSum()
    running.add(_of("a", [1.0]))
    before = running.so_far
    running.add(_of("b", [2.0]))
    assert (before.total.tolist(), running.so_far.total.tolist()) == ([1.0], [3.0])


def test_a_running_sum_takes_sites_in_order_only() -> None:
    running = RunningSum()
    running.add(_of("b", [1.0]))
    with pytest.raises(UsageError, match="site a comes after b"):
        running.add(_of("a", [1.0]))
    with pytest.raises(Refused, match="site b contributed twice"):
        running.add(_of("b", [1.0]))
    assert running.so_far.total.tolist() == [1.0]


def test_what_is_refused_leaves_a_running_sum_as_it_was() -> None:
    running = RunningSum()
    running.add(_of("a", [1.0]))
    for bad in ([np.nan], [1.0, 2.0]):
        with pytest.raises(Refused):
            running.add(_of("b", bad))
    running.add(_of("b", [2.0]))
    assert (running.so_far.total.tolist(), running.so_far.weight) == ([3.0], 2)


def test_a_running_sum_of_nobody_is_refused() -> None:
    with pytest.raises(Refused, match="no contributions"):
        _ = RunningSum().so_far


def test_parts_are_added_from_left_to_right() -> None:
    parts = [WeightedSum(np.array([each]), 1) for each in (1e16, 1.0, -1e16)]
    assert added_in_order(parts).total.tolist() == [0.0]
    assert added_in_order([parts[0], parts[2], parts[1]]).total.tolist() == [1.0]
    assert added_in_order(parts).weight == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no contributions"),
        ([WeightedSum(np.zeros(1), 1), WeightedSum(np.zeros(2), 1)], "equally long"),
        ([WeightedSum(np.array([1.7e308]), 1)] * 2, "beyond the range of float64"),
    ],
)
def test_parts_that_cannot_be_added_are_refused(parts: list[WeightedSum], message: str) -> None:
    with pytest.raises(Refused, match=message):
        added_in_order(parts)


def test_a_mean_of_no_weight_is_refused() -> None:
    with pytest.raises(Refused, match="no contributions"):
        _ = WeightedSum(np.zeros(1), 0).mean
