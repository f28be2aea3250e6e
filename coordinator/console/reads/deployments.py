"""Where models run, as pages show it: targets, rollouts, orders and recalls by key, a few queries a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Engine, and_, or_, select, tuple_
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
from coordinator.db.engine import reading
from coordinator.db.schema import Model
from coordinator.deploy.inventory import (
    OrderView,
    RecallView,
    RolloutView,
    RunningView,
    TargetView,
    order_view,
    recall_view,
    rollout_view,
    running_view,
    target_view,
)
from protos.model_stages import RELEASABLE
from protos.rollouts import UNDER_WAY, State
from strategies.errors import UsageError

MOST: Final = 50
_FARTHEST: Final = 100
"""Rollouts that are followed back."""
_MOST_KEY: Final = 15
_CUT: Final = "this page's address is cut or changed; begin at the first page again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A target with what runs there, what is under way to it, its newest order, and the rollout that serves."""

    view: TargetView
    stable: RunningView | None
    challenger: RunningView | None
    under_way: RolloutView | None
    serving: RolloutView | None
    order: OrderView | None

    @property
    def newest(self) -> RolloutView | None:
        """What a rollback takes back."""
        return self.under_way or self.serving


def places(
    engine: Engine, *, after: str | None = None, limit: int = MOST
) -> tuple[Sequence[Place], str | None]:
    """Targets by name, `after` one, and the name after which there are more."""
    query = select(TargetRow).order_by(TargetRow.name).limit(limit + 1)
    if after is not None:
        query = query.where(TargetRow.name > after)
    with reading(engine, "listing targets") as session:
        found = list(session.scalars(query))
        return _places(session, found[:limit]), found[limit - 1].name if len(found) > limit else None


def place(engine: Engine, name: str) -> Place:
    """One target. Raises UsageError where there is none."""
    with reading(engine, f"looking for target {name[:63]}") as session:
        row = session.get(TargetRow, name)
        if row is None:
            raise UsageError(f"there is no target {name[:63]!r}; the list of deployments has those there are")
        return _places(session, [row])[0]


def rollouts(
    engine: Engine, target: str | None = None, *, of: tuple[str, int] | None = None, after: str | None = None
) -> tuple[Sequence[RolloutView], str | None]:
    """Rollouts, the latest first, of a target or `of` a version, from the one `after` whose id they come; and the id after which there are more."""
    query = select(RolloutRow).order_by(RolloutRow.started_at.desc(), RolloutRow.id)
    if target is not None:
        query = query.where(RolloutRow.target == target)
    if of is not None:
        query = query.where(RolloutRow.name == of[0], RolloutRow.version == of[1])
    with reading(engine, "listing rollouts") as session:
        if after is not None:
            query = query.where(_later_than(session, after))
        found = [rollout_view(row) for row in session.scalars(query.limit(MOST + 1))]
    return found[:MOST], found[MOST - 1].id if len(found) > MOST else None


def orders(
    engine: Engine, target: str, *, after: str | None = None, since: int | None = None
) -> tuple[Sequence[OrderView], str | None]:
    """Orders of a target, the latest first: those below the number `after`, or those above `since`; and the number after which there are more."""
    query = select(OrderRow).where(OrderRow.target == target).order_by(OrderRow.revision.desc())
    if after is not None:
        if not (after.isascii() and after.isdecimal() and len(after) <= _MOST_KEY):
            raise UsageError(_CUT)
        query = query.where(OrderRow.revision < int(after))
    if since is not None:
        query = query.where(OrderRow.revision > since)
    with reading(engine, f"listing the orders of {target[:63]}") as session:
        found = [order_view(row) for row in session.scalars(query.limit(MOST + 1))]
    return found[:MOST], str(found[MOST - 1].revision) if len(found) > MOST else None


