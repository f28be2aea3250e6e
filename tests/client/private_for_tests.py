"""Four small banks under a private plan: accounts configured, charges on disk, and a spy on where secrets come from."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.accounts.book import AccountBook
from protos.documents import read_document
from protos.frames import Stage
from protos.payloads import payload_of
from protos.plan import Plan
from protos.plan_releases import PlannedReleases, releases_of
from protos.site_data import AccountRule
from strategies.dp.mechanisms import NoisySum
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName
from tests.client import loans_for_tests as loans
from tests.client.secure_for_tests import SCALING, VICTIM, SecureBank, Sum, Told, secure_bank

TEXT = """\
covenant: plan/v1
name: private
purpose: credit-risk
contract: loans@1
features: [amount, income, term]
sites: {members: demo@1, invite: [east, north, south, west], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/2
  algorithm: dp-fedsgd
  rounds: 3
  expected_batch: 16
  nominal_rows: 32
  round_deadline: 5m
  seed: 1
aggregation: {mode: secure}
privacy:
  mode: distributed
  unit: {kind: record}
  limit: {epsilon: 9.0, delta: 1.0e-5}
  noise: {preparation: 2.0, training: 1.5, evaluation: 2.0}
  retries: 2
evaluation: {every: 3, score_bins: 8, holdout: {by: loan_id, share: 0.3, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""
LOCAL = {
    "algorithm: dp-fedsgd": "algorithm: dp-sgd",
    "  round_deadline": "  local_steps: 2\n  learning_rate: 0.5\n  round_deadline",
    "mode: distributed": "mode: local",
}
CENTRAL = {"mode: distributed": "mode: central"}


def private_plan(changes: dict[str, str] | None = None) -> Plan:
    """The plan of these tests, with some of its text replaced."""
    text = TEXT
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return read_document(text, Plan, "plan.yaml")


def planned(plan: Plan) -> PlannedReleases:
    found = releases_of(plan, loans.CONTRACT)
    assert found is not None
    return found


def admit(bank: SecureBank, site: SiteName, *, epsilon: float = 12.0, more: str = "") -> None:
    """Give a site an account, and a policy that admits private plans."""
    bank.edit(
        site, "file: rows.parquet}", f"file: rows.parquet, account: {{unit: {{kind: record}}, epsilon: {epsilon}, delta: 1.0e-5}}}}"
    )  # fmt: skip
    bank.edit(site, "modes: [none]", f"modes: [none, local, distributed, central]{more}")


@contextmanager
def private_bank(plan: Plan | None = None, *, epsilon: float = 12.0) -> Iterator[SecureBank]:
    with secure_bank(plan or private_plan()) as bank:
        for site in bank.plan.sites.invite:
            admit(bank, site, epsilon=epsilon)
        yield bank


def rule_of(bank: SecureBank, site: SiteName) -> AccountRule:
    rule = bank.participant(site).config.data["loans"].account
    assert rule is not None
    return rule


def book_of(bank: SecureBank, site: SiteName = VICTIM) -> AccountBook:
    return bank.participant(site).book


def charges(bank: SecureBank, site: SiteName = VICTIM) -> list[tuple[str, int, int]]:
    """What a site has charged, by a look at the file: stage, round and attempt, in order."""
    book, rule = book_of(bank, site), rule_of(bank, site)
    book.account("loans", rule)
    found = [each.occasion for each in book.charges("loans", rule.unit.unit)]
    return [(each.stage, each.round, each.attempt) for each in found]


@dataclass(frozen=True)
class PrivateSum(Sum):
    """One attempt at a sum under a private plan."""

    @property
    def payload(self) -> Any:
        return payload_of(self.bank.plan, loans.CONTRACT, self.stage, self.roster).embedding

    @property
    def noisy(self) -> NoisySum:
        assert isinstance(self.payload, NoisySum)
        return self.payload

    @property
    def _dimension(self) -> int:
        return payload_of(self.bank.plan, loans.CONTRACT, self.stage, self.roster).dimension


def model_told(bank: SecureBank, *, scaling: Scaling = SCALING, model: Vector | None = None) -> Told:
    """What the coordinator says before the first round."""
    shape = bank.plan.dense_model(loans.CONTRACT.feature_spec(bank.plan.features).width)
    return Told(
        model=shape.initial(bank.plan.training.seed) if model is None else model,
        optimizer=bank.plan.server_optimizer().initial(shape.size),
        scaling=scaling,
    )


def training(bank: SecureBank, **facts: Any) -> PrivateSum:
    """An attempt at the first round."""
    return PrivateSum(bank, Stage.TRAIN, 1, told=model_told(bank), **facts)


@dataclass
class Spy:
    """Real entropy, and for each time it was asked for, how many charges the file held, as another process would read it."""

    path: Path
    seen: list[tuple[int, int]] = field(default_factory=list)
    """Bytes that were asked for, and charges on disk at that moment."""
    drawn: list[bytes] = field(default_factory=list)

    def __call__(self, count: int) -> bytes:
        self.seen.append((count, charged_on_disk(self.path)))
        self.drawn.append(os.urandom(count))
        return self.drawn[-1]


def charged_on_disk(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM entries WHERE kind = 'charged'").fetchone()
    return int(count)


def spied(bank: SecureBank, site: SiteName = VICTIM) -> Spy:
    """Start a site with a spy on its entropy."""
    spy = Spy(bank.folder / site / "accounts.db")
    bank.start(site, entropy=spy)
    return spy
