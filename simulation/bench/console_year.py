"""A coordinator's year for `covenant bench console`: its home, its member list and plans, and which run is when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from coordinator.bootstrap import Centre, open_centre
from coordinator.db.engine import writing
from coordinator.db.schema import Run
from coordinator.governance.members import Listed
from coordinator.keys import make_key
from coordinator.settings import load_settings
from protos.contract import Contract
from protos.documents import read_document
from protos.keys import SigningKey
from protos.membership import Member, MemberList, Membership, Officer, Role, Service, SignedMembers
from protos.plan import Plan
from protos.root import Root, RootKey, SignedRoot
from simulation.demo import data
from simulation.deployment import free_port
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName

OFFICER: Final = "officer-1"
FEDERATION: Final = "demo"
_PLANS: Final = 25
_INVITED: Final = 8
_YEAR: Final = timedelta(days=350)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much there is. `entries` is of the log; each run has as many rounds as that leaves it."""

    runs: int
    entries: int
    sites: int
    models: int

    @property
    def rounds(self) -> int:
        """Of each run: two entries a round, and six for the rest."""
        return max(1, (self.entries // self.runs - 6) // 2)


@dataclass
class LongYear:
    """A new coordinator, and what is to be in its database (`console_data.fill`)."""

    centre: Centre
    scale: Scale
    keys: Mapping[SiteName, SigningKey]
    officer: SigningKey
    listed: Listed
    began: datetime

    @classmethod
    def begun(cls, home: Path, scale: Scale, database: str | None, now: datetime) -> LongYear:
        """A new coordinator in `home`, with one officer of every role. Raises UsageError for a database that has runs."""
        home.mkdir()
        line = "" if database is None else f"database: {database}\n"
        console = f"console: {{host: 127.0.0.1, port: {free_port()}}}\n"
        (home / "covenant.yaml").write_text(
            f"covenant: coordinator/v1\nfederation: {FEDERATION}\n{line}{console}"
        )
        officer, log = SigningKey.generate(), make_key(home, "log", None)
        far = now + 4 * _YEAR
        root = Root(
            federation=FEDERATION,
            version=1,
            keys=(RootKey(name=OFFICER, key=officer.public),),
            quorum=1,
            expires=far,
        )
        pinned = SignedRoot(root=root).signed_with(officer, None)
        keys = {SiteName(f"branch-{number:03}"): SigningKey.generate() for number in range(scale.sites)}
        listed = MemberList(
            name=FEDERATION,
            version=1,
            members=tuple(
                Member(site=site, identity_key=key.public, node_key=_node_key()) for site, key in keys.items()
            ),
            officers=(Officer(name=OFFICER, roles=tuple(sorted(Role)), key=officer.public, expires=far),),
            services=(Service(name="log", purpose="log", key=log.public_key),),
        )
        membership = Membership(signed=SignedMembers(list=listed).signed_with(officer, root))
        settings = load_settings(home)
        settings.root_file.write_bytes(pinned.canonical)
        settings.members_file.write_bytes(membership.canonical)
        centre = open_centre(settings)
        made = cls(centre, scale, keys, officer, Listed.of(membership, pinned), now - _YEAR)
        made._require_empty()
        return made

    @cached_property
    def contract(self) -> Contract:
        """The demo's."""
        return read_document(_text(data.CONTRACT), Contract, data.CONTRACT)

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The demo's plan, for other sites each, under names of their own."""
        plan = read_document(_text(data.PLAN), Plan, data.PLAN)
        sites = list(self.keys)
        made = []
        for number in range(_PLANS):
            invite = tuple(
                sorted({sites[(number * _INVITED + place) % len(sites)] for place in range(_INVITED)})
            )
            update = {
                "name": f"lending-{number:02}",
                "sites": plan.sites.model_copy(update={"invite": invite, "minimum": 6}),
                "training": plan.training.model_copy(update={"rounds": self.scale.rounds}),
                "evaluation": plan.evaluation.model_copy(update={"every": self.scale.rounds}),
            }
            made.append(plan.model_copy(update=update))
        return tuple(made)

    def run(self, number: int) -> RunId:
        """The id of a run."""
        return RunId(f"run-{number:016x}")

    def plan_of(self, number: int) -> Plan:
        """The plan of a run."""
        return self.plans[number % len(self.plans)]

    def at(self, number: int) -> datetime:
        """When a run was launched."""
        return self.began + timedelta(minutes=5) + (_YEAR - timedelta(days=1)) * number / self.scale.runs

    @property
    def population(self) -> str:
        """What the sites' accounts are of."""
        return self.contract.name

    def _require_empty(self) -> None:
        with writing(self.centre.engine, "looking at the database") as session:
            if session.scalar(select(Run.id).limit(1)) is not None:
                raise UsageError("the database to measure in has runs already; name an empty one")


def _text(name: str) -> str:
    return (files("simulation.demo") / name).read_text()


def _node_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
