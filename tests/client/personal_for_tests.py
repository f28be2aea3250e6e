"""A site with rows of its own, like the others' or not, and a shared model that was trained on the others' rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from client.data import Table, table_from
from client.personal.room import Room
from client.shared_models import SharedModel, SharedModels
from client.training import TrainingSession
from protos.site import load_site
from strategies.analytics.moments import scaling_from
from strategies.encoding import vector_digest
from strategies.ids import RunId, site_name
from tests.client import loans_for_tests as loans

RUN = RunId("run-00000000000000aa")
WEST = site_name("west")
NOW = datetime(2027, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
MLP = "{kind: mlp, hidden: [8]}"

_SITE = """\
covenant: site/v1
site: west
federation: {name: demo, superlink: "127.0.0.1:1", ca: ca.crt, root: root.json}
identity: {key: site.key, node_key: node.key}
data:
  loans: {contract: loans@1, contract_file: loans.yaml, file: rows.parquet}
personal: {tell_registry: true}
"""


@cache
def shared_of(model: str = "{kind: logistic}") -> SharedModel:
    """Ten rounds on the rows of others."""
    plan = loans.plan(model=model, learning_rate=0.3)
    session = TrainingSession(
        plan, loans.CONTRACT, loans.table(3000, seed=77, first=10**6), site=site_name("south")
    )
    scaling, vector = scaling_from(session.moments()), session.model.initial(plan.training.seed)
    for number in range(1, 11):
        vector = vector + session.train(vector, scaling, number)
    return SharedModel(
        plan=plan,
        contract=loans.CONTRACT,
        scaling=scaling,
        vector=vector,
        digest=vector_digest(vector),
        run=RUN,
    )


def alike(rows: int, *, seed: int = 5) -> pa.Table:
    """Rows like everybody's."""
    return loans.loans(rows, seed=seed)


def odd(rows: int, *, seed: int = 5) -> pa.Table:
    """Rows whose labels relate to the amount the other way round."""
    found = loans.loans(rows, seed=seed)
    return found.set_column(1, "amount", pc.subtract(1000.0, found.column("amount")))


def as_table(rows: pa.Table) -> Table:
    return table_from(rows, loans.CONTRACT, renamed={}, named="rows.parquet")


@dataclass
class Site:
    """The site on disk."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def room(self) -> Room:
        return Room(load_site(self.config_file), lambda: NOW)

    @property
    def own(self) -> Path:
        return self.folder / "personal" / "own"

    def has(self, rows: pa.Table) -> None:
        pq.write_table(rows, self.folder / "rows.parquet")

    def receives(self, shared: SharedModel, run: RunId = RUN) -> None:
        """As the agent keeps it at the end of a run."""
        kept = SharedModels(self.folder / "personal" / "shared")
        kept.keep(shared.plan, shared.contract, run, shared.vector, shared.scaling)


def make_site(folder: Path, rows: pa.Table, *, model: str = "{kind: logistic}") -> Site:
    """A site with `rows` that has taken part in a run."""
    site = Site(folder)
    folder.mkdir(exist_ok=True)
    (folder / "loans.yaml").write_bytes(loans.CONTRACT.canonical)  # JSON is YAML
    site.config_file.write_text(_SITE)
    site.has(rows)
    site.receives(shared_of(model))
    return site


def quiet(_: str) -> None:
    pass
