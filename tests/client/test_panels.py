"""What a site counts beside scores: each row in one cell of each block, by itself alone, and no unit further than is charged for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import Table, table_from
from client.data.connectors.memory import InMemory
from client.data.reading import read
from client.training.private import PrivateSession
from client.training.session import TrainingSession
from protos.plan import Plan
from protos.plan_panels import evaluation_cells, groups_of
from protos.plan_releases import releases_of
from strategies.analytics.contributions import by_feature, contributions, reference_of
from strategies.analytics.groups import group_edges
from strategies.analytics.panels import NOT_GIVEN
from strategies.dp.evaluation_cells import Blocks
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import site_name
from strategies.sampling import held_out
from tests.client import loans_for_tests as loans
from tests.client.panels_for_tests import CONTRACT, CUSTOMERS, PROTECTED, REWEIGHED, panelled, rows, table

WEST = site_name("west")
SCALING = Scaling(mean=(0.3, 0.7), std=(0.21, 0.13))
MLP = {"{kind: logistic}": "{kind: mlp, hidden: [6, 3]}"}
HELD_OUT = {"share: 0.3": "share: 0.9"}

Integers = npt.NDArray[np.int64]


def session(plan: Plan, data: Table | None = None) -> PrivateSession:
    return PrivateSession(plan, CONTRACT, table() if data is None else data, site=WEST)


def weights(plan: Plan, seed: int = 1) -> Vector:
    shape = plan.dense_model(CONTRACT.feature_spec(plan.features).width)
    return np.random.default_rng(seed).normal(size=shape.size) * (3.0 if shape.hidden else 1.0)


def vector(plan: Plan, data: Table, model: Vector | None = None) -> Integers:
    return session(plan, data).evaluate(weights(plan) if model is None else model, SCALING)


def blocks(plan: Plan, data: Table) -> Blocks:
    return evaluation_cells(plan, CONTRACT).blocks(vector(plan, data))


def squared_bound(plan: Plan) -> Fraction:
    releases = releases_of(plan, CONTRACT)
    assert releases is not None
    return Fraction(releases.evaluate.sensitivity) ** 2


def squared(moved: Integers) -> int:
    return sum(int(each) ** 2 for each in moved)


# --- what is counted ---------------------------------------------------------------------------------------------------


def test_the_blocks_are_what_a_spreadsheet_would_count() -> None:
    plan, data = panelled("rows"), rows()
    out = held_out([str(each) for each in data["loan_id"].to_pylist()], "1", 0.3)
    found = blocks(plan, table(data))
    kept = data.filter(pa.array(out))
    positive = np.array(kept["status"].to_pylist()) == "bad"
    scores = found.scores[0] // 512
    assert scores.sum(axis=1).tolist() == [int((~positive).sum()), int(positive.sum())]
    sexes = [each if each in {"f", "m"} else NOT_GIVEN for each in kept["sex"].to_pylist()]
    veterans = [NOT_GIVEN if each is None else str(each).lower() for each in kept["veteran"].to_pylist()]
    for block, attribute, values in zip(found.groups, PROTECTED, (sexes, veterans), strict=True):
        for group, counts in zip(groups_of(CONTRACT, attribute), block // 512, strict=True):
            here = np.array(values) == group
            assert counts.sum(axis=1).tolist() == [
                int((here & ~positive).sum()),
                int((here & positive).sum()),
            ], group
    amounts = np.array(kept["amount"].to_pylist())
    assert (found.profile[0] // 256).tolist() == [
        *np.histogram(amounts, bins=5, range=(0, 1000))[0].tolist(),
        0,
    ]
    assert (
        found.profile[1][-1] // 256
        == kept["income"].to_numpy().size
        - np.isfinite(np.array(kept["income"].to_pylist(), dtype=np.float64)).sum()
    )
    assert (found.profile[2] // 256).tolist() == [
        kept["term"].to_pylist().count("short"),
        kept["term"].to_pylist().count("long"),
        0,
    ]
    halves = held_out([str(each) for each in kept["loan_id"].to_pylist()], "1 parts of explanations", 0.5)
    assert (found.part_rows // 512).tolist() == [int((~halves).sum()), int(halves.sum())]
    assert 0.3 < halves.mean() < 0.7


def test_the_threshold_is_an_edge_so_declined_rows_are_counted_exactly() -> None:
    plan = panelled()
    model, data = weights(plan), table()
    found = evaluation_cells(plan, CONTRACT).blocks(vector(plan, data, model))
    out = held_out(data.keys, "1", 0.3)
    spec = CONTRACT.feature_spec(plan.features)
    kept = data.rows(out)
    declined = plan.dense_model(spec.width).probabilities(model, spec.encode(kept.columns, SCALING)) >= 0.5
    counts = found.groups[0] // 512
    assert counts[:, :, 2:].sum() == declined.sum()
    assert 0 < declined.sum() < len(declined)
    assert group_edges(0.2, 8)[4] == 0.2


@pytest.mark.parametrize("shape", [{}, MLP], ids=["logistic", "mlp"])
def test_attributions_are_clipped_contributions_summed_up_by_feature(shape: dict[str, str]) -> None:
    plan, data = panelled("none", shape), table()
    model = weights(plan)
    found = evaluation_cells(plan, CONTRACT).blocks(vector(plan, data, model)).attributions[0] / 2
    spec = CONTRACT.feature_spec(plan.features)
    kept = data.rows(held_out(data.keys, "1", 0.3))
    dense = plan.dense_model(spec.width)
    raw = by_feature(
        spec,
        contributions(dense.split(model), spec.encode(kept.columns, SCALING), reference_of(spec)),
    )
    both = np.concatenate((np.abs(raw), raw), axis=1) / 1.5
    clipped = both / np.maximum(1.0, np.linalg.norm(both, axis=1))[:, None]
    assert (np.linalg.norm(both, axis=1) > 1).any()
    expected = clipped.sum(axis=0).reshape(2, -1)
    # Rounding takes less than a step of each row.
    assert np.abs(found / 256 - expected).max() <= len(kept.keys) / 256
    assert (found[0] / 256 <= expected[0]).all()
    assert (found[0] >= np.abs(found[1])).all()


def test_a_site_is_in_its_own_part_and_in_no_other() -> None:
    plan = panelled("sites")
    cells = evaluation_cells(plan, CONTRACT)
    for site, part in (("east", 0), ("north", 1), ("south", 0), ("west", 1)):
        one = PrivateSession(plan, CONTRACT, table(), site=site_name(site))
        found = cells.blocks(one.evaluate(weights(plan), SCALING))
        assert found.part_rows[1 - part] == 0
        assert not found.attributions[1 - part].any()
        assert found.part_rows[part] == found.scores[0].sum()
    with pytest.raises(UsageError, match="say which site this is"):
        PrivateSession(plan, CONTRACT, table())


def test_without_noise_the_plain_session_counts_the_same_rows() -> None:
    private = panelled("rows")
    text = loans.PLAN.replace("MODEL", "{kind: logistic}")
    from protos.documents import read_document

    plain = read_document(
        text.replace("term]", "term]\nprotected: [sex, veteran]").replace(
            'salt: "1"}}',
            'salt: "1"}, fairness: {decline_at: 0.5, minimum_group: 10, bins: 4}, explanations: {clip: 1.5, parts: rows}, profile: {bins: 5}}',
        ),
        Plan,
        "plan.yaml",
    )
    model = weights(private)
    one = TrainingSession(plain, CONTRACT, table(), site=WEST).evaluate(model, SCALING)
    found, other = evaluation_cells(plain, CONTRACT).blocks(one), blocks(private, table())
    for mine, theirs in zip(
        (*found.groups, found.attributions, found.part_rows, *found.profile),
        (*other.groups, other.attributions, other.part_rows, *other.profile),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


# --- one unit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", ["none", "rows", "sites"])
@pytest.mark.parametrize("shape", [{}, MLP], ids=["logistic", "mlp"])
def test_no_row_moves_the_vector_by_more_than_is_charged_for_and_moves_nothing_of_another_row(
    parts: str, shape: dict[str, str]
) -> None:
    plan, data = panelled(parts, shape | HELD_OUT), table(rows(60))
    whole, far = vector(plan, data), 0
    for place in range(60):
        chosen = np.arange(60) == place
        moved = whole - vector(plan, data.rows(~chosen))
        np.testing.assert_array_equal(moved, vector(plan, data.rows(chosen)))
        far = max(far, squared(moved))
    assert far <= squared_bound(plan)
    # The bound is not idle: a clipped row is within a rounding of it.
    weight = 4 * (1 + 2 + 1 + (parts != "none")) + 3
    assert evaluation_cells(plan, CONTRACT).weight == weight
    assert far > 256**2 * (weight - 0.2)


def test_no_customer_moves_the_vector_by_more_than_is_charged_for() -> None:
    plan, data = panelled("rows", CUSTOMERS | HELD_OUT), table()
    assert data.customers is not None
    whole, names = vector(plan, data), np.array(data.customers)
    far = 0
    for name in sorted(set(data.customers)):
        moved = whole - vector(plan, data.rows(names != name))
        far = max(far, squared(moved))
        halves = evaluation_cells(plan, CONTRACT).blocks(moved).part_rows
        assert (halves == 0).any()  # all rows of a customer are in one part
    assert far <= squared_bound(plan)
    assert far > squared_bound(plan) / 4
    assert far > squared_bound(panelled("rows", HELD_OUT))  # the bound of one row would be too small


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 1000.0, 100_000.0]),
)
ANY_ROW = st.fixed_dictionaries({
    # An odd number stands at some place in the order of keys.
    "loan_id": st.integers(0, 20).map(lambda place: 199 + 2 * place),
    "amount": st.floats(allow_nan=False, allow_infinity=False),
    "income": NUMBERS,
    "term": st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["short", "long"])),
    "status": st.sampled_from(["bad", "good"]),
    "customer_id": st.just("c0"),
    "sex": st.one_of(st.none(), st.text(max_size=2), st.sampled_from(["f", "m", NOT_GIVEN])),
    "veteran": st.one_of(st.none(), st.booleans()),
    "birth": st.just(1950.0),
})  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    row=ANY_ROW,
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0, 1e10, 1e300, math.nan, math.inf]),
    seed=st.integers(0, 1000),
    parts=st.sampled_from(["none", "rows", "sites"]),
    shape=st.sampled_from([{}, MLP]),
)
def test_no_row_that_can_be_thought_of_moves_the_vector_further(
    row: dict[str, object], scale: float, seed: int, parts: str, shape: dict[str, str]
) -> None:
    """The real reading and the real session, with any row beside twenty others, wherever it stands, under any model."""
    plan = panelled(parts, shape | HELD_OUT)
    others = rows(20, seed=3)
    others = others.set_column(0, "loan_id", pa.array(range(200, 240, 2), pa.int64()))
    added = pa.Table.from_pylist([row], schema=others.schema)
    with np.errstate(all="ignore"):
        model = weights(plan, seed) * scale
        there = vector(plan, table(pa.concat_tables([others, added])), model)
        moved = there - vector(plan, table(others), model)
    assert squared(moved) <= squared_bound(plan)


# --- protected attributes ----------------------------------------------------------------------------------------------


def test_protected_attributes_are_read_only_where_they_are_asked_for_and_are_no_columns() -> None:
    without = table_from(rows(), CONTRACT, renamed={}, named="x")
    assert not without.protected
    assert set(without.columns) == {"amount", "income", "term"}
    one = table_from(rows(), CONTRACT, renamed={}, named="x", protected=["sex"])
    assert set(one.protected) == {"sex"}
    assert set(one.columns) == {"amount", "income", "term"}
    with pytest.raises(UsageError, match="veteran is a protected attribute, and was not read"):
        session(panelled(), one).evaluate(weights(panelled()), SCALING)


def test_protected_attributes_of_many_rows_are_spooled_with_them(tmp_path: object) -> None:
    from pathlib import Path

    spooled = read(
        InMemory(rows(), "x"),
        CONTRACT,
        renamed={},
        today=None,
        spool=Path(str(tmp_path)),
        most=100,
        protected=PROTECTED,
    ).accepted()
    np.testing.assert_array_equal(vector(panelled(), spooled), vector(panelled(), table()))


def test_reweighing_moves_a_gradient_by_no_more_than_its_norm_and_counts_by_group_and_class() -> None:
    from protos.plan_training import GradientSums
    from strategies.dp.clipping import FRACTION_BITS, clipped_sum
    from tests.client.local_for_tests import seed

    everybody = {"expected_batch: 16": "expected_batch: 32"}
    plan, plain = panelled("none", REWEIGHED | everybody), panelled("none", everybody)
    data = table(rows(40))
    model = np.linspace(-0.1, 0.1, weights(plan).size)
    whole = session(plan, data).gradient_sum(model, SCALING, seed(1))
    assert not np.array_equal(whole, session(plain, data).gradient_sum(model, SCALING, seed(1)))
    for place in range(0, 40, 5):
        chosen = np.arange(40) == place
        alone = session(plan, data.rows(chosen)).gradient_sum(model, SCALING, seed(1))
        moved = whole - session(plan, data.rows(~chosen)).gradient_sum(model, SCALING, seed(1))
        np.testing.assert_array_equal(moved, alone)
        assert squared(moved) <= (1 << FRACTION_BITS) ** 2
    # By hand: each row's own weight, as a class weight of one row.
    rule = plan.training
    assert isinstance(rule, GradientSums)
    spec, kept = CONTRACT.feature_spec(plan.features), data.rows(~held_out(data.keys, "1", 0.3))
    by_hand = np.zeros(model.size, dtype=np.int64)
    for place, sex in enumerate(kept.protected["sex"]):
        chosen = np.arange(len(kept.keys)) == place
        one = kept.rows(chosen)
        factor = 1.0 if sex != "f" else 0.25 if one.target[0] else 3.0
        by_hand += clipped_sum(
            plan.dense_model(spec.width),
            model,
            spec.encode(one.columns, SCALING),
            one.target,
            clip=rule.clip,
            weights=rule.class_weights.model_copy(update={"negative": factor, "positive": factor or 1.0}),
        )
    np.testing.assert_array_equal(whole, by_hand)
