"""Recalls: a version that may run no more is ordered off every target that runs it, or is about to, and each target confirms that.

1. The orders to recall are in the transaction of whatever caused them, such as a quarantine: there is no quarantined version that nobody recalls.
2. Targets are told by the driver (`driving`), again after every restart, until each has confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.deploy_schema import OrderRow, RolloutRow, RunningRow, TargetRow
from coordinator.deploy.effects import carried_out, open_recalls, release_of
from coordinator.governance.log import append
from protos.log_deploy_events import RecallOrdered
from protos.rollouts import UNDER_WAY, State


def recall_everywhere(
    session: Session,
    name: str,
    version: int,
    *,
    why: str,
    by: str,
    at: datetime,
    only: str | None = None,
) -> tuple[str, ...]:
    """Order a version off every target that has it, or off `only` that one, in the transaction of `session`; the targets' names.

    A target that is to recall it already is left as it is. Locks the log until the transaction ends.
    """
    named: list[str] = []

    def judged() -> Iterator[RecallOrdered]:
        for target in session.scalars(select(TargetRow.name).order_by(TargetRow.name)).all():
            if only in {None, target} and _has(session, target, name, version):
                named.append(target)
                yield RecallOrdered(target=target, model=name, version=version, why=why, by=by)

    append(session, at, carried_out(session, at, judged()))
    return tuple(named)


def _has(session: Session, target: str, name: str, version: int) -> bool:
    """Whether a target runs a version, was ordered to since its last confirmed order, or has it under way; not where its recall is open."""
    if any((each.name, each.version) == (name, version) for each in open_recalls(session, target)):
        return False
    confirmed = select(func.max(OrderRow.revision)).where(
        OrderRow.target == target, OrderRow.confirmed_at.is_not(None)
    )
    since = select(OrderRow).where(
        OrderRow.target == target, OrderRow.revision >= (session.scalar(confirmed) or 0)
    )
    for order in session.scalars(since):
        for number in (order.stable, order.challenger):
            release = release_of(session, target, number)
            if release is not None and (release.released.model, release.released.version) == (name, version):
                return True
    runs = select(RunningRow.arm).where(
        RunningRow.target == target, RunningRow.name == name, RunningRow.version == version
    )
    there = select(RolloutRow.id).where(
        RolloutRow.target == target,
        RolloutRow.name == name,
        RolloutRow.version == version,
        RolloutRow.state.in_([*UNDER_WAY, State.FULL]),
    )
    return session.scalar(runs.limit(1)) is not None or session.scalar(there.limit(1)) is not None
