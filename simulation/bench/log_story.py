"""A log of any length whose story is in order: runs of the demo's plan without privacy, each with all its rounds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protos.approval_rule import ApprovalRule
from protos.contract import Contract
from protos.documents import read_document
from protos.keys import SigningKey
from protos.log_entries import LogEntry, LoggedDocument, MembersSigned, PlanRecorded, RunLaunched, What
from protos.log_names import origin_of
from protos.log_run_events import (
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    RunWitnessed,
    SumSettled,
)
from protos.membership import Member, MemberList, Membership, Service, SignedMembers
from protos.plan import Plan
from protos.root import Root, RootKey, SignedRoot
from protos.witness import Position, SignedWitness, WitnessStatement, key_part, view_digest
from simulation.demo import data
from strategies.ids import Digest, RunId, SiteName
from strategies.transparency.notes import Checkpoint
from strategies.transparency.tree import GrowingTree

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(2999, 12, 31, tzinfo=UTC)
_DIGEST: Final = Digest("ab" * 32)


class LogStory:
    """`pinned` is the root that a reader has; `log` signs heads."""

    def __init__(self) -> None:
        officer, self.log = SigningKey.generate(), SigningKey.generate()
        plan = read_document(_text(data.WITHOUT_PRIVACY), Plan, data.WITHOUT_PRIVACY)
        nobody = ApprovalRule(privacy_officer=0, model_risk=0)
        self.plan = plan.model_copy(update={"approvals": nobody})
        self.contract = read_document(_text(data.CONTRACT), Contract, data.CONTRACT)
        self.federation, _, version = self.plan.sites.members.partition("@")
        self.identities = {site: SigningKey.generate() for site in self.plan.sites.invite}
        self._tree = GrowingTree()
        keys = (RootKey(name="officer", key=officer.public),)
        root = Root(federation=self.federation, version=1, keys=keys, quorum=1, expires=_FAR)
        self.pinned = SignedRoot(root=root).signed_with(officer, None)
        listed = MemberList(
            name=self.federation,
            version=int(version),
            members=tuple(
                Member(site=site, identity_key=key.public, node_key=_node_key())
                for site, key in self.identities.items()
            ),
            services=(Service(name="log", purpose="log", key=self.log.public),),
        )
        self.members = Membership(signed=SignedMembers(list=listed).signed_with(officer, root))

    def entries(self, count: int) -> Iterator[bytes]:
        """The first `count` entries, the last run unfinished."""
        self._tree = GrowingTree()
        for number, what in enumerate(self._whole()):
            if number == count:
                return
            data = LogEntry(at=_AT, what=what).canonical
            self._tree.append(data)
            yield data

    def _whole(self) -> Iterator[What]:
        yield MembersSigned(members=LoggedDocument.of(self.members))
        yield PlanRecorded(plan=LoggedDocument.of(self.plan), contract=LoggedDocument.of(self.contract))
        number = 0
        while True:
            yield from self._run(RunId(f"run-{number:016x}"))
            number += 1

    def _run(self, run: RunId) -> Iterator[What]:
        sites = tuple(sorted(self.plan.sites.invite))
        yield RunLaunched(
            run=run,
            plan=self.plan.digest,
            contract=self.contract.digest,
            members=self.members.digest,
            releases={},
            reserved=(),
        )
        yield RunWitnessed(run=run, statements=tuple(self._witness(site, run) for site in sites))
        yield SumSettled(run=run, stage="prepare", round=0, attempt=1, sites=sites)
        yield RoundPrepared(run=run, attempt=1, survivors=sites, scaling=_DIGEST, model=_DIGEST)
        for number in range(1, self.plan.training.rounds + 1):
            yield SumSettled(run=run, stage="train", round=number, attempt=1, sites=sites, statement=_DIGEST)
            yield RoundCommitted(
                run=run,
                round=number,
                attempt=1,
                roster=sites,
                survivors=sites,
                statement=_DIGEST,
                aggregate=_DIGEST,
                model=_DIGEST,
                optimizer=_DIGEST,
            )
        last = self.plan.training.rounds
        yield SumSettled(run=run, stage="evaluate", round=last, attempt=1, sites=sites)
        yield RoundEvaluated(run=run, round=last, attempt=1, survivors=sites, metrics=None)
        yield RunEnded(run=run, state="completed")

    def _witness(self, site: SiteName, run: RunId) -> SignedWitness:
        """A site has seen the launch, which is the last entry so far."""
        key, size = self.identities[site], self._tree.size
        said = WitnessStatement(
            federation=self.federation,
            site=site,
            identity=key.public,
            run=run,
            launch=size - 1,
            plan=self.plan.digest,
            checkpoint=Checkpoint(origin=origin_of(self.federation), size=size, root=self._tree.root).text,
            position=Position(epoch=key_part(key.public) * 2, sequence=size, head=_DIGEST),
            view=view_digest({}),
            at=_AT,
        )
        return SignedWitness.sign(said, key)


def _text(name: str) -> str:
    return (files("simulation.demo") / name).read_text()


def _node_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
