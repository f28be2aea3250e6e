"""Small valid private plans and a contract that tells customers apart; each test changes what it is about."""

from __future__ import annotations

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_releases import PlannedReleases, releases_of
from tests.protos.documents_for_tests import CONTRACT, changed

PRIVATE = """\
covenant: plan/v1
name: private
purpose: credit-risk
contract: lending-club@1
features: [funded_amnt, income, term]
sites: {members: demo@1, invite: [s0, s1, s2, s3], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/2
  algorithm: dp-fedsgd
  rounds: 20
  expected_batch: 100
  nominal_rows: 1000
  round_deadline: 5m
  seed: 1
aggregation: {mode: secure}
privacy:
  mode: distributed
  unit: {kind: record}
  limit: {epsilon: 8.0, delta: 1.0e-5}
  noise: {preparation: 8.0, training: 1.5, evaluation: 4.0}
  retries: 5
evaluation: {every: 20, score_bins: 32, holdout: {by: loan_id, share: 0.3, salt: "1"}}
"""
LOCAL = (
    ("algorithm: dp-fedsgd", "algorithm: dp-sgd"),
    ("  round_deadline", "  local_steps: 4\n  learning_rate: 0.5\n  round_deadline"),
    ("mode: distributed", "mode: local"),
)
CENTRAL = (("mode: distributed", "mode: central"),)
MODES = {"distributed": (), "central": CENTRAL, "local": LOCAL}
CUSTOMERS = (
    ("unit: {kind: record}", "unit: {kind: customer, column: customer_id, max_rows: 3}"),
    ("by: loan_id", "by: customer_id"),
)
SITES = (
    ("unit: {kind: record}", "unit: {kind: site, max_rows: 5000}"),
    ("expected_batch: 100", "expected_batch: 1"),
    ("nominal_rows: 1000", "nominal_rows: 1"),
)
UNITS = {"record": (), "customer": CUSTOMERS, "site": SITES}

Changes = tuple[tuple[str, str], ...]


def text_of(*changes: tuple[str, str]) -> str:
    text = PRIVATE
    for old, new in changes:
        text = changed(text, old, new)
    return text


def plan_of(*changes: tuple[str, str]) -> Plan:
    return read_document(text_of(*changes), Plan, "plan.yaml")


def contract_of(*, customer: str | None = None) -> Contract:
    text = (
        CONTRACT
        if customer is None
        else changed(CONTRACT, "key: loan_id", f"key: loan_id\ncustomer: {customer}")
    )
    return read_document(text, Contract, "contract.yaml")


RECORDS = contract_of()
PEOPLE = contract_of(customer="customer_id")


def contract_for(plan: Plan) -> Contract:
    return PEOPLE if plan.evaluation.holdout.by == "customer_id" else RECORDS


def releases(plan: Plan) -> PlannedReleases:
    found = releases_of(plan, contract_for(plan))
    assert found is not None
    return found