def recalls(engine: Engine, *, target: str | None = None) -> Sequence[RecallView]:
    """The latest recalls, those that are not confirmed first."""
    query = select(RecallRow).order_by(RecallRow.confirmed_at.is_not(None), RecallRow.id.desc())
    if target is not None:
        query = query.where(RecallRow.target == target)
    with reading(engine, "listing recalls") as session:
        return [recall_view(row) for row in session.scalars(query.limit(MOST))]


def ran_at(engine: Engine, name: str, version: int) -> Sequence[str]:
    """The targets that a version runs at, or ran at."""
    query = select(RunningEvent.target).where(RunningEvent.name == name, RunningEvent.version == version)
    with reading(engine, f"looking where {name}@{version} ran") as session:
        return session.scalars(query.distinct().order_by(RunningEvent.target).limit(MOST)).all()


def running_of(engine: Engine, name: str, version: int) -> Sequence[RunningView]:
    """Where a version runs now, at most `MOST`."""
    query = select(RunningRow).where(RunningRow.name == name, RunningRow.version == version)
    with reading(engine, f"looking where {name}@{version} runs") as session:
        rows = session.scalars(query.order_by(RunningRow.target).limit(MOST))
        return [running_view(row, row.since, None) for row in rows]


def goes_back_to(engine: Engine, rollout: RolloutView) -> str | None:
    """The version that serves again once `rollout` is taken back, as far as its stage lets it; None where none does."""
    with reading(engine, "looking what served before") as session:
        before = rollout.before
        for _ in range(_FARTHEST):
            row = None if before is None else session.get(RolloutRow, before)
            if row is None:
                return None
            model = session.get_one(Model, (row.name, row.version))
            if model.stage in RELEASABLE:
                return f"{row.name}@{row.version}"
            before = row.before
    return None


def baseline_of(engine: Engine, target: str, revision: int) -> OrderRow | None:
    """The row of an order, with what was counted when it was confirmed."""
    with reading(engine, f"reading order {revision} of {target[:63]}") as session:
        return session.get(OrderRow, (target, revision))


def _places(session: Session, rows: Sequence[TargetRow]) -> Sequence[Place]:
    names = [row.name for row in rows]
    newest = tuple_(OrderRow.target, OrderRow.revision).in_([(row.name, row.revision) for row in rows])
    orders_of = {row.target: row for row in session.scalars(select(OrderRow).where(newest))}
    running = {
        (row.target, row.arm): running_view(row, row.since, None)
        for row in session.scalars(select(RunningRow).where(RunningRow.target.in_(names)))
    }
    there = select(RolloutRow).where(
        RolloutRow.target.in_(names), RolloutRow.state.in_([*UNDER_WAY, State.FULL])
    )
    moving = {
        (row.target, row.state in UNDER_WAY): rollout_view(row)
        for row in session.scalars(there.order_by(RolloutRow.started_at))
    }
    ends = _ends(
        session, [(each.target, each.stable) for each in orders_of.values() if each.stable is not None]
    )
    return [
        Place(
            view=target_view(row, orders_of.get(row.name), ends.get(row.name)),
            stable=running.get((row.name, "stable")),
            challenger=running.get((row.name, "challenger")),
            under_way=moving.get((row.name, True)),
            serving=moving.get((row.name, False)),
            order=order_view(orders_of[row.name]) if row.name in orders_of else None,
        )
        for row in rows
    ]


def _ends(session: Session, of: Sequence[tuple[str, int]]) -> dict[str, datetime]:
    """When the releases that serve end, by target: the releases were checked when they were signed."""
    query = select(ReleaseRow).where(tuple_(ReleaseRow.target, ReleaseRow.sequence).in_(of))
    return {
        row.target: datetime.fromisoformat(json.loads(row.document)["expires"])
        for row in session.scalars(query)
    }


def _later_than(session: Session, rollout: str) -> ColumnElement[bool]:
    """Rollouts that come after one in the list. Raises UsageError where there is none."""
    row = session.get(RolloutRow, rollout)
    if row is None:
        raise UsageError(_CUT)
    at = RolloutRow.started_at
    return or_(at < row.started_at, and_(at == row.started_at, RolloutRow.id > row.id))
