"""From rows to what acts: a target by its settings, and an order with the packages that it names."""

from __future__ import annotations

from typing import assert_never

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import OrderRow, TargetRow
from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.deploy.approved import approvals_of
from coordinator.deploy.effects import release_of
from coordinator.deploy.package import Package
from coordinator.deploy.targets.base import Order, Target
from coordinator.deploy.targets.local import LocalTarget
from coordinator.deploy.targets.settings import (
    EdgeSettings,
    KServeSettings,
    LocalSettings,
    TargetSettings,
    settings_from,
)
from coordinator.documents import read_root
from coordinator.registry.signatures import beside
from protos.artifact_keys import SIGNATURE_FILE
from protos.log_entries import LogEntry, MembersSigned
from protos.log_registry_events import ModelSigned
from protos.membership import Membership
from protos.model_release import ModelRelease, Released
from strategies.errors import CovenantError, UsageError
from strategies.ids import Digest


def open_target(centre: Centre, name: str) -> Target:
    """The target called `name`. Raises UsageError where there is none."""
    with reading(centre.engine, f"looking for target {name}") as session:
        row = session.get(TargetRow, name)
    if row is None:
        raise UsageError(f"there is no target {name!r}; `covenant deploy targets list` shows those there are")
    return target_of(centre, name, settings_from(row.settings.encode()))


def target_of(centre: Centre, name: str, settings: TargetSettings) -> Target:
    """The target with these settings."""
    match settings:
        case LocalSettings():
            return LocalTarget(name, settings, read_root(centre.settings))
        case KServeSettings():
            from coordinator.deploy.targets.kserve import KServeTarget

            return KServeTarget(name, settings)
        case EdgeSettings():
            from coordinator.deploy.targets.edge import EdgeTarget

            return EdgeTarget(name, settings)
        case _:
            assert_never(settings)


def order_of(centre: Centre, target: str, revision: int) -> Order:
    """An order as it is given to its target, with its packages. Raises CovenantError where an artifact is lost or altered."""
    with reading(centre.engine, f"reading order {revision} of {target}") as session:
        row = session.get_one(OrderRow, (target, revision))
        stable, challenger, recall = (
            _package(centre, session, target, number) for number in (row.stable, row.challenger, row.recall)
        )
        return Order(
            revision=revision,
            stable=stable,
            challenger=challenger,
            recall=recall,
            mode=row.mode,  # type: ignore[arg-type]
            share=row.share if row.mode == "canary" else 0.0,
        )


def _package(centre: Centre, session: Session, target: str, number: int | None) -> Package | None:
    release = release_of(session, target, number)
    if release is None:
        return None
    return package_of(centre, session, release)


def package_of(centre: Centre, session: Session, release: ModelRelease) -> Package:
    """The package of a release, from the artifacts and the log. Raises CovenantError."""
    released, membership = release.released, _membership(session, release.members)
    recall = release.mode == "recall"
    trusted = membership.verify(read_root(centre.settings))
    return Package(
        release=release,
        membership=membership,
        approvals=b"" if recall else approvals_of(session, release, trusted),
        files={}
        if recall
        else {name: centre.artifacts.get(each) for name, each in released.artifacts.items()},
        extra={} if recall else _signature(centre, session, released),
    )


def _signature(centre: Centre, session: Session, released: Released) -> dict[str, bytes]:
    """The version's signature in the OpenSSF format and the key that verifies it, for whoever verifies with other tools; nothing for an unsigned one."""
    query = (
        select(LoggedEntry.body).where(LoggedEntry.kind == "model-signed").order_by(LoggedEntry.seq.desc())
    )
    for body in session.scalars(query):
        what = LogEntry.from_canonical(bytes(body)).what
        if isinstance(what, ModelSigned) and (what.name, what.version, what.digest) == (
            released.model,
            released.version,
            released.digest,
        ):
            return {**beside(what.key), SIGNATURE_FILE: centre.artifacts.get(what.signature)}
    return {}


def _membership(session: Session, digest: Digest) -> Membership:
    """The member list with that digest, from the log."""
    query = select(LoggedEntry.body).where(LoggedEntry.kind == "members").order_by(LoggedEntry.seq.desc())
    for body in session.scalars(query):
        what = LogEntry.from_canonical(bytes(body)).what
        if isinstance(what, MembersSigned) and what.members.digest == digest:
            return what.members.read_as(Membership)
    raise CovenantError(
        f"the member list {digest} that a release names is not in the log; restore the database"
    )
