"""The federation that campaigns are played on: four small banks, a stateful server optimiser, a few rounds.

Small, because a campaign lives from the number of schedules that it plays. Made once a process, then copied for each seed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa

from client.data import table_from
from client.training import TrainingSession
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from simulation.world.folders import memory_folder
from simulation.world.layout import Layout, lay_out
from strategies.encoding import Vector, vector_digest
from strategies.features import Scaling
from strategies.ids import Digest, SiteName, site_name

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
_ROWS = 48
_CONTRACT = """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: EUR, range: [0, 1000]}
  income: {type: number, unit: EUR, range: [0, 100], missing: indicator}
"""
_PLAN = """\
covenant: plan/v1
name: campaign
purpose: credit-risk
contract: loans@1
features: [amount, income]
sites: {members: demo@1, invite: [east, north, south, west], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/1
  algorithm: fedavg
  server_optimiser: {kind: fedadam, learning_rate: 0.1}
  rounds: 4
  batch_size: 16
  learning_rate: 0.1
  round_deadline: 60s
  seed: 1
aggregation: {mode: plain}
privacy: {mode: none}
evaluation: {every: 2, score_bins: 50, holdout: {by: loan_id, share: 0.3, salt: "1"}}
# Clocks of a campaign are wrong by years, so nothing with a last day would hold.
approvals: {privacy_officer: 0, model_risk: 0}
"""


@dataclass(frozen=True)
class Stage:
    """What every seed of a process has in common."""

    template: Layout
    plan: Plan
    contract: Contract
    sessions: dict[SiteName, TrainingSession]
    _updates: dict[tuple[SiteName, int, Digest, Scaling], Vector]

    def build(self, folder: Path) -> Layout:
        """A fresh federation in `folder`."""
        shutil.copytree(self.template.folder, folder)
        return Layout(folder)

    def update(self, site: SiteName, number: int, model: Vector, scaling: Scaling) -> Vector:
        """What an honest site computes in a round: by the training itself, with no federation around it."""
        key = (site, number, vector_digest(model), scaling)
        if key not in self._updates:
            self._updates[key] = self.sessions[site].train(model, scaling, number)
        return self._updates[key]


def mode_of(seed: int) -> str:
    """How the plan of a seed aggregates: odd seeds securely, even ones in the clear."""
    return "secure" if seed % 2 else "plain"


@cache
def stage(mode: str) -> Stage:
    """The stage of this process for plans that aggregate in this way."""
    plan, contract = (
        read_document(_PLAN.replace("{mode: plain}", f"{{mode: {mode}}}"), Plan, "campaign.yaml"),
        read_document(_CONTRACT, Contract, "loans.yaml"),
    )
    rows = {site: _loans(index) for index, site in enumerate(SITES)}
    tables = {site: table_from(each, contract, renamed={}, named=site) for site, each in rows.items()}
    sessions = {site: TrainingSession(plan, contract, table, site=site) for site, table in tables.items()}
    folder = Path(mkdtemp(prefix="covenant-stage-", dir=memory_folder()))
    # Not atexit: the workers of a pool leave without it.
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=0)
    return Stage(lay_out(folder / "federation", plan, contract, rows, seed=0), plan, contract, sessions, {})


def _loans(index: int) -> pa.Table:
    source = np.random.default_rng(index)
    amount, income = source.uniform(0, 1000, _ROWS), source.uniform(1, 100, _ROWS)
    bad = source.uniform(size=_ROWS) < 1 / (1 + np.exp(-(amount - 600) / 150 + (income - 50) / 30))
    bad[0], bad[-1] = True, False
    return pa.table(
        {
            "loan_id": np.arange(_ROWS) + 1000 * index,
            "amount": amount,
            "income": income,
            "status": np.where(bad, "bad", "good").tolist(),
        }
    )
