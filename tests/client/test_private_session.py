"""What a site computes under a private plan: sums over units, each unit bounded whatever its rows hold, and the same rows in every run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from client.data import DataError, Part, Table, table_from
from client.training import session_for
from client.training.private import PrivateSession
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_releases import moment_cells
from protos.plan_training import GradientSums
from strategies.dp.clipping import FRACTION_BITS, gradient_value
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.dp.poisson import sampled
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import site_name
from strategies.sampling import held_out
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, local_plan, seed
from tests.client.private_for_tests import LOCAL, private_plan
from tests.client.secure_for_tests import SCALING

Integers = npt.NDArray[np.int64]
WHOLE = 1 << FRACTION_BITS
MOST = 3
EVERYBODY = {"expected_batch: 16": "expected_batch: 32", "epsilon: 9.0": "epsilon: 49.0"}
RECORD = private_plan(EVERYBODY)
CUSTOMER = private_plan(
    {
        **EVERYBODY,
        "unit: {kind: record}": f"unit: {{kind: customer, column: customer_id, max_rows: {MOST}}}",
        "by: loan_id": "by: customer_id",
    }
)
SITE = private_plan(
    {
        "expected_batch: 16": "expected_batch: 1",
        "nominal_rows: 32": "nominal_rows: 1",
        "unit: {kind: record}": "unit: {kind: site, max_rows: 20}",
        "epsilon: 9.0": "epsilon: 49.0",
    }
)


def people(rows: int = 200, customers: int = 40) -> pa.Table:
    """Rows of customers who have about `rows` / `customers` each, dealt out of order."""
    numbers = np.random.default_rng(8).permutation(np.arange(rows) % customers)
    return loans.loans(rows).append_column("customer_id", pa.array([f"c{each}" for each in numbers]))


def taken_rows(part: Part) -> Table:
    return Table(part.columns, part.target, part.keys, part.customers)


def table(rows: pa.Table, contract: Contract = CUSTOMERS) -> Table:
    return table_from(rows, contract, renamed={}, named="loans.parquet")


def session(plan: Plan, rows: Table | None = None) -> PrivateSession:
    contract = CUSTOMERS if plan is CUSTOMER else loans.CONTRACT
    return PrivateSession(plan, contract, rows or table(people(), contract))


MODEL = np.linspace(-1.0, 1.0, session(RECORD).model.size)


def sums(one: PrivateSession, model: Vector = MODEL) -> dict[str, Integers]:
    """All that leaves a site, before noise, with everybody in the sample."""
    return {
        "moments": one.moments(),
        "gradient": one.gradient_sum(model, SCALING, seed(1)),
        "counts": one.evaluate(model, SCALING),
    }


def without(rows: Table, chosen: npt.NDArray[np.bool_]) -> Table:
    return rows.rows(~chosen)


def norm(vector: Integers) -> float:
    return math.sqrt(sum(int(each) ** 2 for each in vector))


def allowed(plan: Plan) -> dict[str, float]:
    """The sensitivities to one unit that are charged for."""
    assert plan.privacy.mode != "none"
    rows = plan.privacy.unit.unit.max_rows
    return {
        "moments": moment_cells(plan, loans.CONTRACT).sensitivity(rows),
        "gradient": float(WHOLE),
        "counts": EvaluationCells(8).sensitivity(rows),
    }


# --- one unit ---------------------------------------------------------------------------------------------------------


def test_no_row_moves_a_sum_by_more_than_is_charged_for() -> None:
    rows = table(people(60))
    all_of_them = sums(session(RECORD, rows))
    moved = Counter[str]()
    for place in range(60):
        chosen = np.arange(60) == place
        for name, found in sums(session(RECORD, without(rows, chosen))).items():
            far = norm(all_of_them[name] - found)
            assert far <= allowed(RECORD)[name], name
            moved[name] += far > 0
    out = int(held_out(rows.keys, "1", 0.3).sum())
    assert moved == {"moments": 60 - out, "gradient": 60 - out, "counts": out}


def test_no_customer_moves_a_sum_by_more_than_is_charged_for() -> None:
    rows = table(people())
    assert rows.customers is not None
    names = np.array(rows.customers)
    assert Counter(Counter(rows.customers).values()) == {5: 40}
    all_of_them = sums(session(CUSTOMER, rows))
    far: dict[str, float] = dict.fromkeys(all_of_them, 0.0)
    for name in sorted(set(rows.customers)):
        for sort, found in sums(session(CUSTOMER, without(rows, names == name))).items():
            moved = norm(all_of_them[sort] - found)
            assert moved <= allowed(CUSTOMER)[sort], (name, sort)
            far[sort] = max(far[sort], moved)
    # The bounds are not idle: somebody's rows agree.
    assert far["counts"] >= MOST - 1
    assert far["moments"] > moment_cells(CUSTOMER, CUSTOMERS).sensitivity(MOST - 1)


def test_a_whole_site_moves_a_sum_by_no_more_than_is_charged_for() -> None:
    found = sums(session(SITE))
    for name, total in found.items():
        assert 0 < norm(total) <= allowed(SITE)[name], name


@pytest.mark.parametrize("plan", [RECORD, CUSTOMER, SITE], ids=["record", "customer", "site"])
@pytest.mark.parametrize("model", [MODEL, 1e3 * MODEL, np.full(7, math.nan), np.full(7, 1e300)])
def test_the_bounds_hold_for_rows_and_models_beyond_reason(plan: Plan, model: Vector) -> None:
    absurd = people(60)
    amounts = [1e308, -1e308, 5e-324] * 20
    absurd = absurd.set_column(absurd.column_names.index("amount"), "amount", pa.array(amounts))
    rows = table(absurd)
    assert rows.customers is not None
    one = rows.customers[7]
    chosen = {"record": np.arange(60) == 7, "customer": np.array(rows.customers) == one}.get(
        "record" if plan is RECORD else "customer" if plan is CUSTOMER else "", np.ones(60, dtype=np.bool_)
    )
    with np.errstate(all="ignore"):
        there, here = sums(session(plan, rows), model), sums(session(plan, without(rows, chosen)), model)
    for name, total in there.items():
        assert norm(total - here[name]) <= allowed(plan)[name], name


# --- which rows count -------------------------------------------------------------------------------------------------


def test_rows_of_a_customer_beyond_the_bound_do_not_count_at_all() -> None:
    rows = table(people())
    assert rows.customers is not None
    one = session(CUSTOMER, rows)
    assert sum(one.rows) == 40 * MOST
    counted = set(one._training.table.keys) | set(one._evaluating.table.keys)
    kept = np.array([key in counted for key in rows.keys])
    assert np.array_equal(*(sums(each)["gradient"] for each in (one, session(CUSTOMER, rows.rows(kept)))))
    for name, found in sums(session(CUSTOMER, rows.rows(kept))).items():
        assert np.array_equal(found, sums(one)[name]), name


def test_the_rows_that_count_are_the_same_in_every_run_whatever_their_order_and_follow_from_their_keys() -> (
    None
):
    rows = people()
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(200)))
    first, second = session(CUSTOMER, table(rows)), session(CUSTOMER, table(shuffled))
    assert set(first._training.table.keys) == set(second._training.table.keys)
    for name, found in sums(second).items():
        assert np.array_equal(found, sums(first)[name]), name
    renamed = rows.set_column(0, "loan_id", pa.array(np.arange(5000, 5200)))
    other = session(CUSTOMER, table(renamed))
    places = [[int(key) % 1000 for key in each._training.table.keys] for each in (first, other)]
    assert sorted(places[0]) != sorted(places[1])


def test_a_site_counts_so_many_rows_of_each_part_and_the_same_ones() -> None:
    rows = people(400)
    one = session(SITE, table(rows, loans.CONTRACT))
    assert one.rows == (20, 20)
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(400)))
    assert set(session(SITE, table(shuffled, loans.CONTRACT))._training.table.keys) == set(
        one._training.table.keys
    )


def test_every_record_is_a_unit_also_where_two_have_one_key() -> None:
    rows = people(60)
    one = session(RECORD, replace(table(rows, loans.CONTRACT), keys=["same"] * 60))
    assert sum(one.rows) == 60
    assert one._training.units + one._evaluating.units == 60


def test_customers_whose_names_differ_in_a_way_that_some_texts_do_not_show_are_two() -> None:
    """NumPy's own text drops trailing NULs: two people would share one clip, and one of them move the sum by two."""
    rows = people(60)
    names = ["twin", "twin\0"] * 30
    rows = rows.set_column(rows.column_names.index("customer_id"), "customer_id", pa.array(names))
    one = session(CUSTOMER, table(rows))
    assert one._training.units + one._evaluating.units == 2
    assert sum(one.rows) == 2 * MOST


