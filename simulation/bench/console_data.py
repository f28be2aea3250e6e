"""A coordinator after a long year, for `covenant bench console`: runs with their rounds, a log, sites with accounts, and models.

1. Real: root, member list, plans, the log with its tree and its index (written by `coordinator.governance.log.append`), decisions on ceilings, witness
   statements with their signatures. Runs, rounds, attempts, checkpoints, models and charges are rows as the coordinator writes them, put in by the thousand.
2. Not real: nothing was trained, so digests of models are of nothing, and artifacts are a line of JSON. A run invites 8 of the sites. The ledger is
   charged by the newest runs of each plan only. There are no deployments and no policies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Table, insert, select

from coordinator.bootstrap import Centre, open_centre
from coordinator.db.engine import writing
from coordinator.db.ledger_schema import LedgerAccount, LedgerEntry, LedgerRelease
from coordinator.db.office_schema import StoredPlan
from coordinator.db.schema import Attempt, Checkpoint, Model, Round, Run, Site
from coordinator.db.witness_schema import WitnessRow
from coordinator.governance.log import append, open_log
from coordinator.governance.members import Listed
from coordinator.keys import make_key
from coordinator.ledger import AccountKey
from coordinator.ledger.ceilings import Proposal, decide, draft
from coordinator.settings import load_settings
from protos.ceilings import SignedCeiling
from protos.contract import Contract
from protos.documents import read_document
from protos.keys import SigningKey
from protos.log_entries import LoggedDocument, MembersSigned, ModelRegistered, PlanRecorded, RunLaunched, What
from protos.log_run_events import RoundCommitted, RoundEvaluated, RoundPrepared, RunEnded, SumSettled
from protos.membership import Member, MemberList, Membership, Officer, Role, Service, SignedMembers
from protos.plan import Plan
from protos.plan_releases import releases_of
from protos.root import Root, RootKey, SignedRoot
from protos.witness import Position, SignedWitness, WitnessStatement, key_part, view_digest
from simulation.demo import data
from simulation.deployment import free_port
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import canonical_json, digest_of
from strategies.errors import UsageError
from strategies.ids import Digest, RunId, SiteName

OFFICER: Final = "officer-1"
_FEDERATION: Final = "demo"
_PLANS: Final = 25
_INVITED: Final = 8
_CHARGED_RUNS: Final = 50
"""Of each plan."""
_STATEMENTS: Final = 20
"""Of each site."""
_BATCH: Final = 1000
_TOLD: Final = 25
"""Runs that are told in one transaction: a disk takes some tens of milliseconds for each."""
_METRICS: Final = {
    "auc": 0.69,
    "rows": 4000.0,
    "positives": 400.0,
    "brier": 0.09,
    "log_loss": 0.31,
    "accuracy": 0.9,
}
"""As the evaluation of a run gives them."""
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
    """What is in the database, made in order by `fill`."""

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
            f"covenant: coordinator/v1\nfederation: {_FEDERATION}\n{line}{console}"
        )
        officer, log = SigningKey.generate(), make_key(home, "log", None)
        far = now + 4 * _YEAR
        root = Root(
            federation=_FEDERATION,
            version=1,
            keys=(RootKey(name=OFFICER, key=officer.public),),
            quorum=1,
            expires=far,
        )
        pinned = SignedRoot(root=root).signed_with(officer, None)
        keys = {SiteName(f"branch-{number:03}"): SigningKey.generate() for number in range(scale.sites)}
        listed = MemberList(
            name=_FEDERATION,
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

    def fill(self) -> None:
        """Write everything."""
        self._append(self.began, [MembersSigned(members=LoggedDocument.of(self.listed.membership))])
        self._decide()
        for plan in self.plans:
            recorded = PlanRecorded(plan=LoggedDocument.of(plan), contract=LoggedDocument.of(self.contract))
            self._append(self.began, [recorded])
        self._rows(Site, self._sites())
        self._rows(StoredPlan, self._proposed())
        self._rows(Run, self._runs())
        self._rows(Round, self._rounds())
        self._rows(Attempt, self._attempts())
        self._rows(Checkpoint, self._checkpoints())
        self._tell_runs()
        self._register()
        self._charge()
        self._witness()

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

    def _append(self, at: datetime, what: list[What]) -> None:
        with writing(self.centre.engine, "filling the log") as session:
            append(session, at, what)

    def _rows(self, model: type[Any], rows: Iterator[dict[str, Any]]) -> None:
        """Rows by the thousand. RETURNING makes one statement of many, also where the driver would send them one by one."""
        table: Table = model.__table__
        into = insert(table).returning(next(iter(table.primary_key)))
        while some := list(islice(rows, _BATCH)):
            with writing(self.centre.engine, f"filling {table.name}") as session:
                session.execute(into, some).all()

    def _require_empty(self) -> None:
        with writing(self.centre.engine, "looking at the database") as session:
            if session.scalar(select(Run.id).limit(1)) is not None:
                raise UsageError("the database to measure in has runs already; name an empty one")

    def _sites(self) -> Iterator[dict[str, Any]]:
        for each in self.listed.trusted.members.members:
            yield {
                "name": each.site,
                "identity_key": each.identity_key,
                "node_key": each.node_key,
                "node_id": None,
                "members_ref": self.listed.trusted.members.ref,
                "enrolled_at": self.began,
            }

    def _proposed(self) -> Iterator[dict[str, Any]]:
        for plan in self.plans:
            yield {
                "digest": plan.digest,
                "contract_digest": self.contract.digest,
                "name": plan.name,
                "plan": plan.canonical.decode(),
                "contract": self.contract.canonical.decode(),
                "evidence": '{"covenant":"plan-evidence/v1","statements":[]}',
                "proposed_by": OFFICER,
                "proposed_at": self.began,
            }

    def _runs(self) -> Iterator[dict[str, Any]]:
        contract, members = self.contract.canonical.decode(), self.listed.membership.canonical.decode()
        plans = [(each, each.canonical.decode(), each.digest) for each in self.plans]
        for number in range(self.scale.runs):
            plan, text, digest = plans[number % len(plans)]
            at, going = self.at(number), number == self.scale.runs - 1
            yield {
                "id": self.run(number),
                "plan_name": plan.name,
                "plan_digest": digest,
                "plan": text,
                "contract": contract,
                "members": members,
                "evidence": None,
                "state": "running" if going else "completed",
                "reason": None,
                "flower_run_id": None,
                "idle_starts": 0,
                "scaling": {"mean": [0.0], "std": [1.0]},
                "submitted_at": at,
                "started_at": at,
                "finished_at": None if going else at + timedelta(minutes=30),
            }

    def _rounds(self) -> Iterator[dict[str, Any]]:
        for run, number, at, sites in self._all_rounds():
            yield {
                "run_id": run,
                "number": number,
                "attempt": 1,
                "state": "committed",
                "roster": sites,
                "survivors": sites,
                "statement_digest": _digest(run, number, "statement"),
                "aggregate_digest": _digest(run, number, "aggregate"),
                "model_digest": _digest(run, number, "model"),
                "optimizer_digest": _digest(run, number, "optimizer"),
                "testimony": None,
                "opening": None,
                "exchange_s": 4.0,
                "seconds": 5.0,
                "metrics": _METRICS if number == self.scale.rounds else None,
                "reason": None,
                "opened_at": at,
                "closed_at": at + timedelta(seconds=5),
            }

    def _attempts(self) -> Iterator[dict[str, Any]]:
        for run, number, at, sites in self._all_rounds():
            if number == self.scale.rounds:
                fact = {"run_id": run, "attempt": 1, "roster": sites, "survivors": sites, "opening": None}
                yield fact | {"stage": "prepare", "round": 0, "asked_at": at}
                yield fact | {"stage": "evaluate", "round": number, "asked_at": at}

    def _checkpoints(self) -> Iterator[dict[str, Any]]:
        for run, number, _, _ in self._all_rounds():
            yield {
                "run_id": run,
                "round": number,
                "model_artifact": _digest(run, number, "model"),
                "optimizer_artifact": _digest(run, number, "optimizer"),
            }

    def _all_rounds(self) -> Iterator[tuple[RunId, int, datetime, list[SiteName]]]:
        for place in range(self.scale.runs):
            sites = sorted(self.plan_of(place).sites.invite)
            for number in range(1, self.scale.rounds + 1):
                yield self.run(place), number, self.at(place) + timedelta(seconds=10 * number), sites

    def _tell_runs(self) -> None:
        plans = [(each.digest, tuple(sorted(each.sites.invite))) for each in self.plans]
        for first in range(0, self.scale.runs, _TOLD):
            with writing(self.centre.engine, "filling the log") as session:
                for place in range(first, min(first + _TOLD, self.scale.runs)):
                    plan, sites = plans[place % len(plans)]
                    append(session, self.at(place), self._story(self.run(place), plan, sites))

    def _story(self, run: RunId, plan: Digest, sites: tuple[SiteName, ...]) -> Iterator[What]:
        yield RunLaunched(
            run=run,
            plan=plan,
            contract=self.contract.digest,
            members=self.listed.membership.digest,
            releases={},
            reserved=(),
        )
        prepared = _digest(run, 0, "model")
        yield SumSettled(run=run, stage="prepare", round=0, attempt=1, sites=sites)
        yield RoundPrepared(run=run, attempt=1, survivors=sites, scaling=prepared, model=prepared)
        for number in range(1, self.scale.rounds + 1):
            statement = _digest(run, number, "statement")
            yield SumSettled(
                run=run, stage="train", round=number, attempt=1, sites=sites, statement=statement
            )
            yield RoundCommitted(
                run=run,
                round=number,
                attempt=1,
                roster=sites,
                survivors=sites,
                statement=statement,
                aggregate=_digest(run, number, "aggregate"),
                model=_digest(run, number, "model"),
                optimizer=_digest(run, number, "optimizer"),
            )
        last = self.scale.rounds
        yield SumSettled(run=run, stage="evaluate", round=last, attempt=1, sites=sites)
        yield RoundEvaluated(run=run, round=last, attempt=1, survivors=sites, metrics=_METRICS)
        if run != self.run(self.scale.runs - 1):
            yield RunEnded(run=run, state="completed")

    def _register(self) -> None:
        """Versions of the plans' models, from their newest runs that are over."""
        rows, told = [], []
        for number in range(self.scale.models):
            place = self.scale.runs - 2 - number
            if place < 0:
                break
            plan, run = self.plan_of(place), self.run(place)
            version = (self.scale.models - number - 1) // len(self.plans) + 1
            kept = self.centre.artifacts.put(canonical_json({"run": run}))
            artifacts = {"model.json": kept}
            row = {
                "name": plan.name,
                "version": version,
                "digest": digest_of(artifacts),
                "artifacts": artifacts,
            }
            created = self.at(place) + timedelta(minutes=30)
            rows.append(
                row
                | {
                    "stage": "candidate",
                    "run_id": run,
                    "metrics": _METRICS,
                    "created_at": created,
                    "signature": None,
                }
            )
            told.append(ModelRegistered(**row, run=run, weights=kept))
        self._rows(Model, iter(rows))
        self._append(self.at(self.scale.runs), list(told))

    def _decide(self) -> None:
        """A ceiling for each account, drafted, signed and carried out."""
        unit = PrivacyUnit(kind=UnitKind.RECORD)
        proposal = Proposal(epsilon=10_000.0, delta=1e-5, unit=unit, reason="the plans of a year", order=3)
        with writing(self.centre.engine, "deciding on the accounts") as session:
            for site in self.keys:
                key = AccountKey.of(site, self.population, unit)
                drafted = draft(session, key, proposal, self.listed.trusted.federation, self.began)
                signed = SignedCeiling(decision=drafted.decision).signed_with(OFFICER, self.officer)
                decide(session, signed, self.listed, self.began)

    @property
    def population(self) -> str:
        """What the sites' accounts are of."""
        return self.contract.name

    def _charge(self) -> None:
        releases = releases_of(self.plans[0], self.contract)
        if releases is None:
            return
        with writing(self.centre.engine, "looking for the accounts") as session:
            accounts = {
                row.site: row.id for row in session.execute(select(LedgerAccount.site, LedgerAccount.id))
            }
        train = releases.of("train")
        kept = {"digest": train.digest, "facts": canonical_json(train.facts()).decode()}
        self._rows(LedgerRelease, iter([kept]))
        self._rows(LedgerEntry, self._charges(train.digest, accounts))

    def _charges(self, release: str, accounts: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        first = max(0, self.scale.runs - _CHARGED_RUNS * len(self.plans))
        for place in range(first, self.scale.runs):
            fact = {
                "run_id": self.run(place),
                "stage": "train",
                "release_digest": release,
                "reason": None,
                "at": self.at(place),
            }
            for site in self.plan_of(place).sites.invite:
                mine = fact | {"account_id": accounts[site]}
                yield mine | {
                    "outcome": "reserved",
                    "times": self.scale.rounds,
                    "round": None,
                    "attempt": None,
                }
                for number in range(1, self.scale.rounds + 1):
                    yield mine | {"outcome": "settled", "times": 1, "round": number, "attempt": 1}

    def _witness(self) -> None:
        log = open_log(self.centre.engine, self.centre.settings, self.centre.clock)
        checkpoint, at = log.head(log.size()), self.at(self.scale.runs).replace(microsecond=0)
        run, plan = self.run(0), self.plans[0].digest

        def rows() -> Iterator[dict[str, Any]]:
            for sequence in range(1, _STATEMENTS + 1):
                for site, key in self.keys.items():
                    epoch = key_part(key.public) * 2
                    said = WitnessStatement(
                        federation=_FEDERATION,
                        site=site,
                        identity=key.public,
                        run=run,
                        launch=1,
                        plan=plan,
                        checkpoint=checkpoint.text,
                        position=Position(epoch=epoch, sequence=sequence, head=plan),
                        view=view_digest({}),
                        at=at,
                    )
                    signed = SignedWitness.sign(said, key).canonical.decode()
                    place = {
                        "site": site,
                        "epoch": epoch,
                        "sequence": sequence,
                        "run_id": run,
                        "size": checkpoint.size,
                    }
                    yield place | {"statement": signed, "view": "{}", "received_at": at}

        self._rows(WitnessRow, rows())


def _digest(run: RunId, number: int, what: str) -> Digest:
    return Digest(hashlib.sha256(f"{run} {number} {what}".encode()).hexdigest())


def _text(name: str) -> str:
    return (files("simulation.demo") / name).read_text()


def _node_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
