"""A federation of small banks with real keys, signatures, files and rows, and the requests that its centre would send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from client.participant import Participant
from protos.contract import Contract
from protos.documents import read_document
from protos.frames import Request, Stage, Statement, Task, scaling_digest
from protos.keys import SigningKey, create_node_key
from protos.membership import FederationRoot, Member, MemberList, SignedMembers
from protos.plan import Plan
from protos.site import SiteConfig, load_site
from strategies.encoding import Vector, sha256_hex, vector_digest
from strategies.features import Scaling
from strategies.ids import RunId, SiteName, site_name
from tests.client.loans_for_tests import CONTRACT, PLAN, loans

RUN = RunId("run-0123456789abcdef")

SITE = """\
covenant: site/v1
site: {site}
federation: {{name: demo, superlink: "127.0.0.1:9092", ca: ca.crt, root: root.json}}
identity: {{key: site.key, node_key: node.key}}
data:
  loans: {{contract: loans@1, contract_file: loans.yaml, file: loans.parquet}}
allow: {{apps: ["client.app:app"]}}
policy: {{purposes: [credit-risk], privacy_modes: [none], aggregation: [plain]}}
"""


def plan_for(*sites: str, minimum: int | None = None, **changes: str) -> Plan:
    """The plan of the loans for `sites`; each change replaces the value of a key in its text."""
    text = PLAN.replace("MODEL", "{kind: logistic}").replace("[west, south]", f"[{', '.join(sites)}]")
    text = text.replace("minimum: 2", f"minimum: {len(sites) if minimum is None else minimum}")
    for key, value in changes.items():
        (old,) = (line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        text = text.replace(old, f"{old.partition(':')[0]}: {value}")
    return read_document(text, Plan, "plan.yaml")


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Everything that the centre and the sites hold, in one folder with a subfolder a site."""

    folder: Path
    root: FederationRoot
    members: SignedMembers
    plan: Plan
    contract: Contract

    @property
    def task(self) -> Task:
        return Task(
            plan=self.plan.canonical, contract=self.contract.canonical, members=self.members.canonical
        )

    def site_file(self, site: str) -> Path:
        return self.folder / site / "site.yaml"

    def config(self, site: str) -> SiteConfig:
        return load_site(self.site_file(site))

    def identity(self, site: str) -> str:
        return SigningKey.load(self.folder / site / "site.key").public

    def participant(self, site: str) -> Participant:
        return Participant(self.config(site), self.root.public, self.identity(site))

    def with_plan(self, plan: Plan) -> Federation:
        return replace(self, plan=plan)

    def with_members(self, members: SignedMembers) -> Federation:
        return replace(self, members=members)

    def request(
        self,
        stage: Stage = Stage.PREPARE,
        *,
        model: Vector | None = None,
        scaling: Scaling | None = None,
        number: int = 0,
        attempt: int = 1,
        roster: tuple[str, ...] | None = None,
        component: str = "tabular/1",
    ) -> Request:
        """What the centre asks: documents, and a statement that names them."""
        task = self.task
        statement = Statement(
            plan_digest=sha256_hex(task.plan),
            contract_digest=sha256_hex(task.contract),
            members_digest=sha256_hex(task.members),
            run=RUN,
            stage=stage,
            round=number,
            attempt=attempt,
            roster=tuple(SiteName(site) for site in sorted(roster or self.plan.sites.invite)),
            component=component,
            model_digest=None if model is None else vector_digest(model),
            scaling_digest=None if scaling is None else scaling_digest(scaling),
        )
        return Request(statement=statement, task=task, scaling=scaling, model=model)


def make_federation(
    folder: Path, *sites: str, plan: Plan | None = None, contract: Contract = CONTRACT, rows: int = 120
) -> Federation:
    """Lay out the files of `sites`, each with its own rows, and sign their list."""
    root = FederationRoot.generate("demo")
    members = [_lay_out(folder / site, site, root, contract, rows, at) for at, site in enumerate(sites)]
    signed = root.sign(MemberList(name="demo", version=1, members=tuple(members)))
    return Federation(
        folder=folder, root=root, members=signed, plan=plan or plan_for(*sites), contract=contract
    )


def _lay_out(folder: Path, site: str, root: FederationRoot, contract: Contract, rows: int, at: int) -> Member:
    folder.mkdir(parents=True)
    identity = SigningKey.generate()
    identity.save(folder / "site.key")
    node_key = create_node_key(folder / "node.key")
    (folder / "root.json").write_bytes(root.public.canonical)
    (folder / "loans.yaml").write_bytes(contract.canonical)
    pq.write_table(loans(rows, seed=at, first=at * rows), folder / "loans.parquet")
    (folder / "site.yaml").write_text(SITE.format(site=site))
    return Member(site=site_name(site), identity_key=identity.public, node_key=node_key)
