"""The gate as officers ask it, each request once. Anybody who may ask gets the same verdict: what counts is the plan, and what was recorded."""

from __future__ import annotations

from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.deploy import gate
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from coordinator.registry.versions import get_version
from protos.gates import Verdict
from protos.membership import Role
from protos.model_stages import Stage

_ROLES = (Role.ML_ENGINEER, Role.MODEL_RISK)


def validate(
    centre: Centre, actor: Actor, name: str, version: int, why: str, asked: Asked | None = None
) -> tuple[Verdict, Stage]:
    """Have the gate judge a version; the verdict, and the version's stage after it. Raises `CovenantError`."""
    actor.require(_ROLES, "to have a model judged")
    found = get_version(centre.engine, name, version)

    def act(remember: Remember) -> str:
        def first(session: Session, verdict: Verdict) -> None:
            remember(session, verdict.canonical.decode())

        return gate.validate(centre, found, why=why, by=actor.name, first=first).canonical.decode()

    verdict = Verdict.from_canonical(once(centre, asked, centre.clock(), act).encode())
    return verdict, get_version(centre.engine, name, version).stage
