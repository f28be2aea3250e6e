"""The effects of deployments' log entries on the tables: written by the same function when they happen and when they are replayed.

An entry is appended in the transaction of its effect, so the tables and the log never differ.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.deploy_schema import (
    OrderRow,
    RecallRow,
    ReleaseRow,
    RolloutRow,
    RunningEvent,
    RunningRow,
    TargetRow,
)
from coordinator.governance.effects import carrying_out
from protos.log_deploy_events import (
    Deployed,
    DeployEvent,
    RecallConfirmed,
    RecallOrdered,
    RolloutMoved,
    RolloutStarted,
    TargetAdded,
)
from protos.model_release import ModelRelease
from protos.rollouts import State
from strategies.encoding import canonical_json


def take(session: Session, at: datetime, what: DeployEvent) -> None:
    """Write the effect of one entry."""
    match what:
        case TargetAdded():
            settings = canonical_json(what.settings).decode()
            session.add(
                TargetRow(
                    name=what.name,
                    kind=what.target_kind,
                    settings=settings,
                    sequence=0,
                    revision=0,
                    added_by=what.by,
                    added_at=at,
                )
            )
        case Deployed():
            _ordered(session, at, what)
        case RolloutMoved():
            _moved(session, at, what)
        case RecallOrdered():
            session.add(
                RecallRow(
                    target=what.target,
                    name=what.model,
                    version=what.version,
                    why=what.why,
                    by=what.by,
                    ordered_at=at,
                )
            )
        case RecallConfirmed():
            for row in open_recalls(session, what.target):
                if (row.name, row.version) == (what.model, what.version):
                    row.confirmed_at, row.revision = at, what.revision
        case _:
            assert_never(what)
    session.flush()


carried_out = carrying_out(take)
"""Each event, once its effect is in the tables: for `append`."""


def open_recalls(session: Session, target: str) -> list[RecallRow]:
    """Recalls of a target that are not confirmed."""
    query = select(RecallRow).where(RecallRow.target == target, RecallRow.confirmed_at.is_(None))
    return list(session.scalars(query.order_by(RecallRow.id)))


def release_of(session: Session, target: str, sequence: int | None) -> ModelRelease | None:
    """A release of a target by its number."""
    if sequence is None:
        return None
    return ModelRelease.from_canonical(session.get_one(ReleaseRow, (target, sequence)).document.encode())


def _ordered(session: Session, at: datetime, what: Deployed) -> None:
    target = session.get_one(TargetRow, what.target)
    target.revision = what.revision
    for release in what.releases:
        target.sequence = release.sequence
        document = release.canonical.decode()
        session.add(
            ReleaseRow(
                target=what.target, sequence=release.sequence, digest=release.digest, document=document
            )
        )
    if what.started is not None:
        session.add(_rollout(at, what, what.started))
        session.flush()
    session.add(_order(at, what))
    session.flush()
    runs = _arms(session, what.target, what.stable, what.challenger)
    running = {(each.released.model, each.released.version) for each in runs.values()}
    for recall in open_recalls(session, what.target):
        if (recall.name, recall.version) not in running:
            recall.revision = what.revision


def _rollout(at: datetime, what: Deployed, started: RolloutStarted) -> RolloutRow:
    return RolloutRow(
        id=what.rollout,
        target=what.target,
        name=started.model,
        version=started.version,
        digest=started.digest,
        state=State.PLANNED,
        share=0.0,
        rules=started.rules.canonical.decode(),
        before=started.before,
        started_by=what.by,
        started_at=at,
        moved_at=at,
    )


def _order(at: datetime, what: Deployed) -> OrderRow:
    return OrderRow(
        target=what.target,
        revision=what.revision,
        rollout=what.rollout,
        state=what.state,
        stable=what.stable,
        challenger=what.challenger,
        recall=what.recall,
        mode=what.mode,
        share=what.share,
        why=what.why,
        by=what.by,
        made_at=at,
    )


def _moved(session: Session, at: datetime, what: RolloutMoved) -> None:
    rollout = session.get_one(RolloutRow, what.rollout)
    rollout.state, rollout.share, rollout.moved_at = what.state, what.share, at
    order = session.get_one(OrderRow, (what.target, what.revision))
    if order.rollout == what.rollout:
        order.confirmed_at, rollout.reason = at, order.why
        _run(session, at, order)


def _run(session: Session, at: datetime, order: OrderRow) -> None:
    """What runs on the target from now on, and what ends."""
    arms = _arms(session, order.target, order.stable, order.challenger)
    for arm in ("stable", "challenger"):
        row = session.get(RunningRow, (order.target, arm))
        release = arms.get(arm)
        if row is not None and (release is None or release.sequence != row.sequence):
            session.add(RunningEvent(**_facts(row), event="ends", revision=order.revision, at=at))
            session.delete(row)
            session.flush()
            row = None
        if release is not None and row is None:
            released = release.released
            row = RunningRow(
                target=order.target,
                arm=arm,
                name=released.model,
                version=released.version,
                digest=released.digest,
                sequence=release.sequence,
                since=at,
            )
            session.add(row)
            session.add(RunningEvent(**_facts(row), event="begins", revision=order.revision, at=at))


def _facts(row: RunningRow) -> dict[str, Any]:
    """What an event tells of a row."""
    return {each: getattr(row, each) for each in ("target", "arm", "name", "version", "digest", "sequence")}


def _arms(
    session: Session, target: str, stable: int | None, challenger: int | None
) -> dict[str, ModelRelease]:
    found = {
        "stable": release_of(session, target, stable),
        "challenger": release_of(session, target, challenger),
    }
    return {arm: release for arm, release in found.items() if release is not None}
