"""Slices are cut and added up alike whoever computes them, and engines agree with the sites' own training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.training import TrainingSession
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from simulation.cohorts.engine import (
    SLICE_CLIENTS,
    Clients,
    Threads,
    TrainRequest,
    added,
    client_name,
    in_order,
    slices,
)
from simulation.cohorts.engines import (
    FEWEST_STACKED,
    MOST_STACKED_PARAMETERS,
    OneByOne,
    Shape,
    StackedSlices,
    engine_of,
    table_of,
)
from simulation.cohorts.population import Population
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.synthetic_population import SyntheticPopulation
from simulation.partition import Quantity
from strategies.aggregation import Contribution, WeightedSum, added_in_order, weighted_mean
from strategies.encoding import vector_digest
from strategies.errors import Refused
from strategies.features import Scaling
from strategies.models import DenseModel
from tests.client.loans_for_tests import CONTRACT, plan
from tests.simulation.cohorts.cohorts_for_tests import MLP, filed, generated

NUMBERS = np.arange(0, 700, 7, dtype=np.int64)


def asked(chosen: Plan, number: int = 1) -> TrainRequest:
    spec = CONTRACT.feature_spec(chosen.features)
    model = chosen.dense_model(spec.width).initial(5) + 0.01
    return TrainRequest(number, model, Scaling(mean=(0.4, 0.6), std=(0.3, 0.2)))


@given(length=st.integers(0, 300), most=st.integers(1, SLICE_CLIENTS))
def test_slices_are_all_of_a_cohort_in_order_and_of_equal_length_but_for_one(length: int, most: int) -> None:
    found = slices(np.arange(length, dtype=np.int64), most)
    assert [int(each) for some in found for each in some] == list(range(length))
    lengths = {len(each) for each in found}
    assert len(found) == -(-length // most)
    assert not lengths or (max(lengths) <= most and max(lengths) - min(lengths) <= 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_cohort_has_the_same_bits_with_any_number_of_workers(workers: int) -> None:
    chosen = plan(model=MLP, algorithm="fedprox", proximal_mu=0.1)
    rows = ClientRows(chosen, CONTRACT, generated(chosen=chosen))
    one_slice_after_the_other = added_in_order(
        StackedSlices(rows)(asked(chosen), some) for some in slices(NUMBERS, SLICE_CLIENTS)
    )
    found = Threads(StackedSlices(rows), workers, "").summed(asked(chosen), NUMBERS)
    assert vector_digest(found.total) == vector_digest(one_slice_after_the_other.total)
    assert found.weight == len(NUMBERS)


@pytest.mark.parametrize("rows", [filed(), filed(Quantity(0.5)), generated()])
@pytest.mark.parametrize(
    "chosen",
    [
        plan(model=MLP),
        plan(model=MLP, algorithm="fedprox", proximal_mu=0.5, l2=0.01, local_epochs=3, batch_size=4),
        plan(batch_size=1_000_000),
    ],
)
def test_stacked_and_one_by_one_are_the_sites_own_training(rows: Population, chosen: Plan) -> None:
    some = NUMBERS[:10]
    sessions = {
        client_name(each): TrainingSession(
            chosen, CONTRACT, table_of(rows.gathered(some).of(place)), site=client_name(each)
        )
        for place, each in enumerate(some.tolist())
    }
    said = asked(chosen)
    own = weighted_mean(
        [Contribution(site, each.train(said.model, said.scaling, 1)) for site, each in sessions.items()]
    )
    one_by_one = OneByOne(chosen, CONTRACT, rows)(said, some)
    stacked = StackedSlices(ClientRows(chosen, CONTRACT, rows))(said, some)
    assert vector_digest(one_by_one.mean) == vector_digest(own)
    assert np.abs(own).max() > 1e-3
    assert np.abs(stacked.mean - own).max() < 1e-5
    assert (stacked.weight, one_by_one.weight) == (10, 10)


def test_rounds_and_clients_have_batch_orders_of_their_own() -> None:
    chosen = plan(model=MLP)
    engine = Threads(StackedSlices(ClientRows(chosen, CONTRACT, filed(size=1000))), 1, "")
    first = engine.summed(asked(chosen, 1), NUMBERS[:3])
    assert vector_digest(first.total) == vector_digest(engine.summed(asked(chosen, 1), NUMBERS[:3]).total)
    assert vector_digest(first.total) != vector_digest(engine.summed(asked(chosen, 2), NUMBERS[:3]).total)


def test_few_slices_are_computed_ahead_of_the_one_that_is_added() -> None:
    """Or sums of all slices would wait in memory while one thread is slow."""
    handed: list[int] = []

    def handing() -> Iterator[Clients]:
        for some in slices(NUMBERS, 1):
            handed.append(int(some[0]))
            yield some

    sums = in_order(len, handing(), workers=2)
    next(sums)
    assert len(handed) == 5
    next(sums)
    assert len(handed) == 6
    assert 2 + len(list(sums)) == len(handed) == len(NUMBERS)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_threads_make_comes_in_the_order_of_the_parts(workers: int) -> None:
    found = in_order(lambda some: int(some[0]), slices(NUMBERS, 1), workers)
    assert list(found) == NUMBERS.tolist()


def test_a_failing_slice_is_the_cohorts_failure() -> None:
    def failing(_: TrainRequest, some: Clients) -> WeightedSum:
        if some[0]:
            raise Refused("no")
        return WeightedSum(np.ones(1), 1)

    with pytest.raises(Refused, match="no"):
        Threads(failing, 2, "", max_slice_clients=1).summed(asked(plan()), NUMBERS)


def test_updates_are_clipped_as_secure_aggregation_embeds_them() -> None:
    updates = np.array([[0.5, -3.0], [np.nan, 2.0], [np.inf, -np.inf]])
    some = np.array([1, 2, 3], dtype=np.int64)
    assert added(some, updates, 1.0).total.tolist() == [1.5, -1.0]
    with pytest.raises(Refused, match="client-0000002 sent a value that is NaN"):
        added(some, updates, None)


def test_a_plans_range_bounds_what_a_client_moves() -> None:
    free = plan(model=MLP)
    bounded = free.model_copy(update={"aggregation": SecureAggregation(update_range=1e-3)})
    for chosen, most in ((free, np.inf), (bounded, 10e-3)):
        rows = ClientRows(chosen, CONTRACT, filed())
        total = StackedSlices(rows)(asked(chosen), NUMBERS[:10]).total
        assert 1e-3 < np.abs(total).max() <= most * 1.000001


def test_names_sort_as_numbers_do() -> None:
    numbers = [0, 9, 10, 99_999, 100_000, 999_999]
    names = [client_name(each) for each in numbers]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (Shape(DenseModel(inputs=30, hidden=(64,)), 640, 64), None),
        (Shape(DenseModel(inputs=1000, hidden=(1000,)), 100, 64), "1002001 parameters"),
        (
            Shape(DenseModel(inputs=200, hidden=(64,)), 20_000, 64),
            "20000 rows in batches of 64 are too large",
        ),
    ],
)
def test_what_does_not_pay_is_not_stacked_and_says_why(shape: Shape, why: str | None) -> None:
    assert (shape.why_not_stacked is None) == (why is None)
    assert why is None or why in str(shape.why_not_stacked)


def test_slices_of_large_clients_are_smaller() -> None:
    model = DenseModel(inputs=30, hidden=(64,))
    assert Shape(model, 640, 64).max_slice_clients == SLICE_CLIENTS
    assert FEWEST_STACKED <= Shape(model, 20_000, 64).max_slice_clients < SLICE_CLIENTS
    assert model.size < MOST_STACKED_PARAMETERS


def test_the_fallback_warns_once_and_computes_one_by_one() -> None:
    chosen = plan(model="{kind: mlp, hidden: [800, 800]}")
    said: list[str] = []
    engine = engine_of(ClientRows(chosen, CONTRACT, filed()), workers=1, warn=said.append)
    assert (len(said), engine.description) == (1, "one by one")
    assert "parameters, and beyond 524288 stacking clients does not pay" in said[0]
    stacked = engine_of(ClientRows(plan(), CONTRACT, filed()), workers=1, warn=said.append)
    assert (len(said), stacked.description) == (1, "stacked")


def test_rows_count_what_the_plan_reweighs_them_by() -> None:
    """With a protected attribute, missing values, integers and booleans: stacked as at the sites."""
    from tests.simulation.cohorts.test_population import WIDE, reweighing_plan

    chosen = reweighing_plan()
    rows = SyntheticPopulation(WIDE, chosen, 1000, 30, 4)
    model = chosen.dense_model(WIDE.feature_spec(chosen.features).width).initial(2)
    said = TrainRequest(1, model, Scaling.identity(4))
    stacked = StackedSlices(ClientRows(chosen, WIDE, rows))(said, NUMBERS[:6])
    alone = OneByOne(chosen, WIDE, rows)(said, NUMBERS[:6])
    unweighed = chosen.model_copy(update={"training": chosen.training.model_copy(update={"reweigh": None})})
    without = StackedSlices(ClientRows(unweighed, WIDE, rows))(said, NUMBERS[:6])
    assert np.abs(stacked.mean - alone.mean).max() < 1e-5
    assert np.abs(stacked.mean - without.mean).max() > 1e-3
