"""A small federation that is made to be audited: many features, few rounds, little epsilon."""

from __future__ import annotations

import math
from random import Random

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from simulation.audit.result import AuditResult
from simulation.audit.run import audit
from simulation.audit.setting import Audit

FEATURES = 400

CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
customer: customer_id
target: {column: status, positive: bad, negative: good}
columns:
"""
    + "".join(f"  f{place}: {{type: number, unit: USD, range: [0, 100]}}\n" for place in range(FEATURES)),
    Contract,
    "loans.yaml",
)

_PLAN = """\
covenant: plan/v1
name: audited
purpose: credit-risk
contract: loans@1
features: FEATURES
sites: {members: demo@1, invite: [east, north, south, west], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/2
  ALGORITHM
  rounds: ROUNDS
  expected_batch: 380
  nominal_rows: 400
  round_deadline: 5m
  seed: 1
privacy:
  mode: MODE
  unit: UNIT
  limit: {epsilon: 20, delta: 1.0e-5}
  noise: {training: NOISE, preparation: 8.0, evaluation: 4.0}
  retries: 0
evaluation: {every: ROUNDS, score_bins: 20, holdout: {by: BY, share: 0.3, salt: "1"}}
"""

_SUMS = "algorithm: dp-fedsgd\n  server_optimiser: {kind: fedadam, learning_rate: 0.03}"
_LOCAL = "algorithm: dp-sgd\n  local_steps: 3\n  learning_rate: 0.5"


def audited_plan(*, mode: str = "distributed", sites: int = 0, rounds: int = 2) -> Plan:
    """Units are records, or customers who may be known to so many `sites`. A unit costs about as much in either case, after however many rounds."""
    unit = (
        f"{{kind: customer, column: customer_id, max_rows: 3, max_sites: {sites}}}"
        if sites
        else "{kind: record}"
    )
    steps = 3 if mode == "local" else 1
    text = _PLAN
    for name, value in {
        "FEATURES": "[" + ", ".join(CONTRACT.columns) + "]",
        "MODE": mode,
        "ALGORITHM": _LOCAL if mode == "local" else _SUMS,
        "UNIT": unit,
        "BY": "customer_id" if sites else "loan_id",
        "ROUNDS": str(rounds),
        "NOISE": f"{2 * max(1, sites) * math.sqrt(rounds * steps):.4f}",
    }.items():
        text = text.replace(name, value)
    return read_document(text, Plan, "plan.yaml")


def audited(plan: Plan, seed: int, *, canaries: int = 300) -> AuditResult:
    """The audit of all of a plan's rounds; `seed` is for everything that would be secret."""
    setting = Audit(plan=plan, contract=CONTRACT, rounds=plan.training.rounds, canaries=canaries)
    return audit(setting, Random(f"audit {seed}").randbytes)
