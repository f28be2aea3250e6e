"""What runs where, what ran, and how rollouts and recalls stand, as people and other programs read it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.deploy_schema import (
    OrderRow,
    RecallRow,
    RolloutRow,
    RunningEvent,
    RunningRow,
    TargetRow,
)
from coordinator.db.engine import reading
from coordinator.deploy.effects import release_of
from strategies.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What all views of this room can do."""

    def facts(self) -> dict[str, Any]:
        """As JSON, moments in ISO 8601."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: each.isoformat() if isinstance(each, datetime) else each for name, each in values.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView(View):
    """A target, and how far its newest order has come: `waits` for confirmation, was `refused`, or neither."""

    name: str
    kind: str
    added_by: str
    added_at: datetime
    revision: int
    waits: bool
    refused: str | None
    expires: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView(View):
    """A rollout. `revision` is the newest order about it."""

    id: str
    target: str
    model: str
    version: int
    digest: str
    state: str
    share: float
    rules: dict[str, Any]
    before: str | None
    reason: str | None
    started_by: str
    started_at: datetime
    moved_at: datetime

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView(View):
    """One order of a target."""

    target: str
    revision: int
    rollout: str
    state: str
    share: float
    mode: str
    why: str
    by: str
    made_at: datetime
    confirmed_at: datetime | None
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningView(View):
    """A version that runs, or ran: `until` is absent while it does."""

    target: str
    arm: str
    model: str
    version: int
    digest: str
    sequence: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallView(View):
    """A recall from one target; `confirmed_at` is absent until the target has said so."""

    target: str
    model: str
    version: int
    why: str
    by: str
    ordered_at: datetime
    confirmed_at: datetime | None


def targets(engine: Engine) -> list[TargetView]:
    """All targets, by name."""
    with reading(engine, "listing targets") as session:
        rows = session.scalars(select(TargetRow).order_by(TargetRow.name)).all()
        return [_target(session, row) for row in rows]


def rollouts(engine: Engine, target: str | None = None) -> list[RolloutView]:
    """All rollouts, or those of one target, the latest first."""
    query = select(RolloutRow).order_by(RolloutRow.started_at.desc(), RolloutRow.id)
    if target is not None:
        query = query.where(RolloutRow.target == target)
    with reading(engine, "listing rollouts") as session:
        return [rollout_view(row) for row in session.scalars(query)]


def orders(engine: Engine, target: str) -> list[OrderView]:
    """All orders of a target, the latest first. Raises UsageError where there is no such target."""
    with reading(engine, f"listing the orders of {target}") as session:
        if session.get(TargetRow, target) is None:
            raise UsageError(
                f"there is no target {target!r}; `covenant deploy targets list` shows those there are"
            )
        query = select(OrderRow).where(OrderRow.target == target).order_by(OrderRow.revision.desc())
        return [order_view(row) for row in session.scalars(query)]


def inventory(engine: Engine, *, past: bool = False) -> list[RunningView]:
    """What runs where, by target and arm; with `past`, also what ran, the latest first."""
    with reading(engine, "looking what runs where") as session:
        if not past:
            rows = session.scalars(select(RunningRow).order_by(RunningRow.target, RunningRow.arm.desc()))
            return [running_view(row, row.since, None) for row in rows]
        found: list[RunningView] = []
        begun: dict[tuple[str, str], RunningEvent] = {}
        for event in session.scalars(select(RunningEvent).order_by(RunningEvent.id)):
            place = (event.target, event.arm)
            if event.event == "begins":
                begun[place] = event
            else:
                found.append(running_view(event, begun.pop(place).at, event.at))
        found.extend(running_view(event, event.at, None) for event in begun.values())
        return sorted(found, key=lambda each: each.since, reverse=True)


def recalls(engine: Engine) -> list[RecallView]:
    """All recalls, the latest first."""
    with reading(engine, "listing recalls") as session:
        rows = session.scalars(select(RecallRow).order_by(RecallRow.id.desc()))
        return [recall_view(row) for row in rows]


def _target(session: Session, row: TargetRow) -> TargetView:
    order = session.get(OrderRow, (row.name, row.revision)) if row.revision else None
    serving = None if order is None else release_of(session, row.name, order.stable)
    return target_view(row, order, None if serving is None else serving.expires)


def target_view(row: TargetRow, order: OrderRow | None, expires: datetime | None) -> TargetView:
    """A target as it is told, with its newest order and until when what serves there may."""
    return TargetView(
        name=row.name,
        kind=row.kind,
        added_by=row.added_by,
        added_at=row.added_at,
        revision=row.revision,
        waits=order is not None and order.confirmed_at is None,
        refused=None if order is None else order.refused,
        expires=expires,
    )


def rollout_view(row: RolloutRow) -> RolloutView:
    """A rollout's row, as people read it."""
    return RolloutView(
        id=row.id,
        target=row.target,
        model=row.name,
        version=row.version,
        digest=row.digest,
        state=row.state,
        share=row.share,
        rules=json.loads(row.rules),
        before=row.before,
        reason=row.reason,
        started_by=row.started_by,
        started_at=row.started_at,
        moved_at=row.moved_at,
    )


def order_view(row: OrderRow) -> OrderView:
    """An order's row, as people read it."""
    return OrderView(
        target=row.target,
        revision=row.revision,
        rollout=row.rollout,
        state=row.state,
        share=row.share,
        mode=row.mode,
        why=row.why,
        by=row.by,
        made_at=row.made_at,
        confirmed_at=row.confirmed_at,
        refused=row.refused,
    )


def running_view(row: RunningRow | RunningEvent, since: datetime, until: datetime | None) -> RunningView:
    """What runs, or ran, between two moments."""
    return RunningView(
        target=row.target,
        arm=row.arm,
        model=row.name,
        version=row.version,
        digest=row.digest,
        sequence=row.sequence,
        since=since,
        until=until,
    )


def recall_view(row: RecallRow) -> RecallView:
    """A recall's row, as people read it."""
    return RecallView(
        target=row.target,
        model=row.name,
        version=row.version,
        why=row.why,
        by=row.by,
        ordered_at=row.ordered_at,
        confirmed_at=row.confirmed_at,
    )
