"""Federations under a private plan in this process: real participants with accounts, a real ledger, a wire that can be cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select

from client.data import table_from
from client.training.private import PrivateSession
from coordinator.db.engine import reading
from coordinator.db.ledger_schema import LedgerAccount, LedgerEntry
from coordinator.ledger import Ledger
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.store import RoundStore
from coordinator.runs import ledger_of
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_releases import PlannedReleases, releases_of
from simulation.world.folders import memory_folder
from simulation.world.layout import Layout, lay_out
from strategies.ids import SiteName
from strategies.secagg.shamir import Entropy
from tests.coordinator.secure_for_tests import CONTRACT, FOUR, Secured, _loans

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
  rounds: 2
  expected_batch: 16
  nominal_rows: 32
  round_deadline: 60s
  seed: 1
aggregation: {mode: secure}
privacy:
  mode: distributed
  unit: {kind: record}
  limit: {epsilon: 20.0, delta: 1.0e-5}
  noise: {preparation: 2.0, training: 1.5, evaluation: 1.0}
  retries: 2
evaluation: {every: 2, score_bins: 4, holdout: {by: loan_id, share: 0.5, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""
LOCAL = {
    "algorithm: dp-fedsgd": "algorithm: dp-sgd",
    "  round_deadline": "  local_steps: 2\n  learning_rate: 0.5\n  round_deadline",
    "mode: distributed": "mode: local",
}
CENTRAL = {"mode: distributed": "mode: central"}
MODES: dict[str, dict[str, str]] = {"distributed": {}, "central": CENTRAL, "local": LOCAL}

Make = Callable[..., "Private"]
Settled = tuple[str, str, int, int]
"""Site, stage, round and attempt."""


def private_plan(changes: dict[str, str] | None = None) -> Plan:
    text = TEXT
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return read_document(text, Plan, "plan.yaml")


def planned(plan: Plan) -> PlannedReleases:
    found = releases_of(plan, CONTRACT)
    assert found is not None
    return found


@dataclass
class Private(Secured):
    """A federation whose driver settles with the ledger, and whose centre draws from `entropy`."""

    entropy: Entropy = field(default=os.urandom)

    @property
    def ledger(self) -> Ledger:
        found = ledger_of(self.centre, self.documents)
        assert found is not None
        return found

    def _started(self) -> RoundStore:
        self.drivers += 1
        store = RoundStore(self.engine, self.artifacts, self.run, self.clock.wall, self.ledger)
        store.start(self.drivers)
        return store

    def drive(self) -> Finished:
        self.store = self._started()
        return self.driver().drive()

    def driver(self) -> Driver:
        return Driver(
            self.documents,
            self.wire,
            self.store,
            self.log,
            self.clock.monotonic,
            self.clock.sleep,
            self.entropy,
        )

    def settled(self) -> list[Settled]:
        """What the ledger has settled, as a reader outside the driver's transactions sees it."""
        return [(site, *at) for site, _, *at in self._entries("settled")]

    def outcomes(self) -> dict[str, int]:
        """How many releases were ever given each outcome."""
        found: dict[str, int] = {}
        with reading(self.engine, "looking") as session:
            for outcome, times in session.execute(select(LedgerEntry.outcome, LedgerEntry.times)):
                found[str(outcome)] = found.get(str(outcome), 0) + times
        return found

    def _entries(self, outcome: str) -> list[Any]:
        query = (
            select(
                LedgerAccount.site,
                LedgerEntry.outcome,
                LedgerEntry.stage,
                LedgerEntry.round,
                LedgerEntry.attempt,
            )
            .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
            .where(LedgerEntry.outcome == outcome)
            .order_by(LedgerEntry.id)
        )
        with reading(self.engine, "looking") as session:
            return [tuple(row) for row in session.execute(query)]

    def charged(self, site: SiteName) -> list[tuple[str, int, int]]:
        """What a site's own account says."""
        book = self.wire.participants[site].book
        unit = planned(self.plan).train.unit
        found = [each.occasion for each in book.charges(self.plan.population_of(site), unit)]
        return [(each.stage, each.round, each.attempt) for each in found]

    def session(self, site: SiteName) -> PrivateSession:
        """What a site computes, with no federation around it."""
        rows = table_from(self.tables[site], CONTRACT, renamed={}, named=site)
        return PrivateSession(self.plan, CONTRACT, rows)

    def files(self) -> Iterator[bytes]:
        """Everything that the centre has on disk now."""
        for path in sorted(self.layout.home.rglob("*")):
            if path.is_file():
                yield path.read_bytes()


@dataclass
class Templates:
    """Federations laid out once a plan, accounts and ledger included, and copied for each test."""

    folder: Path
    copies: int = 0

    def copy(self, plan: Plan, *, tables: Sequence[pa.Table] | None = None, **facts: Any) -> Private:
        """A federation for `plan`; `tables` are of the sites in their order."""
        given = tables or [_loans(place) for place in range(len(FOUR))]
        rows = dict(zip(FOUR, given, strict=True))
        template = self.folder / f"{plan.digest}-{tables is None}"
        if not template.exists():
            lay_out(template, plan, CONTRACT, rows, seed=0)
            for config in template.rglob("site.yaml"):  # which names the centre's files by their full paths
                config.write_text(config.read_text().replace(str(template), "FOLDER"))
        self.copies += 1
        folder = self.folder / f"copy-{self.copies}"
        shutil.copytree(template, folder)
        for config in folder.rglob("site.yaml"):
            config.write_text(config.read_text().replace("FOLDER", str(folder)))
        return Private(Layout(folder), plan, rows, **facts)


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    """In memory if that can be, because here no power is cut and every commit would wait for a disk."""
    with TemporaryDirectory(prefix="covenant-private-", dir=memory_folder()) as name:
        yield Templates(Path(name))


@pytest.fixture
def make(templates: Templates) -> Iterator[Make]:
    made: list[Private] = []

    def build(changes: dict[str, str] | None = None, **facts: Any) -> Private:
        made.append(templates.copy(private_plan(changes), **facts))
        return made[-1]

    yield build
    for each in made:
        each.close()


def everybody(stage: str, number: int, attempt: int = 1, sites: Collection[SiteName] = FOUR) -> list[Settled]:
    return [(site, stage, number, attempt) for site in sites]
