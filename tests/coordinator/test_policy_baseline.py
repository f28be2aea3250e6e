"""The shipped pack: each rule is failed by something and passed by something, and by recorded facts only."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.governance.policies.judge import compiled
from coordinator.governance.policies.shipped import baseline
from protos.policy_facts import FACTS, PolicyFacts
from protos.policy_verdicts import ModelSubject, PlanSubject
from strategies.encoding import sha256_hex
from tests.policies_for_tests import APPROVALS, facts_of_model, facts_of_plan
from tests.private_plan_for_tests import CONTRACT, EXEMPTING, NONE

PLAN = PlanSubject(name="lending-default", plan=sha256_hex(b"plan"), contract=sha256_hex(b"contract"))
MODEL = ModelSubject(name="lending-default", version=2)


def outcomes(facts: PolicyFacts) -> dict[str, str]:
    subject = MODEL if "model.name" in facts else PLAN
    return dict(compiled(baseline()).judge(subject, facts).outcomes())


def plan(*changes: tuple[str, str], contract: str | None = None, **facts: Any) -> PolicyFacts:
    made = facts_of_plan(*changes) if contract is None else facts_of_plan(*changes, contract=contract)
    return made | {name.replace("__", "."): value for name, value in facts.items()}


def model(**changes: Any) -> PolicyFacts:
    return facts_of_model(**changes)


CHAMPION = {"champion": {"auc": 0.7}}
ALONE = {"auc": 0.71, "calibration": [{}, {}]}
PLAIN = (
    "aggregation: {mode: secure, adversary: active, suite: x25519-aes256-sha256, colluding: 1, update_range: 1.0}",
    "aggregation: {mode: plain}",
)

FAILING: dict[str, PolicyFacts] = {
    "privacy-or-public-data": plan(*NONE),
    "epsilon-bounded": plan(forecast__epsilon=10.1),
    "delta-below-one-in-n": plan(("delta: 1.0e-5", "delta: 1.0e-3")),
    "every-stage-has-noise": plan(*EXEMPTING),
    "sums-only": plan(*NONE, PLAIN),
    "two-honest-survivors": plan(plan__honest_survivors=1),
    "two-roles-asked": plan(("evaluation: {every", "approvals: {privacy_officer: 1, model_risk: 0}\nevaluation: {every")),
    "no-protected-feature": plan(plan__columns=["funded_amnt", "age_band"]),
    "protected-attributes-named": plan(contract=CONTRACT),
    "records-are-fresh": plan(contract__newest_within_s=401 * 86400.0),
    "outcome-defined": plan(contract=CONTRACT),
    "holdout-large-enough": plan(("share: 0.3", "share: 0.05")),
    "approved-by-two-roles": model(approvals={**APPROVALS, "approvals.roles": ["model_risk"]}),
    "model-epsilon-bounded": model() | {"forecast.epsilon": 12.0},
    "run-was-witnessed": model(witnesses=("west",)),
    "files-kept": model(artifacts=("model.onnx", "plan.json", "contract.json")),
    "performance-recorded": model(metrics={**CHAMPION, "calibration": [{}, {}]}),
    "calibration-recorded": model(metrics={**CHAMPION, "auc": 0.7}),
    "champion-compared": model(metrics=ALONE),
    "statements-there": model(statements=("purpose", "limitations")),
    "files-signed": model(is_signed=False),
}  # fmt: skip
MORE_FAILING = {
    "approved-by-two-roles": [
        model(approvals={**APPROVALS, "approvals.author": "risk-1"}),
        model(approvals={**APPROVALS, "approvals.author": ""}),
    ],
    "records-are-fresh": [plan(contract=CONTRACT)],
    "holdout-large-enough": [plan(("share: 0.3", "share: 0.6"))],
}
PASSING: dict[str, list[PolicyFacts]] = {
    "privacy-or-public-data": [plan(*NONE, ("purpose: credit-risk", "purpose: public-data"))],
    "epsilon-bounded": [plan(forecast__epsilon=10.0), plan(*NONE)],
    "delta-below-one-in-n": [plan(*NONE)],
    "sums-only": [plan(*NONE, PLAIN, ("purpose: credit-risk", "purpose: public-data"))],
    "performance-recorded": [model(stage="candidate", metrics={})],
    "calibration-recorded": [model(stage="candidate", metrics={})],
    "champion-compared": [
        model(metrics=ALONE, earlier_versions=0),
        model(metrics=ALONE, stage="validated"),
    ],
    "statements-there": [model(statements=(), stage="validated")],
    "files-signed": [model(is_signed=False, stage="candidate")],
}


def test_a_good_plan_and_a_good_model_pass_every_rule() -> None:
    found = {**outcomes(plan()), **outcomes(model())}
    assert set(found) == {each.id for each in baseline().rules} == set(FAILING)
    assert set(found.values()) == {"passes"}, found


@pytest.mark.parametrize("name", FAILING)
def test_each_rule_is_failed_by_what_it_is_about(name: str) -> None:
    for facts in (FAILING[name], *MORE_FAILING.get(name, [])):
        assert outcomes(facts)[name] == "fails"


@pytest.mark.parametrize("name", PASSING)
def test_a_rule_leaves_alone_what_it_is_not_about(name: str) -> None:
    for facts in PASSING[name]:
        assert outcomes(facts)[name] == "passes"


def test_a_cost_without_bound_passes_no_rule_about_it() -> None:
    facts = plan()
    del facts["forecast.epsilon"]
    assert outcomes(facts)["epsilon-bounded"] == "error"


def test_every_rule_compiles_uses_facts_and_contributes_to_some_evidence() -> None:
    compiled(baseline()).require_sound()
    names = {each.name for each in FACTS}
    for each in baseline().rules:
        assert any(name in each.expression for name in names), each.id
        assert each.contributes_to, each.id
