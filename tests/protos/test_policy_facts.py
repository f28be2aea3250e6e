"""Facts of plans and models: complete, of their types, and the same again when an auditor makes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.documents import read_document
from protos.plan_evaluation import Champion
from protos.policy_facts import FACTS, LATER, FactType, PolicyFacts, facts_for, plan_facts, require_same
from strategies.encoding import canonical_json
from strategies.errors import Refused
from tests.policies_for_tests import facts_of_model, facts_of_plan, recorded
from tests.private_plan_for_tests import (
    CENTRAL,
    CONTRACT,
    CUSTOMERS,
    EXEMPTING,
    LOCAL,
    NONE,
    SITES,
    private_plan,
)

TYPES: dict[FactType, Any] = {
    FactType.BOOL: bool,
    FactType.INT: int,
    FactType.DOUBLE: float,
    FactType.STRING: str,
    FactType.STRINGS: list,
    FactType.NUMBERS: dict,
}
PLANS = {
    "record": (), "central": CENTRAL, "local": LOCAL, "customers": CUSTOMERS, "sites": SITES, "exempting": EXEMPTING,
    "none": NONE,
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_the_facts_of_a_plan_are_those_of_the_table_but_for_the_absent_ones(name: str) -> None:
    facts = facts_of_plan(*PLANS[name], contract=CONTRACT)
    table = {each.name: each for each in facts_for("plan")}
    assert set(facts) <= set(table)
    assert {each for each in table if each not in facts} == {
        each.name for each in table.values() if each.absent and each.name not in facts
    }
    for each, value in facts.items():
        assert type(value) is TYPES[table[each].type], each
    assert ("forecast.epsilon" in facts) == (name != "none")


def test_the_facts_of_a_model_are_those_of_the_whole_table() -> None:
    facts = facts_of_model()
    there = [each for each in FACTS if each.name != "plan.gate_norm"]  # its plan has no gate
    assert set(facts) == {each.name for each in there}
    for each in there:
        assert type(facts[each.name]) is TYPES[each.type], each.name


def test_a_gate_is_a_fact_with_its_norm() -> None:
    without = facts_of_plan(contract=CONTRACT)
    assert without["plan.has_gate"] is False
    gated = facts_of_plan(
        ("update_range: 1.0}", "update_range: 1.0, gate: {update_norm: 4.0}}"), contract=CONTRACT
    )
    assert gated == {**without, "plan.has_gate": True, "plan.gate_norm": 4.0}
    assert without["plan.rule"] == "mean"


def test_only_numbers_are_metrics() -> None:
    metrics = {"auc": 1, "ks": 0.5, "model": "x", "flag": True, "nothing": None, "odd": float("nan")}
    assert recorded(metrics=metrics).facts()["model.metrics"] == {"auc": 1.0, "ks": 0.5}
    assert recorded(metrics={}).facts()["model.calibration_bins"] == 0


def test_stages_are_told_as_what_they_mean() -> None:
    for stage, checked, serves in (
        ("candidate", False, False), ("validated", True, False), ("approved", True, True), ("deployed", True, True),
        ("retired", False, False), ("quarantined", False, False),
    ):  # fmt: skip
        facts = recorded().at(stage).facts()
        assert (facts["model.is_checked"], facts["model.serves"]) == (checked, serves)


def again(facts: PolicyFacts) -> dict[str, Any]:
    """As an entry of the log has them."""
    return dict(json.loads(canonical_json(facts)))


def test_recorded_facts_are_the_same_again_after_json_and_on_another_machine() -> None:
    made = facts_of_plan()
    require_same(again(made), made, "plan x")
    other = again(made) | {"forecast.epsilon": made["forecast.epsilon"] * (1 + 1e-13)}  # type: ignore[operator]
    require_same(other, made, "plan x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan.rounds": 41}, "plan.rounds 41, and it is 40"),
        ({"plan.rounds": 40.0}, "plan.rounds"),
        ({"plan.rounds": "40"}, "plan.rounds"),
        ({"plan.features": ["term"]}, "plan.features"),
        ({"contract.has_freshness": 1}, "contract.has_freshness"),
        ({"forecast.epsilon": 1.0}, "forecast.epsilon"),
        ({"forecast.epsilon": True}, "forecast.epsilon"),
        ({"plan.magic": 1}, "which is no fact"),
    ],
)
def test_a_fact_that_differs_is_refused(change: dict[str, Any], words: str) -> None:
    made = facts_of_plan()
    with pytest.raises(Refused, match=words):
        require_same(again(made) | change, made, "plan x")


def test_a_fact_that_there_is_none_of_is_refused_and_one_left_out_too() -> None:
    made = facts_of_plan(*NONE)
    with pytest.raises(Refused, match=r"forecast.epsilon, which it does not have"):
        require_same(again(made) | {"forecast.epsilon": 1.0}, made, "plan x")
    short = again(made)
    del short["plan.sites"]
    with pytest.raises(Refused, match=r"plan.sites None, and it is 4"):
        require_same(short, made, "plan x")


@pytest.mark.parametrize("name", LATER)
def test_a_later_fact_is_left_out_only_where_it_says_nothing(name: str) -> None:
    made = facts_of_plan()
    assert made[name] == LATER[name]
    short = again(made)
    del short[name]
    require_same(short, made, "plan x")
    telling = made | {name: {"plan.protected": ["sex"], "plan.rule": "median"}.get(name, True)}
    with pytest.raises(Refused, match=f"is judged by {name} None, and it is "):
        require_same(short, telling, "plan x")


def test_the_norm_of_a_gate_is_never_left_out() -> None:
    gated = facts_of_plan(("update_range: 1.0}", "update_range: 1.0, gate: {update_norm: 4.0}}"))
    short = again(gated)
    del short["plan.gate_norm"]
    with pytest.raises(Refused, match=r"plan.gate_norm None, and it is 4.0"):
        require_same(short, gated, "plan x")


def test_no_fact_of_a_model_is_taken_as_recorded() -> None:
    made = facts_of_model()
    require_same(again(made), made, "model x")
    for name in ("model.is_signed", "model.metrics", "model.artifacts", "run.witnesses"):
        short = {each: value for each, value in made.items() if each != name}
        with pytest.raises(Refused, match=f"{name}, which it does not have"):
            require_same(again(made), short, "model x")


def test_a_plan_says_which_columns_its_champion_sees() -> None:
    read = read_document(CONTRACT, Contract, "contract")
    plan = private_plan()
    champion = Champion(
        model="older@1",
        weights="ab" * 32,
        scaling="cd" * 32,
        contract=read.digest,
        features=("term", "age_band"),
        shape=plan.model,
    )
    with_one = plan.model_copy(
        update={"evaluation": plan.evaluation.model_copy(update={"champion": champion})}
    )
    facts = plan_facts(with_one, read, PlanEvidence())
    assert facts["plan.features"] == ["funded_amnt", "int_rate", "term"]
    assert facts["plan.columns"] == ["funded_amnt", "int_rate", "term", "age_band"]
    assert facts_of_plan()["plan.columns"] == facts["plan.features"]
