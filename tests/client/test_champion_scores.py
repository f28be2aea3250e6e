"""What one record, customer or site moves the counts of model and champion by, in real sessions; and which champion a site scores."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from client.data import Table
from client.refusal import TaskRefused
from client.training.champion import Scorer, champion_of
from client.training.private import PrivateSession
from protos.contract import Contract
from protos.frames import ChampionModel, RefusalCode, Stage, scaling_digest
from protos.plan import Plan
from protos.plan_evaluation import Champion
from protos.plan_fit import check_plan
from protos.plan_model import MlpModel
from protos.plan_releases import releases_of
from strategies.encoding import vector_digest
from strategies.errors import UsageError
from strategies.features import Scaling
from tests.client import loans_for_tests as loans
from tests.client.private_for_tests import private_plan
from tests.client.secure_for_tests import SCALING

FEATURES = loans.CONTRACT.feature_spec(("amount",))
SHAPE = MlpModel(kind="mlp", hidden=(2,))
WEIGHTS = np.array([3.0, -2.0, 0.5, 0.1, 1.0, -1.5, 0.2])
SENT = ChampionModel(WEIGHTS, Scaling(mean=(0.5,), std=(0.2,)))
PART = Champion(
    model="older@3",
    weights=vector_digest(WEIGHTS),
    scaling=scaling_digest(SENT.scaling),
    contract=loans.CONTRACT.digest,
    features=("amount",),
    shape=SHAPE,
)
CUSTOMERS = Contract.from_canonical(
    json.dumps(
        json.loads(loans.CONTRACT.canonical) | {"customer": "owner"}, sort_keys=True, separators=(",", ":")
    ).encode()
)


def with_champion(plan: Plan, **changes: object) -> Plan:
    part = PART.model_copy(update=changes)
    return Plan.from_canonical(
        plan.model_copy(
            update={"evaluation": plan.evaluation.model_copy(update={"champion": part})}
        ).canonical
    )


def vector(plan: Plan, contract: Contract, table: Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    session = PrivateSession(plan, contract, table)
    champion = champion_of(plan, contract, Stage.EVALUATE, SENT)
    return session.evaluate(np.linspace(-1.0, 1.0, session.model.size), SCALING, champion)


def squared_bound(plan: Plan, contract: Contract) -> Fraction:
    planned = releases_of(plan, contract)
    assert planned is not None
    assert planned.evaluate.dimension == 4 * plan.evaluation.score_bins
    return Fraction(planned.evaluate.sensitivity) ** 2


def moved_by(plan: Plan, contract: Contract, table: Table, units: list[str]) -> set[int]:
    """The squared distances that removing each unit moves the vector by."""
    whole, names = vector(plan, contract, table), np.array(units)
    return {
        int(((whole - vector(plan, contract, table.rows(names != unit))) ** 2).sum()) for unit in set(units)
    }


def test_removing_any_record_moves_the_counts_within_the_bound_and_some_by_all_of_it() -> None:
    plan, table = with_champion(private_plan({"share: 0.3": "share: 0.9"})), loans.table(40)
    moved = moved_by(plan, loans.CONTRACT, table, list(table.keys))
    assert moved == {0, 2}
    assert max(moved) <= squared_bound(plan, loans.CONTRACT)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_removing_any_customer_moves_the_counts_within_the_bound(most: int) -> None:
    plan = with_champion(
        private_plan(
            {
                "{kind: record}": f"{{kind: customer, column: owner, max_rows: {most}}}",
                "by: loan_id, share: 0.3": "by: owner, share: 0.9",
                "evaluation: 2.0": "evaluation: 9.0",
            }
        ),
        contract=CUSTOMERS.digest,
    )
    table = loans.table(40)
    owners = [f"owner-{place % 9}" for place in range(len(table.keys))]
    table = replace(table, customers=owners)
    moved = moved_by(plan, CUSTOMERS, table, owners)
    assert 0 < max(moved) <= 2 * most**2 <= squared_bound(plan, CUSTOMERS)


def test_a_whole_site_moves_the_counts_within_the_bound() -> None:
    plan = with_champion(
        private_plan(
            {
                "{kind: record}": "{kind: site, max_rows: 5}",
                "expected_batch: 16": "expected_batch: 1",
                "nominal_rows: 32": "nominal_rows: 1",
                "epsilon: 9.0": "epsilon: 50.0",
            }
        )
    )
    counts = vector(plan, loans.CONTRACT, loans.table(40))
    assert counts.sum() == 10
    assert int((counts**2).sum()) <= squared_bound(plan, loans.CONTRACT)


def test_the_champions_counts_are_those_of_its_own_features_scaling_and_shape() -> None:
    plan, table = with_champion(private_plan()), loans.table(90)
    session = PrivateSession(plan, loans.CONTRACT, table)
    model = np.linspace(-1.0, 1.0, session.model.size)
    own, both = session.score_counts(model, SCALING), vector(plan, loans.CONTRACT, table)
    np.testing.assert_array_equal(both[:16], own)
    alone = private_plan(
        {"[amount, income, term]": "[amount]", "{kind: logistic}": "{kind: mlp, hidden: [2]}"}
    )
    champion = PrivateSession(alone, loans.CONTRACT, table).evaluate(WEIGHTS, SENT.scaling)
    np.testing.assert_array_equal(both[16:], champion)
    assert not np.array_equal(own, champion)


# --- which champion ---------------------------------------------------------------------------------------------------


def test_the_named_champion_is_scored_and_no_other() -> None:
    plan = with_champion(private_plan())
    found = champion_of(plan, loans.CONTRACT, Stage.EVALUATE, SENT)
    assert isinstance(found, Scorer)
    np.testing.assert_array_equal(found.weights, WEIGHTS)
    assert champion_of(plan, loans.CONTRACT, Stage.TRAIN, None) is None
    assert champion_of(private_plan(), loans.CONTRACT, Stage.EVALUATE, None) is None


@pytest.mark.parametrize(
    ("sent", "stage", "words"),
    [
        (None, Stage.EVALUATE, "names champion older@3, and the request has none"),
        (SENT, Stage.TRAIN, "the request to train has a champion that the plan does not name"),
        (SENT, Stage.PREPARE, "the request to prepare has a champion"),
        (ChampionModel(WEIGHTS + 1e-9, SENT.scaling), Stage.EVALUATE, "the weights of champion older@3 has digest"),
        (ChampionModel(WEIGHTS[:-1], SENT.scaling), Stage.EVALUATE, "the weights of champion"),
        (ChampionModel(WEIGHTS, Scaling(mean=(0.5,), std=(0.3,))), Stage.EVALUATE, "the scaling of champion"),
        (ChampionModel(WEIGHTS, Scaling(mean=(), std=())), Stage.EVALUATE, "the scaling of champion"),
    ],
)  # fmt: skip
def test_any_other_is_refused_with_a_reason_that_is_of_no_row(
    sent: ChampionModel | None, stage: Stage, words: str
) -> None:
    with pytest.raises(TaskRefused, match=words) as refused:
        champion_of(with_champion(private_plan()), loans.CONTRACT, stage, sent)
    assert refused.value.code is RefusalCode.PROTOCOL


def test_a_champion_that_the_plan_does_not_name_is_refused() -> None:
    with pytest.raises(TaskRefused, match="a champion that the plan does not name"):
        champion_of(private_plan(), loans.CONTRACT, Stage.EVALUATE, SENT)


def test_digests_that_fit_are_not_enough_where_the_shape_does_not() -> None:
    plan = with_champion(private_plan(), shape=MlpModel(kind="mlp", hidden=(3,)))
    with pytest.raises(
        TaskRefused,
        match="has 7 weights and a scaling of 1 features; by the plan's shape and features it has 10 and 1",
    ):
        champion_of(plan, loans.CONTRACT, Stage.EVALUATE, SENT)


def test_a_champion_of_another_contract_does_not_fit_the_plan() -> None:
    check_plan(with_champion(private_plan()), loans.CONTRACT)
    with pytest.raises(UsageError, match="under other ranges its weights are another model"):
        check_plan(with_champion(private_plan(), contract="ab" * 32), loans.CONTRACT)


def test_a_champion_reads_no_column_that_is_not_in_the_contract() -> None:
    with pytest.raises(UsageError, match="nationality"):
        check_plan(with_champion(private_plan(), features=("nationality",)), loans.CONTRACT)
