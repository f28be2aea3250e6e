"""A small private plan and its contract; each test changes one thing in them."""

from __future__ import annotations

from pathlib import Path

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan

PLAN = """\
# Agreed in the steering group; numbers by `covenant privacy calibrate`.
covenant: plan/v1
name: lending-default
purpose: credit-risk
contract: lending-club@1
features: [funded_amnt, int_rate, term]
sites:
  members: demo@1
  invite: [west, midwest, northeast, south]
  minimum: 3
  join_within: 2m
model: {kind: logistic}
training:
  component: tabular/2
  algorithm: dp-fedsgd
  server_optimiser: {kind: fedavgm, learning_rate: 2.0, momentum: 0.9}
  rounds: 40   # one gradient sum each
  expected_batch: 128
  nominal_rows: 1280
  clip: 1.0
  round_deadline: 5m
  seed: 1
aggregation: {mode: secure, adversary: active, suite: x25519-aes256-sha256, colluding: 1, update_range: 1.0}
privacy:
  mode: distributed
  unit: {kind: record}
  limit: {epsilon: 8.0, delta: 1.0e-5}
  noise: {preparation: 8.0, training: 1.0, evaluation: 6.0}
  retries: 5
evaluation: {every: 40, score_bins: 16, holdout: {by: loan_id, share: 0.3, salt: "1"}}
"""

CONTRACT = """\
covenant: contract/v1
name: lending-club
version: 1
key: loan_id
customer: customer_id
target: {column: Class, positive: bad, negative: good}
columns:
  funded_amnt: {type: number, unit: USD, range: [0, 40000]}
  int_rate: {type: number, unit: percent a year, range: [0, 36]}
  term: {type: category, vocabulary: [term_36, term_60]}
"""

NOISE = "noise: {preparation: 8.0, training: 1.0, evaluation: 6.0}"
CENTRAL = (("mode: distributed", "mode: central"),)
LOCAL = (
    ("mode: distributed", "mode: local"),
    ("algorithm: dp-fedsgd", "algorithm: dp-sgd\n  local_steps: 2\n  learning_rate: 0.1"),
)
CUSTOMERS = (
    ("unit: {kind: record}", "unit: {kind: customer, column: customer_id, max_rows: 4}"),
    ("by: loan_id", "by: customer_id"),
    (NOISE, "noise: {preparation: 8.0, training: 2.0, evaluation: 6.0}"),
)
SITES = (
    ("unit: {kind: record}", "unit: {kind: site, max_rows: 100}"),
    ("expected_batch: 128", "expected_batch: 1"),
    ("nominal_rows: 1280", "nominal_rows: 1"),
    (NOISE, "noise: {preparation: 30.0, training: 30.0, evaluation: 30.0}"),
)
EXEMPTING = ((NOISE, "noise: {preparation: 8.0, training: 1.0}\n  exempt: [evaluation]"),)
NONE = (
    ("algorithm: dp-fedsgd", "algorithm: fedavg"),
    ("expected_batch: 128", "batch_size: 32"),
    ("nominal_rows: 1280", "learning_rate: 0.1"),
    ("  clip: 1.0\n", ""),
    (
        PLAN[PLAN.index("  mode: distributed") : PLAN.index("evaluation: {every")],
        "  mode: none\n",
    ),
)

Change = tuple[str, str]


def plan_text(*changes: Change) -> str:
    """`PLAN` with each change made once: a test that changes nothing proves nothing."""
    text = PLAN
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def private_plan(*changes: Change) -> Plan:
    """`PLAN` with `changes`, read."""
    return read_document(plan_text(*changes), Plan, "plan.yaml")


def contract() -> Contract:
    """`CONTRACT`, read."""
    return read_document(CONTRACT, Contract, "lending-club.yaml")


def write_documents(folder: Path, *changes: Change) -> Path:
    """Plan and contract as files in `folder`; the plan's path."""
    (folder / "lending-club.yaml").write_text(CONTRACT)
    plan = folder / "plan.yaml"
    plan.write_text(plan_text(*changes))
    return plan
