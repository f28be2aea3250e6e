"""What follows once a target has confirmed an order: where rollouts stand, what runs where, and the stages of the versions.

1. All of it is one transaction, and is done once: an order that was confirmed before changes nothing.
2. A version is `deployed` exactly while it serves at some target, and approved again when it serves nowhere.
3. A recall is confirmed with the order that no longer runs the version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import OrderRow, RolloutRow, RunningRow
from coordinator.db.engine import writing
from coordinator.db.schema import Model
from coordinator.deploy.effects import carried_out, open_recalls, release_of
from coordinator.deploy.ordering import locked
from coordinator.governance.log import append
from coordinator.registry.stages import move
from protos.log_deploy_events import DeployEvent, RecallConfirmed, RolloutMoved
from protos.model_stages import Stage
from protos.rollouts import State

ACTOR: Final = "deployment"


@dataclass(frozen=True, slots=True)
class Version:
    """A version by name and number."""

    name: str
    number: int


def confirm(centre: Centre, target: str, revision: int, baseline: Mapping[str, Any] | None) -> bool:
    """Record that `target` has come to its newest order, which is `revision`; whether that was news. `baseline` is what it had counted then."""
    at, news = centre.clock(), False
    with writing(centre.engine, f"confirming order {revision} of {target}") as session:
        touched: set[Version] = set()

        def judged() -> Iterator[DeployEvent]:
            nonlocal news
            row = locked(session, target)
            order = session.get_one(OrderRow, (target, row.revision))
            if row.revision != revision or order.confirmed_at is not None:
                return
            news = True
            touched.update(_versions(session, target))
            yield from _moves(session, order)
            order.baseline = None if baseline is None else dict(baseline)
            touched.update(_versions(session, target))
            for each in open_recalls(session, target):
                if each.revision is not None and each.revision <= revision:
                    yield RecallConfirmed(
                        target=target, model=each.name, version=each.version, revision=revision
                    )

        append(session, at, carried_out(session, at, judged()))
        for each in sorted(touched, key=lambda one: (one.name, one.number)):
            _stage(session, each, at)
    return news


def _moves(session: Session, order: OrderRow) -> Iterator[DeployEvent]:
    """The rollout of the order, and those that it supersedes, or that serve again after it."""
    facts = {"target": order.target, "revision": order.revision}
    full = _full(session, order.target)
    yield RolloutMoved(**facts, rollout=order.rollout, state=State(order.state), share=order.share)
    stable = release_of(session, order.target, order.stable)
    serves = None if stable is None else Version(stable.released.model, stable.released.version)
    for row in full:
        if row.id != order.rollout and Version(row.name, row.version) != serves:
            recalled = any(
                (each.name, each.version) == (row.name, row.version)
                for each in open_recalls(session, order.target)
            )
            state = State.RECALLED if recalled else State.SUPERSEDED
            yield RolloutMoved(**facts, rollout=row.id, state=state, share=0.0)
    if order.state != State.FULL and serves is not None:
        query = select(RolloutRow).where(
            RolloutRow.target == order.target,
            RolloutRow.name == serves.name,
            RolloutRow.version == serves.number,
            RolloutRow.state == State.SUPERSEDED,
        )
        again = session.scalar(query.order_by(RolloutRow.started_at.desc()).limit(1))
        if again is not None and not any(Version(row.name, row.version) == serves for row in full):
            yield RolloutMoved(**facts, rollout=again.id, state=State.FULL, share=1.0)


def _full(session: Session, target: str) -> list[RolloutRow]:
    query = select(RolloutRow).where(RolloutRow.target == target, RolloutRow.state == State.FULL)
    return list(session.scalars(query))


def _versions(session: Session, target: str) -> list[Version]:
    query = select(RunningRow).where(RunningRow.target == target)
    return [Version(row.name, row.version) for row in session.scalars(query)]


def _stage(session: Session, version: Version, at: datetime) -> None:
    """Have the stage say whether the version serves anywhere."""
    query = select(RunningRow.target).where(
        RunningRow.name == version.name, RunningRow.version == version.number, RunningRow.arm == "stable"
    )
    targets = session.scalars(query.order_by(RunningRow.target)).all()
    stage = session.get_one(Model, (version.name, version.number), populate_existing=True).stage
    if targets and stage == Stage.APPROVED:
        why = f"serves at {', '.join(targets)}"[:500]
        move(session, version.name, version.number, Stage.DEPLOYED, why=why, by=ACTOR, at=at)
    elif not targets and stage == Stage.DEPLOYED:
        move(session, version.name, version.number, Stage.APPROVED, why="serves nowhere", by=ACTOR, at=at)
