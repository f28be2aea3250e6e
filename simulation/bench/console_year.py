"""A coordinator's year for `covenant bench console`: its home, its member list and plans, and which run is when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import Privacy
from protos.root import Root, RootKey, SignedRoot
from simulation.demo import data
from simulation.deployment import free_port
from strategies.errors import CovenantError, UsageError
from strategies.ids import RunId, SiteName

OFFICER: Final = "officer-1"
SECOND: Final = "officer-2"
"""For what two persons have to sign."""
FEDERATION: Final = "demo"
_PLANS: Final = 25
_INVITED: Final = 8
_WIDE: Final = 200
"""Sites that the plans for many invite, at most."""
_WIDE_PLANS: Final = 3
_PART: Final = 0.75
"""Of the sites invited, how many a round takes at least."""
_YEAR: Final = timedelta(days=350)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much there is. `entries` is of the log; each run has as many rounds as that leaves it."""

    runs: int
    entries: int
    sites: int
    models: int
    wide_rounds: int = 100
    """Of the run with many sites."""

    @property
    def rounds(self) -> int:
        """Of each run: two entries a round, and six for the rest."""
        return max(1, (self.entries // self.runs - 6) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A run of the year: of which plan, since when, and whether it goes on."""

    run: RunId
    plan: Plan
    at: datetime
    going: bool

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """Who takes part, sorted."""
        return tuple(sorted(self.plan.sites.invite))

    @property
    def rounds(self) -> int:
        """All of which are over."""
        return self.plan.training.rounds


@dataclass
class LongYear:
    """A new coordinator, and what is to be in its database (`console_data.fill`)."""

    centre: Centre
    scale: Scale
    keys: Mapping[SiteName, SigningKey]
    officer: SigningKey
    second: SigningKey
    artifacts: SigningKey
    listed: Listed
    began: datetime

    @classmethod
    def begun(cls, home: Path, scale: Scale, database: str | None, now: datetime) -> LongYear:
        """A new coordinator in `home`, with two officers of every role. Raises UsageError for a database that has runs."""
        home.mkdir()
        line = "" if database is None else f"database: {database}\n"
        console = f"console: {{host: 127.0.0.1, port: {free_port()}}}\n"
        (home / "covenant.yaml").write_text(
            f"covenant: coordinator/v1\nfederation: {FEDERATION}\n{line}{console}"
        )
        officer, second, artifacts = (SigningKey.generate() for _ in range(3))
        log, roles = make_key(home, "log", None), tuple(sorted(Role))
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
            officers=(
                Officer(name=OFFICER, roles=roles, key=officer.public, expires=far),
                Officer(name=SECOND, roles=roles, key=second.public, expires=far),
            ),
            services=(
                Service(name="artifacts", purpose="artifacts", key=artifacts.public),
                Service(name="log", purpose="log", key=log.public_key),
            ),
        )
        membership = Membership(signed=SignedMembers(list=listed).signed_with(officer, root))
        settings = load_settings(home)
        settings.root_file.write_bytes(pinned.canonical)
        settings.members_file.write_bytes(membership.canonical)
        centre = open_centre(settings)
        made = cls(
            centre, scale, keys, officer, second, artifacts, Listed.of(membership, pinned), now - _YEAR
        )
        made._require_empty()
        return made

    @cached_property
    def contract(self) -> Contract:
        """The demo's."""
        return read_document(_text(data.CONTRACT), Contract, data.CONTRACT)

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The demo's plan, for other sites each, under names of their own."""
        sites = list(self.keys)
        made = []
        for number in range(_PLANS):
            invite = {sites[(number * _INVITED + place) % len(sites)] for place in range(_INVITED)}
            made.append(self._plan(f"lending-{number:02}", invite, self.scale.rounds))
        return tuple(made)

    @cached_property
    def wide_plans(self) -> tuple[Plan, ...]:
        """The same for all sites, or `_WIDE` of them; the last of them is the newest of its name."""
        sites = set(list(self.keys)[:_WIDE])
        rounds = range(self.scale.wide_rounds, self.scale.wide_rounds + _WIDE_PLANS)
        return tuple(self._plan("lending-wide", sites, number) for number in rounds)

    @property
    def wide(self) -> Launch:
        """The run with many sites."""
        place, plan = self.scale.runs, self.wide_plans[0]
        return Launch(run=self.run(place), plan=plan, at=self.at(place), going=False)

    def launches(self) -> Iterator[Launch]:
        """Every run: those of eight sites each, of which the last goes on, and the one with many."""
        for place in range(self.scale.runs):
            going = place == self.scale.runs - 1
            yield Launch(run=self.run(place), plan=self.plan_of(place), at=self.at(place), going=going)
        yield self.wide

    def _plan(self, name: str, sites: set[SiteName], rounds: int) -> Plan:
        """Many sites add many shares of noise, each as wide as one of few; more than an active adversary's protocol takes need the other."""
        plan = self._demo
        if not (isinstance(plan.privacy, Privacy) and isinstance(plan.aggregation, SecureAggregation)):
            raise CovenantError(f"{data.PLAN} adds no noise before a secure sum, as the plans to measure do")
        minimum = max(6, math.ceil(_PART * len(sites)))
        noise, wider = plan.privacy.noise, math.sqrt(minimum / plan.sites.minimum)
        stages = {
            each: round(wider * getattr(noise, each), 3) for each in ("preparation", "training", "evaluation")
        }
        update = {
            "name": name,
            "sites": plan.sites.model_copy(update={"invite": tuple(sorted(sites)), "minimum": minimum}),
            "training": plan.training.model_copy(update={"rounds": rounds}),
            "evaluation": plan.evaluation.model_copy(update={"every": rounds}),
            "privacy": plan.privacy.model_copy(update={"noise": noise.model_copy(update=stages)}),
            "aggregation": plan.aggregation.model_copy(update={"adversary": "semi-honest"}),
        }
        return Plan.from_canonical(plan.model_copy(update=update).canonical)

    @cached_property
    def _demo(self) -> Plan:
        return read_document(_text(data.PLAN), Plan, data.PLAN)

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
