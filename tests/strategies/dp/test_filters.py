"""The Renyi filter's ceiling."""

from __future__ import annotations

import json
import math

import pytest
from dp_accounting.rdp import compute_epsilon  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from strategies.dp.budget import cost_of
from strategies.dp.curves import ORDERS
from strategies.dp.filters import TOTAL_VARIATION_SHARE, Ceiling, Cost, epsilon_from_renyi
from strategies.dp.units import Neighbours, PrivacyUnit
from strategies.errors import UsageError
from tests.strategies.dp.releases_for_tests import CUSTOMER, RECORD, gaussian

NOTHING = Cost(renyi=0.0, total_variation=0.0)
ceilings = st.builds(
    lambda epsilon, exponent: Ceiling.fixed(epsilon=epsilon, delta=10.0**-exponent, unit=RECORD),
    st.floats(0.05, 30.0),
    st.floats(3.0, 12.0),
)
costs = st.builds(
    lambda renyi, tv: Cost(renyi=renyi, total_variation=tv),
    st.floats(0.0, 50.0),
    st.sampled_from([0.0, 1e-30, 1e-12, 1e-3]),
)


@given(st.floats(0.0001, 20.0), st.sampled_from(ORDERS), st.floats(1e-12, 0.1))
def test_the_conversion_is_dp_accountings(renyi: float, order: int, delta: float) -> None:
    reference, _ = compute_epsilon([order], [renyi], delta)
    assert (
        epsilon_from_renyi(renyi, order, delta) == pytest.approx(reference, rel=1e-9, abs=1e-9)
        or reference == 0.0
    )


@given(ceilings, costs)
def test_what_is_admitted_is_within_the_ceiling_and_nothing_else(ceiling: Ceiling, cost: Cost) -> None:
    assert ceiling.admits(cost) == (ceiling.guarantee(cost).epsilon <= ceiling.epsilon)


@given(ceilings)
def test_the_whole_budget_is_admitted_and_more_is_not(ceiling: Ceiling) -> None:
    whole = Cost(renyi=ceiling.renyi_budget, total_variation=ceiling.total_variation_budget)
    assert ceiling.admits(whole)
    assert ceiling.guarantee(whole).epsilon == pytest.approx(ceiling.epsilon, rel=1e-9)
    assert not ceiling.admits(whole + Cost(renyi=1e-9 * whole.renyi, total_variation=0.0))
    assert not ceiling.admits(whole + Cost(renyi=0.0, total_variation=1e-9 * whole.total_variation))


@given(ceilings)
def test_the_samplers_part_of_delta_pays_for_both_neighbours(ceiling: Ceiling) -> None:
    spent = ceiling.total_variation_budget * (1.0 + math.exp(ceiling.epsilon))
    assert spent == pytest.approx(ceiling.delta * TOTAL_VARIATION_SHARE, rel=1e-9)


@given(ceilings, costs, costs)
def test_more_cost_never_promises_more(ceiling: Ceiling, cost: Cost, more: Cost) -> None:
    assert ceiling.guarantee(cost + more).epsilon >= ceiling.guarantee(cost).epsilon
    assert ceiling.admits(cost) or not ceiling.admits(cost + more)


def test_no_cost_is_no_epsilon() -> None:
    assert Ceiling.fixed(epsilon=3.0, delta=1e-6, unit=RECORD).guarantee(NOTHING).epsilon == 0.0


def test_a_guarantee_is_infinite_where_samplers_eat_their_part_of_delta() -> None:
    ceiling = Ceiling.fixed(epsilon=3.0, delta=1e-6, unit=RECORD)
    assert math.isinf(ceiling.guarantee(Cost(renyi=0.1, total_variation=1e-9)).epsilon)
    over = ceiling.guarantee(
        Cost(renyi=100.0, total_variation=1e-12)
    )  # fits at epsilon 3, not at the epsilon of this cost
    assert math.isinf(over.epsilon)
    assert ceiling.guarantee(Cost(renyi=100.0, total_variation=0.0)).epsilon > 100.0


@pytest.mark.parametrize(
    "cost",
    [
        Cost(renyi=math.nan, total_variation=0.0),
        Cost(renyi=0.0, total_variation=math.nan),
        Cost(renyi=math.inf, total_variation=0.0),
    ],
)
def test_nan_and_infinity_are_not_admitted(cost: Cost) -> None:
    ceiling = Ceiling.fixed(epsilon=3.0, delta=1e-6, unit=RECORD)
    assert not ceiling.admits(cost)
    assert math.isinf(ceiling.guarantee(cost).epsilon)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (3.0, 1e-6), (8.0, 1e-5), (20.0, 1e-9)])
def test_the_order_that_is_fixed_admits_the_most_gaussian_releases(epsilon: float, delta: float) -> None:
    def admitted(ceiling: Ceiling) -> int:
        return math.floor(ceiling.renyi_budget / cost_of({gaussian(20.0): 1}, ceiling.order).renyi)

    best = admitted(Ceiling.fixed(epsilon=epsilon, delta=delta, unit=RECORD))
    for order in (2, 4, 7, 9, 12, 20, 32, 48, 64, 128):
        try:
            other = Ceiling.fixed(epsilon=epsilon, delta=delta, unit=RECORD, order=order)
        except UsageError:
            continue
        assert admitted(other) <= best


@pytest.mark.parametrize("unit", [RECORD, CUSTOMER])
def test_a_ceiling_reads_its_facts_back(unit: PrivacyUnit) -> None:
    ceiling = Ceiling.fixed(epsilon=2.5, delta=1e-7, unit=unit)
    assert Ceiling.from_facts(json.loads(json.dumps(ceiling.facts()))) == ceiling
    assert ceiling.neighbours is Neighbours.ADD_OR_REMOVE_ONE


@pytest.mark.parametrize(
    "change",
    [
        {"order": 1},
        {"order": 9.0},
        {"epsilon": "x"},
        {"epsilon": 0.0},
        {"delta": 2.0},
        {"unit": {}},
        {"covenant": "ceiling/v2"},
    ],
)
def test_facts_that_are_no_ceiling_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Ceiling.from_facts({**Ceiling.fixed(epsilon=2.5, delta=1e-7, unit=RECORD).facts(), **change})


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_that_is_no_ceiling_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match="epsilon"):
        Ceiling.fixed(epsilon=epsilon, delta=1e-6, unit=RECORD)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_outside_its_bounds_is_refused(delta: float) -> None:
    with pytest.raises(UsageError, match="delta"):
        Ceiling.fixed(epsilon=1.0, delta=delta, unit=RECORD)


def test_an_order_that_leaves_nothing_to_spend_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to spend at order 2"):
        Ceiling.fixed(epsilon=1.0, delta=1e-9, unit=RECORD, order=2)
    with pytest.raises(UsageError, match="nothing to spend"):
        Ceiling.fixed(epsilon=1e-4, delta=1e-9, unit=RECORD)
    with pytest.raises(UsageError, match="order is 65"):
        Ceiling.fixed(epsilon=1.0, delta=1e-9, unit=RECORD, order=65)


def test_an_account_says_whom_its_ceiling_protects() -> None:
    assert Ceiling.fixed(epsilon=3.0, delta=1e-6, unit=CUSTOMER).words == (
        "epsilon 3.000 at delta 1e-06 per customer (customer_id, up to 8 rows, at one site) (add-or-remove-one)"
    )
