"""A small bank: a contract, a plan and rows that follow them."""

from datetime import date

import numpy as np
import pyarrow as pa

from client.data import Table, table_from
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan

TODAY = date(2026, 7, 1)
CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000]}
  income: {type: number, unit: USD, range: [0, 1.0e+5], transform: log1p, missing: indicator}
  term: {type: category, vocabulary: [short, long]}
""",
    Contract,
    "loans.yaml",
)

PLAN = """\
covenant: plan/v1
name: default
purpose: credit-risk
contract: loans@1
features: [amount, income, term]
sites: {members: demo@1, invite: [west, south], minimum: 2, join_within: 2m}
model: MODEL
training:
  component: tabular/1
  algorithm: fedavg
  rounds: 3
  local_epochs: 2
  batch_size: 16
  learning_rate: 0.1
  round_deadline: 5m
  seed: 1
aggregation: {mode: plain}
privacy: {mode: none}
evaluation: {every: 1, score_bins: 100, holdout: {by: loan_id, share: 0.3, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""


def plan(*, model: str = "{kind: logistic}", **training: object) -> Plan:
    """The plan with some training settings changed."""
    base = read_document(PLAN.replace("MODEL", model), Plan, "plan.yaml")
    return base.model_copy(update={"training": base.training.model_copy(update=training)})


def loans(rows: int = 200, *, seed: int = 0, first: int = 0) -> pa.Table:
    """Rows in which a large amount and a small income make a bad loan likelier."""
    source = np.random.default_rng(seed)
    amount = source.uniform(0, 1000, rows)
    income = source.uniform(1000, 100_000, rows)
    risk = 1 / (1 + np.exp(-(amount - 600) / 150 + (income - 50_000) / 30_000))
    bad = source.uniform(size=rows) < risk
    bad[0], bad[-1] = True, False
    income[::7] = np.nan
    return pa.table(
        {
            "loan_id": np.arange(first, first + rows),
            "amount": amount,
            "income": income,
            "term": np.where(source.uniform(size=rows) < 0.5, "short", "long").tolist(),
            "status": np.where(bad, "bad", "good").tolist(),
        }
    )


def table(rows: int = 200, *, seed: int = 0, first: int = 0) -> Table:
    """The same rows as a site loads them."""
    return table_from(loans(rows, seed=seed, first=first), CONTRACT, renamed={}, named="loans.parquet")
