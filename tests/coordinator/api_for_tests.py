"""A coordinator with its control API on a free loopback port, officers of every role with access folders, and a transport that starts nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from uuid import uuid4

from coordinator.api.client import ControlClient
from coordinator.api.desk import RemoteDesk
from coordinator.api.model_desk import RemoteModelDesk
from coordinator.api.server import ControlServer
from coordinator.bootstrap import Centre, open_centre
from coordinator.control_tls import control_files
from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.documents import read_members
from coordinator.governance.log import open_log
from coordinator.keys import make_key
from coordinator.office.accesses import grant
from coordinator.office.plans import ProposedPlan
from coordinator.settings import load_settings
from protos.access import AccessProfile, AccessRequest
from protos.approvals import PlanEvidence, PlanStatement, approve, author
from protos.contract import Contract
from protos.documents import load_document, read_document
from protos.keys import create_node_key
from protos.log_audit import Audit, audit
from protos.log_entries import LogEntry, What
from protos.membership import MemberList, Officer, Role, Service
from protos.plan import Plan
from protos.root import SignedRoot
from simulation.deployment import free_port
from strategies.errors import CovenantError
from strategies.ids import RunId
from tests.coordinator.cli_for_tests import membership, open_accounts
from tests.private_plan_for_tests import CONTRACT, PLAN
from tests.trust_for_tests import FAR, key_of, officers

PEOPLE: dict[str, tuple[Role, ...]] = {
    "author-1": (Role.ML_ENGINEER,),
    "author-2": (Role.ML_ENGINEER, Role.MODEL_RISK),
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "privacy-2": (Role.PRIVACY_OFFICER,),
    "risk-1": (Role.MODEL_RISK,),
    "operator-1": (Role.SITE_OPERATOR,),
    "auditor-1": (Role.AUDITOR,),
    "admin-1": (Role.ADMIN,),
}
BY_ROLE: dict[Role, str] = {roles[0]: name for name, roles in reversed(PEOPLE.items()) if len(roles) == 1}


@dataclass
class FakeTransport:
    """Starts nothing, and remembers what it was asked for."""

    started: list[RunId] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    absent: CovenantError | None = None

    def require(self) -> None:
        if self.absent is not None:
            raise self.absent

    def start_run(self, run: RunId) -> int:
        self.started.append(run)
        return len(self.started)

    def stop_run(self, flower_run: int) -> None:
        self.stopped.append(flower_run)


@dataclass
class Bank:
    """A coordinator in `folder`, its officers, and what they can do with the API."""

    folder: Path
    centre: Centre
    transport: FakeTransport
    version: int = 1
    server: ControlServer = field(init=False)
    _clients: list[ControlClient] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, database_url: str | None = None) -> Bank:
        home = folder / "home"
        home.mkdir(parents=True)
        database = "" if database_url is None else f"database: {database_url}\n"
        (home / "covenant.yaml").write_text(
            f"covenant: coordinator/v1\nfederation: demo\n{database}control: {{host: 127.0.0.1, port: {free_port()}}}\n"
        )
        log = make_key(home, "log", None)
        officers().save(home)
        services = (Service(name="log", purpose="log", key=log.public_key),)
        settings = load_settings(home)
        migrate(open_database(settings.database_url))
        transport = FakeTransport()
        made = cls(folder, replace(open_centre(settings), transport=transport), transport)
        made.certify(
            MemberList(
                **{**dict(membership().signed.list), "officers": _people(PEOPLE), "services": services}
            )
        )
        return made

    @classmethod
    def copied(cls, template: Path, folder: Path) -> Bank:
        """A bank in a copy of the folder of another, on a port of its own."""
        home = folder / "home"
        copytree(template, home)
        config = home / "covenant.yaml"
        config.write_text(re.sub(r"port: \d+", f"port: {free_port()}", config.read_text()))
        transport = FakeTransport()
        return cls(folder, replace(open_centre(load_settings(home)), transport=transport), transport)

    def certify(self, listed: MemberList) -> None:
        """Put a signed list where the coordinator reads it."""
        new = self.centre.settings.members_file.with_name("members.new")
        new.write_bytes(officers().sign(listed).canonical)
        new.replace(self.centre.settings.members_file)

    @property
    def listed(self) -> MemberList:
        return read_members(self.centre.settings)[1].members

    def without(self, *names: str) -> None:
        """Take officers off the list."""
        self.certify(self.listed.without(names, "officer"))

    def expiring(self, name: str, expires: datetime) -> None:
        """Give an officer's key another last moment."""
        self.certify(
            self.listed.next(officers=[Officer(**{**dict(self.listed.officer(name)), "expires": expires})])
        )

    # --- access

    def access(self, name: str, key: str | None = None) -> Path:
        """The access folder of an officer, made at first."""
        folder = self.folder / "access" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            public = create_node_key(folder / f"{name}-tls.key")
            until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
            request = AccessRequest.create("demo", name, public, key_of(key or name), until=until)
            files = control_files(self.centre.settings, datetime.now(UTC))
            (folder / f"{name}.crt").write_bytes(grant(self.centre, files, request))
            self.profile(folder, name, files.ca)
        return folder

    def profile(self, folder: Path, name: str, ca: Path) -> None:
        (folder / "control-ca.crt").write_bytes(ca.read_bytes())
        profile = AccessProfile(
            server=self.address,
            ca=Path("control-ca.crt"),
            certificate=Path(f"{name}.crt"),
            key=Path(f"{name}-tls.key"),
        )
        (folder / "access.yaml").write_bytes(profile.canonical)

    @property
    def address(self) -> str:
        section = self.centre.settings.config.control
        assert section is not None
        return f"{section.host}:{section.port}"

    def client(self, name: str, deadline_s: float = 30.0) -> ControlClient:
        self._clients.append(ControlClient(self.access(name), deadline_s))
        return self._clients[-1]

    def desk(self, name: str) -> RemoteDesk:
        return RemoteDesk(self.client(name))

    def model_desk(self, name: str) -> RemoteModelDesk:
        return RemoteModelDesk(self.client(name))

    def serve(self, workers: int | None = None) -> ControlServer:
        return ControlServer(self.centre) if workers is None else ControlServer(self.centre, workers)

    def close(self) -> None:
        for each in self._clients:
            each.close()
        self.centre.engine.dispose()

    # --- the log

    def told(self, kind: str | None = None) -> list[What]:
        """What the log has, of one kind if it is named."""
        log = open_log(self.centre.engine, self.centre.settings, self.centre.clock)
        return [LogEntry.from_canonical(each.body).what for each in log.entries(kind=kind)]

    def audited(self) -> Audit:
        """The log's story, as an auditor reads it."""
        log = open_log(self.centre.engine, self.centre.settings, self.centre.clock)
        pinned = load_document(self.centre.settings.root_file, SignedRoot)
        return audit((each.body for each in log.entries()), pinned)


