"""Packs, officers who sign them, and the facts of a plan and a model that pass the shipped pack."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.documents import make_document, read_document
from protos.membership import Role
from protos.policy_facts import PolicyFacts, RecordedModel, plan_facts
from protos.policy_pack import PackStatements, PolicyPack, PolicyRule, SignedPack, state_pack
from strategies.ids import Digest
from tests.private_plan_for_tests import CONTRACT, Change, private_plan
from tests.trust_for_tests import key_of, officers

FEDERATION = officers().pinned.root.identity
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FULL_CONTRACT = CONTRACT.replace(
    "negative: good}", "negative: good, definition: charged off within 36 months}"
).replace(
    "columns:",
    "protected: [age_band]\nfreshness: {column: issued, newest_within: 365d}\nminimum_rows: 100\ncolumns:\n"
    "  age_band: {type: category, vocabulary: [young, old]}\n  issued: {type: date}",
)


def rule(**changes: Any) -> PolicyRule:
    facts = {
        "id": "few-rounds",
        "applies_to": "plan",
        "severity": "blocking",
        "says": "It trains at most 50 rounds.",
        "expression": "plan.rounds <= 50",
        "acts": Role.ML_ENGINEER,
        "remedy": "Plan fewer rounds.",
    }
    return make_document(PolicyRule, "the rule", **{**facts, **changes})


def pack(*rules: PolicyRule, **changes: Any) -> PolicyPack:
    facts = {
        "covenant": "policy-pack/v1",
        "name": "house",
        "version": 1,
        "effective_from": BEGAN,
        "reason": "a test",
    }
    return make_document(PolicyPack, "the pack", **{**facts, "rules": rules or (rule(),), **changes})


def signed(
    what: PolicyPack, at: datetime, *by: tuple[str, Role], federation: Digest = FEDERATION
) -> SignedPack:
    """`what` with the statements of `by`; of one officer of each role that it takes unless told otherwise."""
    chosen = by or (("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK))
    said = PackStatements()
    for name, role in chosen:
        said = said.adding(state_pack(what, name, role, key_of(name), federation=federation, at=at))
    return SignedPack(pack=what, statements=said.statements)


def facts_of_plan(*changes: Change, contract: str = FULL_CONTRACT) -> PolicyFacts:
    read = read_document(contract, Contract, "contract")
    return plan_facts(private_plan(*changes), read, PlanEvidence())


APPROVALS: PolicyFacts = {
    "approvals.author": "author-1",
    "approvals.officers": ["privacy-1", "risk-1"],
    "approvals.roles": ["model_risk", "privacy_officer"],
}


def recorded(**changes: Any) -> RecordedModel:
    facts: dict[str, Any] = {
        "name": "lending-default",
        "version": 2,
        "stage": "deployed",
        "artifacts": ("model.safetensors", "model.onnx", "plan.json", "contract.json"),
        "metrics": {"auc": 0.71, "calibration": [{}, {}], "champion": {"auc": 0.7}},
        "is_signed": True,
        "earlier_versions": 1,
        "statements": ("purpose", "limitations", "oversight"),
        "witnesses": ("west", "south", "midwest"),
        "fewest_survivors": 3,
    }
    return RecordedModel(**{**facts, **changes})


def facts_of_model(approvals: PolicyFacts = APPROVALS, **changes: Any) -> PolicyFacts:
    return facts_of_plan() | approvals | recorded(**changes).facts()