# --- who is held out --------------------------------------------------------------------------------------------------


def test_no_customer_both_trains_and_evaluates() -> None:
    one = session(CUSTOMER)
    training, evaluating = (each.table.customers for each in (one._training, one._evaluating))
    assert training
    assert evaluating
    assert not set(training) & set(evaluating)
    assert len(set(training)) + len(set(evaluating)) == 40
    by_row = held_out(table(people()).keys, "1", 0.3)
    customers = np.array(table(people()).customers)
    assert set(customers[by_row]) & set(customers[~by_row]), "the control: by rows, some would do both"


def test_records_and_sites_are_held_out_by_record() -> None:
    rows = table(people(), loans.CONTRACT)
    out = held_out(rows.keys, "1", 0.3)
    assert session(RECORD, rows)._evaluating.table.keys == rows.rows(out).keys
    assert set(session(SITE, rows)._evaluating.table.keys) <= set(rows.rows(out).keys)


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
def test_a_sample_takes_whole_units_at_the_plans_rate_by_its_seed_alone(number: int) -> None:
    plan = CUSTOMER.model_copy(
        update={"training": CUSTOMER.training.model_copy(update={"expected_batch": 16})}
    )
    contract, rows = CUSTOMERS, table(people())
    one = PrivateSession(plan, contract, rows)
    assert isinstance(plan.training, GradientSums)
    taken = sampled(0.5, one._training.units, seed(number))
    assert 0 < taken.sum() < one._training.units
    chosen = taken[one._training.unit]
    only = PrivateSession(CUSTOMER, contract, taken_rows(one._training.table.some(chosen)))
    found = one.gradient_sum(MODEL, SCALING, seed(number))
    assert np.array_equal(found, only.gradient_sum(MODEL, SCALING, seed(99)))
    assert np.array_equal(found, one.gradient_sum(MODEL, SCALING, seed(number)))
    assert not np.array_equal(found, one.gradient_sum(MODEL, SCALING, seed(number + 50)))


