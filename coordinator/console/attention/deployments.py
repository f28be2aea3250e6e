"""Deployments in trouble: orders that were refused or are not confirmed, recalls that are open, rollouts that failed, releases that end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from coordinator.console.attention.matter import FEW, LATELY, Looking, Matter, Urgency, cut
from coordinator.db.deploy_schema import OrderRow, RecallRow, RolloutRow, TargetRow
from coordinator.db.engine import reading
from coordinator.deploy import inventory

_TARGETS: Final = "covenant.deploy.v1.Deployments/ListTargets"
_ROLLOUTS: Final = "covenant.deploy.v1.Deployments/ListRollouts"
_PATIENCE: Final = timedelta(minutes=10)
_ENDS_SOON: Final = timedelta(days=7)
_MOST_TARGETS: Final = 50
"""Targets whose releases are looked at one by one."""


def find(looking: Looking) -> Iterator[Matter]:
    """What is in trouble, for those who may read deployments."""
    engine = looking.visit.centre.engine
    with reading(engine, "looking for deployments in trouble") as session:
        if looking.visit.may(_TARGETS):
            yield from _orders(session, looking.now)
            few = (session.scalar(select(func.count()).select_from(TargetRow)) or 0) <= _MOST_TARGETS
        if looking.visit.may(_ROLLOUTS):
            yield from _recalls(session, looking.now)
            yield from _failed(session, looking.now)
    if looking.visit.may(_TARGETS) and few:
        yield from _ending(inventory.targets(engine), looking.now)


def _orders(session: Session, now: datetime) -> Iterator[Matter]:
    newest = (OrderRow.target == TargetRow.name) & (OrderRow.revision == TargetRow.revision)
    late = OrderRow.confirmed_at.is_(None) & (OrderRow.made_at < now - _PATIENCE)
    query = select(OrderRow).join(TargetRow, newest).where(or_(OrderRow.refused.is_not(None), late))
    for row in session.scalars(query.order_by(OrderRow.made_at.desc()).limit(FEW)):
        refused = row.refused is not None
        told = (
            f"refused order {row.revision}: {cut(row.refused or '')}"
            if refused
            else f"has not confirmed order {row.revision}"
        )
        yield _matter(
            row.target,
            f"{row.target} {told}",
            "Look at the target itself; what ran before goes on until it confirms.",
            Urgency.NOW if refused else Urgency.SOON,
            row.made_at,
        )


def _recalls(session: Session, now: datetime) -> Iterator[Matter]:
    query = select(RecallRow).where(RecallRow.confirmed_at.is_(None)).order_by(RecallRow.ordered_at)
    for row in session.scalars(query.limit(FEW)):
        late = row.ordered_at < now - _PATIENCE
        yield _matter(
            row.target,
            f"{row.name}@{row.version} is recalled from {row.target}, which has not confirmed that it runs no more: {cut(row.why)}",
            "Take it out of service there by hand if the target cannot be reached.",
            Urgency.NOW if late else Urgency.SOON,
            row.ordered_at,
        )


def _failed(session: Session, now: datetime) -> Iterator[Matter]:
    query = select(RolloutRow).where(RolloutRow.state == "failed", RolloutRow.moved_at > now - LATELY)
    for row in session.scalars(query.order_by(RolloutRow.moved_at.desc()).limit(FEW)):
        yield _matter(
            row.target,
            f"The rollout of {row.name}@{row.version} to {row.target} failed: {cut(row.reason or 'for no reason that it told')}",
            "The version before serves again. See what was measured before it is tried once more.",
            Urgency.SOON,
            row.moved_at,
        )


def _ending(targets: list[inventory.TargetView], now: datetime) -> Iterator[Matter]:
    for each in targets:
        if each.expires is not None and each.expires < now + _ENDS_SOON:
            over = each.expires <= now
            yield _matter(
                each.name,
                f"What {each.name} serves {'was released until' if over else 'is released only until'} {each.expires:%Y-%m-%d %H:%M} UTC",
                "An engineer renews the release, or rolls out a newer version.",
                Urgency.NOW if over else Urgency.SOON,
                None,
            )


def _matter(target: str, what: str, todo: str, urgency: Urgency, at: datetime | None) -> Matter:
    return Matter(
        urgency=urgency, what=what, todo=todo, path=f"/deployments/{target}", label="Open the target", at=at
    )
