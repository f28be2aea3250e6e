"""Held-out scores are counted row by row: which bin a row falls into does not depend on how many others there are, or on which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from client.data import Table
from client.training.private import PrivateSession
from protos.plan import Plan
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.models import DenseModel
from tests.client import loans_for_tests as loans
from tests.client.private_for_tests import private_plan

SCALING = Scaling(mean=(0.3, 0.7), std=(0.21, 0.13))
ROWS = loans.table(90)
DISTINCT = 50
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 255, 256, 257, 300, 511, 513, 699, 700)
WIDTHS = [(2,), (16,)]
BINS = 8

Integers = npt.NDArray[np.int64]


def plan_of(hidden: tuple[int, ...]) -> Plan:
    """Nine rows of ten are held out; an even number of bins puts an edge at a logit of 0."""
    return private_plan(
        {"{kind: logistic}": f"{{kind: mlp, hidden: {list(hidden)}}}", "share: 0.3": "share: 0.9"}
    )


def on_an_edge(model: DenseModel, seed: int) -> Vector:
    """Hidden units in pairs that cancel out in the logit, scattered: 0 for every row, unless rounding depends on an order."""
    random = np.random.default_rng(seed)
    vector = np.zeros(model.size)
    (weight, bias), (out, _) = model.split(vector)
    half = len(bias) // 2
    place = random.permutation(len(bias))
    for one, other in zip(place[:half], place[half:], strict=True):
        weight[one] = weight[other] = random.normal(size=model.inputs)
        bias[one] = bias[other] = random.normal() + 1.0
        out[0, one] = random.normal()
        out[0, other] = -out[0, one]
    return vector


def parts(table: Table, *places: int | slice) -> Table:
    """Some rows of a table, in its order."""
    chosen = np.zeros(len(table.keys), dtype=np.bool_)
    for each in places:
        chosen[each] = True
    return table.rows(chosen)


def held_out_rows(plan: Plan) -> Table:
    """700 rows that the plan holds out, all of them: 50 again and again, each at many places of a block."""
    told = [PrivateSession(plan, loans.CONTRACT, parts(ROWS, row)).rows[1] for row in range(len(ROWS.keys))]
    chosen = np.flatnonzero(told)[:DISTINCT]
    places = chosen[np.arange(SIZES[-1]) % DISTINCT]
    return Table(
        columns={name: values[places] for name, values in ROWS.columns.items()},
        target=ROWS.target[places],
        keys=[ROWS.keys[place] for place in places],
    )


def counts(plan: Plan, table: Table, vector: Vector) -> Integers:
    return PrivateSession(plan, loans.CONTRACT, table).evaluate(vector, SCALING)


def alone(plan: Plan, table: Table, vector: Vector) -> Integers:
    """What each row counts by itself, (n, 2 bins)."""
    found = np.array([counts(plan, parts(table, row), vector) for row in range(DISTINCT)])
    return found[np.arange(len(table.keys)) % DISTINCT]


@pytest.fixture(scope="module")
def rows() -> Table:
    found = held_out_rows(plan_of((2,)))
    assert len(found.keys) == 700
    return found


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
def test_the_counts_of_any_number_of_rows_are_the_sum_of_what_each_counts_alone(
    rows: Table, hidden: tuple[int, ...]
) -> None:
    """With products of float64, whose last bits change with the size of the block, one row more moves others across an edge."""
    plan = plan_of(hidden)
    model = PrivateSession(plan, loans.CONTRACT, rows).model
    vector = on_an_edge(model, 0)
    each = alone(plan, rows, vector)
    assert (each.sum(axis=1) == 1).all()
    for size in SIZES:
        assert (counts(plan, parts(rows, slice(size)), vector) == each[:size].sum(axis=0)).all(), size


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
def test_one_held_out_row_more_or_less_changes_the_counts_by_that_row_only(
    rows: Table, hidden: tuple[int, ...]
) -> None:
    plan = plan_of(hidden)
    vector = on_an_edge(PrivateSession(plan, loans.CONTRACT, rows).model, 2)
    for size in (2, 3, 8, 9, 64, 65, 256, 257, 700):
        among = counts(plan, parts(rows, slice(size)), vector)
        for row in sorted({0, 1, size // 2, size - 1}):
            others = parts(rows, slice(row), slice(row + 1, size))
            change = among - counts(plan, others, vector)
            assert int((change**2).sum()) == 1, (size, row)
            assert (change == counts(plan, parts(rows, row), vector)).all(), (size, row)


def test_a_crafted_model_puts_every_row_on_the_same_side_of_its_edge(rows: Table) -> None:
    for hidden in WIDTHS:
        plan = plan_of(hidden)
        vector = on_an_edge(PrivateSession(plan, loans.CONTRACT, rows).model, 3)
        found = counts(plan, rows, vector).reshape(2, BINS)
        assert found[:, BINS // 2].sum() == found.sum() == 700


def test_a_model_that_is_not_finite_counts_every_row_as_the_score_one_half(rows: Table) -> None:
    """A refusal, or a count that is missing, would tell of rows."""
    plan = plan_of((2,))
    model = PrivateSession(plan, loans.CONTRACT, rows).model
    for bad in (np.nan, np.inf, -np.inf):
        vector = model.initial(1)
        vector[0] = bad
        found = counts(plan, rows, vector).reshape(2, BINS)
        assert found[:, BINS // 2].sum() == found.sum() == 700