def test_units_are_taken_as_often_as_the_rate_says_and_independently() -> None:
    plan = RECORD.model_copy(update={"training": RECORD.training.model_copy(update={"expected_batch": 8})})
    one = PrivateSession(plan, loans.CONTRACT, table(people(60), loans.CONTRACT))
    units = one._training.units
    often = np.mean([sampled(0.25, units, seed(number)) for number in range(400)], axis=0)
    assert abs(often.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / (400 * units))
    assert np.abs(often - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 400)


def test_the_sum_is_that_of_every_customers_mean_gradient_clipped() -> None:
    """By the textbook, in floating point, beside the exact one."""
    one = session(CUSTOMER)
    inputs, part = np.asarray(one._inputs(SCALING), dtype=np.float64), one._training
    weights, bias = MODEL[:-1], MODEL[-1]
    slope = 1 / (1 + np.exp(-(inputs @ weights + bias))) - part.table.target
    gradients = np.column_stack([inputs * slope[:, None], slope])
    total = np.zeros(7)
    for unit in range(part.units):
        mean = gradients[part.unit == unit].mean(axis=0)
        total += mean / max(1.0, float(np.linalg.norm(mean)))
    found = gradient_value(one.gradient_sum(MODEL, SCALING, seed(1)), 1.0)
    np.testing.assert_allclose(found, total, atol=1e-4)