def _people(people: dict[str, tuple[Role, ...]]) -> tuple[Officer, ...]:
    return tuple(
        Officer(name=name, roles=roles, key=key_of(name).public, expires=FAR)
        for name, roles in people.items()
    )


def plan_of(seed: int = 1, members: str = "demo@1") -> ProposedPlan:
    """A plan that could be launched but for its approvals."""
    text = PLAN.replace("seed: 1", f"seed: {seed}").replace("members: demo@1", f"members: {members}")
    return ProposedPlan(
        plan=read_document(text, Plan, "plan"),
        contract=read_document(CONTRACT, Contract, "contract"),
        evidence=PlanEvidence(),
    )


FEDERATION = officers().pinned.root.identity


def soon() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)


def authored(what: ProposedPlan, name: str = "author-1", key: str | None = None) -> PlanStatement:
    return author(what.plan, what.contract, name, key_of(key or name), federation=FEDERATION, expires=soon())


def approval(what: ProposedPlan, name: str, role: Role, key: str | None = None) -> PlanStatement:
    return approve(
        what.plan, what.contract, name, role, key_of(key or name), federation=FEDERATION, expires=soon()
    )


def approved(what: ProposedPlan, authored_by: str = "author-1") -> ProposedPlan:
    """`what`, with the evidence that a launch needs."""
    said = (
        authored(what, authored_by),
        approval(what, "privacy-1", Role.PRIVACY_OFFICER),
        approval(what, "risk-1", Role.MODEL_RISK),
    )
    return replace(what, evidence=PlanEvidence(statements=said))


_templates: dict[bool, tuple[TemporaryDirectory[str], Bank]] = {}


def template(*, accounts: bool) -> Path:
    """A coordinator's folder that is made once and copied."""
    if accounts not in _templates:
        place = TemporaryDirectory(prefix="covenant-api-")
        bank = Bank.make(Path(place.name))
        if accounts:
            open_accounts(bank.centre, 60.0)
        bank.close()
        _templates[accounts] = place, bank
    return Path(_templates[accounts][0].name) / "home"


def serving(folder: Path, *, accounts: bool = True, database_url: str | None = None) -> Iterator[Bank]:
    """A bank whose API answers; with accounts that bear a few runs unless told otherwise."""
    if database_url is None:
        bank = Bank.copied(template(accounts=accounts), folder)
    else:
        bank = Bank.make(folder, database_url)
        open_accounts(bank.centre, 60.0)
    with bank.serve() as bank.server:
        yield bank
    bank.close()


def new_id() -> str:
    return str(uuid4())
