"""The small bank with two protected attributes, and plans that ask for all panels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from client.data import Table, table_from
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from tests.client import loans_for_tests as loans
from tests.client.private_for_tests import private_plan

PROTECTED = ("sex", "veteran")
CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
customer: customer_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000]}
  income: {type: number, unit: USD, range: [0, 1.0e+5], transform: log1p, missing: indicator}
  term: {type: category, vocabulary: [short, long]}
  sex: {type: category, vocabulary: [f, m]}
  veteran: {type: boolean, missing: indicator}
  birth: {type: number, unit: year, range: [1900, 2020]}
protected: [sex, veteran, birth]
""",
    Contract,
    "loans.yaml",
)
ASKED = "fairness: {decline_at: 0.5, minimum_group: 10, bins: 4}, explanations: {clip: 1.5, parts: PARTS}, profile: {bins: 5}"
PANELS = {
    "[amount, income, term]": "[amount, income, term]\nprotected: [sex, veteran]",
    'salt: "1"}}': f'salt: "1"}}, {ASKED}}}',
}
CUSTOMERS = {
    "unit: {kind: record}": "unit: {kind: customer, column: customer_id, max_rows: 3}",
    "by: loan_id": "by: customer_id",
}
REWEIGHED = {
    "  seed: 1": "  seed: 1\n  reweigh: {attribute: sex, weights: {f: {negative: 3.0, positive: 0.25}}}"
}


def panelled(parts: str = "none", changes: dict[str, str] | None = None) -> Plan:
    """A private plan with all panels."""
    asked = {key: text.replace("PARTS", parts) for key, text in PANELS.items()}
    return private_plan(asked | {"epsilon: 9.0": "epsilon: 49.0"} | (changes or {}))


def rows(count: int = 200, *, seed: int = 0, first: int = 0, customers: int = 40) -> pa.Table:
    """The bank's rows with whose they are, and what is protected of them: some is missing, and some is no word of the contract."""
    source = np.random.default_rng(seed + 77)
    sex = source.choice(np.array(["f", "m", "x", ""]), count, p=[0.4, 0.45, 0.05, 0.1])
    veteran = [None if each < 0.1 else bool(each < 0.5) for each in source.uniform(size=count)]
    made = loans.loans(count, seed=seed, first=first)
    numbers = source.permutation(np.arange(count) % customers)
    for name, values in (
        ("customer_id", [f"c{each}" for each in numbers]),
        ("sex", [each or None for each in sex]),
        ("veteran", veteran),
        ("birth", [1950.0] * count),
    ):
        made = made.append_column(name, pa.array(values))
    return made


def table(data: pa.Table | None = None) -> Table:
    """As a site reads them for such a plan."""
    return table_from(
        rows() if data is None else data, CONTRACT, renamed={}, named="loans.parquet", protected=PROTECTED
    )
