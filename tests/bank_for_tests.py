"""A federation of two small banks on disk: real keys, a signed member list, real rows, real participants."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from client.bootstrap import open_participant
from client.keystore import make_keys
from client.participant import Participant
from protos.documents import load_document
from protos.frames import Request, Stage, Statement, Task, scaling_digest
from protos.membership import MemberList, Membership
from protos.plan import Plan
from protos.site import SiteConfig, load_site
from strategies.encoding import Vector, sha256_hex, vector_digest
from strategies.features import Scaling
from strategies.ids import RunId, SiteName, site_name
from tests.client import loans_for_tests as loans
from tests.trust_for_tests import Officers, officers
from tests.witness_for_tests import LOG_SERVICE, KeptLog, vouched

RUN = RunId("run-0123456789abcdef")
SITES = (site_name("south"), site_name("west"))

_SITE = """\
covenant: site/v1
site: {site}
federation: {{name: demo, superlink: "127.0.0.1:1", ca: ca.crt, root: ../root.json}}
identity: {{key: site.key, node_key: node.key}}
data:
  loans: {{contract: loans@1, contract_file: loans.yaml, file: rows.parquet}}
allow: {{apps: ["client.app:app"]}}
policy:
  accept:
    - purpose: credit-risk
      contracts: [loans@1]
      components: [tabular/1, tabular/2]
      privacy: {{modes: [none]}}
      aggregation: {{modes: [plain]}}
      approvals: {{privacy_officer: 0, model_risk: 0}}
"""


@dataclass
class Bank:
    """Everything that the two sites and their officers have."""

    folder: Path
    officers: Officers
    members: Membership
    _running: dict[str, Participant] = field(default_factory=dict)
    log: KeptLog = field(default_factory=KeptLog)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    """Of sites that are asked what they have witnessed while they do not run."""
    _witnessed: dict[tuple[RunId, Task], bytes] = field(default_factory=dict)

    def config_file(self, site: str) -> Path:
        return self.folder / site / "site.yaml"

    def config(self, site: str) -> SiteConfig:
        return load_site(self.config_file(site))

    def participant(self, site: str) -> Participant:
        """The site's participant, started again if it was running: it has what is on disk and nothing else."""
        if site in self._running:
            self._running[site].close()
        self._running[site] = vouched(open_participant(self.config_file(site)), SITES)
        return self._running[site]

    def edit(self, site: str, old: str, new: str) -> None:
        path = self.config_file(site)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def request(
        self,
        plan: Plan,
        stage: Stage = Stage.PREPARE,
        *,
        model: Vector | None = None,
        scaling: Scaling | None = None,
        roster: tuple[SiteName, ...] = SITES,
        number: int = 0,
        members: Membership | None = None,
        evidence: bytes = b"",
        run: RunId = RUN,
    ) -> Request:
        signed = (members or self.members).canonical
        statement = Statement(
            plan_digest=plan.digest,
            contract_digest=loans.CONTRACT.digest,
            members_digest=sha256_hex(signed),
            run=run,
            stage=stage,
            round=number,
            attempt=1,
            roster=roster,
            component=plan.training.component,
            model_digest=None if model is None else vector_digest(model),
            scaling_digest=None if scaling is None else scaling_digest(scaling),
        )
        task = Task(plan=plan.canonical, contract=loans.CONTRACT.canonical, members=signed, evidence=evidence)
        task = self.witnessed(task, run)
        return Request(statement=statement, task=task, model=model, scaling=scaling)

    def witnessed(self, task: Task, run: RunId = RUN) -> Task:
        """The documents of a run that all sites have witnessed that would take part in it."""
        bundle = self._witnessed.get((run, task))
        if bundle is None:
            with ExitStack() as stack:
                sites = {site: partial(self._awake, site, stack) for site in SITES}
                signed, refused = self.log.witness(run, task, sites)
            bundle = self.log.bundle(signed).canonical
            if not refused:
                self._witnessed[run, task] = bundle
        return replace(task, witness=bundle)

    def _awake(self, site: SiteName, stack: ExitStack) -> Participant:
        """The site's process, or one for the moment."""
        if site in self._running:
            return self._running[site]
        return stack.enter_context(closing(open_participant(self.config_file(site), clock=self.clock)))


def make_bank(folder: Path) -> Bank:
    people = officers()
    people.save(folder)
    requests = []
    for index, site in enumerate(SITES):
        own = folder / site
        own.mkdir()
        (own / "loans.yaml").write_text(_contract_text())
        pq.write_table(loans.loans(200, seed=index, first=1000 * index), own / "rows.parquet")
        (own / "site.yaml").write_text(_SITE.format(site=site))
        requests.append(make_keys(load_site(own / "site.yaml")))
    members = MemberList(
        name="demo", version=1, members=tuple(each.verify() for each in requests), services=(LOG_SERVICE,)
    )
    assert (
        load_document(folder / SITES[0] / "loans.yaml", type(loans.CONTRACT)).digest == loans.CONTRACT.digest
    )
    return Bank(folder, people, people.sign(members))


def _contract_text() -> str:
    """The contract of `loans_for_tests`; JSON is YAML."""
    return loans.CONTRACT.canonical.decode()