# --- parts without rows, and plans that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize("plan", [RECORD, CUSTOMER, SITE], ids=["record", "customer", "site"])
@pytest.mark.parametrize("part", ["training", "evaluation", "both"])
def test_a_part_without_rows_gives_zeros(plan: Plan, part: str) -> None:
    rows = table(people())
    assert rows.customers is not None
    out = held_out(rows.customers if plan is CUSTOMER else rows.keys, "1", 0.3)
    kept = {"training": out, "evaluation": ~out, "both": np.zeros(200, dtype=np.bool_)}[part]
    found = sums(session(plan, rows.rows(kept)))
    assert found["moments"].any() == found["gradient"].any() == (part == "evaluation")
    assert found["counts"].any() == (part == "training")


def test_the_scaling_is_applied_and_a_new_one_too() -> None:
    one = session(RECORD)
    first = one.gradient_sum(MODEL, SCALING, seed(1))
    other = one.gradient_sum(MODEL, Scaling(mean=(0.1, 0.1), std=(0.2, 0.2)), seed(1))
    assert not np.array_equal(first, other)
    assert np.array_equal(first, one.gradient_sum(MODEL, SCALING, seed(1)))


def test_a_plan_of_another_component_is_refused() -> None:
    plan = RECORD.model_copy(
        update={"training": RECORD.training.model_copy(update={"component": "tabular/1"})}
    )
    with pytest.raises(UsageError, match="this is 'tabular/2' with dp-fedsgd and dp-sgd"):
        session(plan)


def test_a_plan_without_privacy_is_refused() -> None:
    """`session_for` gives such a plan another session; this one does not take it."""
    plan = loans.plan(component="tabular/2")
    with pytest.raises(UsageError, match="with fedavg; this is"):
        session(plan)
    assert not isinstance(
        session_for(loans.plan(), loans.CONTRACT, loans.table(), site=site_name("west")), PrivateSession
    )


def test_a_plan_above_its_own_limit_is_refused() -> None:
    tight = private_plan({"epsilon: 9.0": "epsilon: 3.0"})
    with pytest.raises(UsageError, match="within privacy"):
        session(tight)


def test_gradient_sums_take_no_local_steps() -> None:
    with pytest.raises(UsageError, match="algorithm dp-fedsgd takes no local steps"):
        session(RECORD).local_update(MODEL, SCALING, seed(1))
    assert local_plan().training.algorithm == private_plan(LOCAL).training.algorithm == "dp-sgd"


# --- customers in the table -------------------------------------------------------------------------------------------


def test_customers_are_read_where_the_contract_names_them_and_stay_with_their_rows() -> None:
    rows = people(20)
    named = rows["customer_id"].to_pylist()
    assert table(rows).customers == named
    assert table(rows, loans.CONTRACT).customers is None
    chosen = np.arange(20) % 3 == 0
    assert table(rows).rows(chosen).customers == named[::3]
    assert table(rows, loans.CONTRACT).rows(chosen).customers is None


def test_a_customer_column_may_have_another_name_in_the_file_and_hold_whole_numbers() -> None:
    rows = people(20).drop(["customer_id"]).append_column("owner", pa.array(np.arange(20)))
    found = table_from(rows, CUSTOMERS, renamed={"customer_id": "owner"}, named="loans.parquet")
    assert found.customers == [str(each) for each in range(20)]


BAD: dict[str, tuple[Any, str]] = {
    "missing": (pa.array(["c1", None] * 10), "has 10 missing values; every row needs its key"),
    "empty": (pa.array(["c1", ""] * 10), "has 10 missing values; every row needs its key"),
    "fractions": (pa.array(np.linspace(0, 1, 20)), "holds double; the contract says key, store it as text or whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_customer_column_that_tells_nobody_apart_is_refused(values: Any, sentence: str) -> None:
    rows = people(20).drop(["customer_id"]).append_column("customer_id", values)
    with pytest.raises(DataError) as caught:
        table(rows)
    assert sentence in str(caught.value)


def test_a_file_without_the_customer_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"column 'customer_id' of loans\.parquet is missing"):
        table(people(20).drop(["customer_id"]))


def test_renaming_a_customer_column_that_the_contract_does_not_have_is_refused() -> None:
    with pytest.raises(DataError, match="renames 'customer_id', which is not a column of contract loans@1"):
        table_from(people(20), loans.CONTRACT, renamed={"customer_id": "owner"}, named="loans.parquet")
