"""What the tests of the registry share: a federation in this process whose models are signed, and the officers who approve them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from coordinator.db.engine import writing
from coordinator.documents import read_listed
from coordinator.governance.members import Listed
from coordinator.keys import make_artifact_key
from coordinator.registry import approvals
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.publish import publish
from coordinator.registry.stages import move
from coordinator.registry.versions import ModelVersion, get_version
from protos.membership import MemberList, Membership, Officer, Role, Service
from protos.model_approvals import ModelStatement, Subject, approve_model
from protos.model_stages import Stage
from simulation.world.layout import _signing_key
from strategies.ids import Digest
from tests.coordinator.gate_for_tests import PRIVATE, gated, passed
from tests.coordinator.private_for_tests import Private, private_plan
from tests.trust_for_tests import FAR, key_of

PEOPLE: dict[str, tuple[Role, ...]] = {
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "risk-1": (Role.MODEL_RISK,),
    "risk-2": (Role.MODEL_RISK, Role.PRIVACY_OFFICER),
    "engineer-1": (Role.ML_ENGINEER,),
}
NAME = "private"
GATED = private_plan(gated(PRIVATE))
"""A plan whose model the gate passes."""


@dataclass
class Registry:
    """A federation that trained a model; its member list has an `artifacts` service unless there is no `key`."""

    federation: Private

    @classmethod
    def of(cls, federation: Private, *, key: bool = True) -> Registry:
        made = cls(federation)
        services = [Service(name="artifacts", purpose="artifacts", key=key_of("artifacts").public)]
        made.certify(officers=made.people(), services=services if key else [])
        if key:
            made.make_key()
        publish(federation.centre, federation.documents, federation.drive())
        federation.store.finish("completed")
        return made

    @property
    def listed(self) -> Listed:
        return read_listed(self.federation.centre.settings)

    @property
    def version(self) -> ModelVersion:
        return get_version(self.federation.engine, NAME, 1)

    @staticmethod
    def people() -> list[Officer]:
        return [
            Officer(name=name, roles=roles, key=key_of(name).public, expires=FAR)
            for name, roles in PEOPLE.items()
        ]

    def certify(self, **changes: Any) -> None:
        """Put the next version of the member list where the coordinator reads it."""
        self._certify(self.listed.membership.signed.list.next(**changes))

    def dismiss(self, *officers: str) -> None:
        """As `certify`, without some officers."""
        self._certify(self.listed.membership.signed.list.without(officers, "officer"))

    def _certify(self, drafted: MemberList) -> None:
        signed = type(self.listed.membership.signed)(list=drafted)
        source = Random("keys 0")
        for _ in range(2):
            signed = signed.signed_with(_signing_key(source), self.listed.pinned.root)
        self.federation.centre.settings.members_file.write_bytes(Membership(signed=signed).canonical)

    def make_key(self, signer: str = "artifacts", federation: Digest | None = None) -> None:
        make_artifact_key(
            self.federation.centre.settings.home,
            key_of(signer),
            "artifacts",
            None,
            federation=federation or self.listed.trusted.federation,
            at=self.federation.clock.wall(),
        )

    def go(self, *stages: Stage) -> ModelVersion:
        for to in stages:
            if to is Stage.VALIDATED:
                passed(self.federation.centre, NAME, 1)
                continue
            with writing(self.federation.engine, "moving") as session:
                move(session, NAME, 1, to, why="a test", by="gate", at=self.federation.clock.wall())
        return self.version

    @property
    def standing(self) -> ModelStanding:
        at = self.federation.clock.wall()
        return approvals.standing(self.federation.engine, self.version, self.listed.trusted, at)

    def subject(self) -> Subject:
        found = self.standing.subject
        assert found is not None
        return found

    def say(
        self, name: str, role: Role, subject: Subject | None = None, key: str | None = None, days: float = 30
    ) -> ModelStatement:
        at = self.federation.clock.wall()
        return approve_model(
            subject or self.subject(),
            name,
            role,
            key_of(key or name),
            federation=self.listed.trusted.federation,
            at=at,
            expires=at + timedelta(days=days),
        )

    def approve(self, name: str, role: Role) -> ModelVersion:
        return approvals.approve(self.federation.centre, self.say(name, role), self.listed)

    def approved(self) -> ModelVersion:
        """Validated and approved by both officers."""
        self.go(Stage.VALIDATED)
        self.approve("privacy-1", Role.PRIVACY_OFFICER)
        return self.approve("risk-1", Role.MODEL_RISK)
