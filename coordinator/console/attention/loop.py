"""Drift alarms that nobody has acknowledged, and drafted plans that wait for somebody: first of all for the author of the plan before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.console.attention.matter import FEW, Looking, Matter, Urgency, cut
from coordinator.db.engine import reading
from coordinator.db.loop_schema import DraftRow
from coordinator.db.monitor_schema import AlarmRow
from protos.membership import Role

_ALARMS: Final = "covenant.monitor.v1.Monitors/ListAlarms"
_DRAFTS: Final = "covenant.loop.v1.Loop/ListDrafts"


def find(looking: Looking) -> Iterator[Matter]:
    """What waits, for those who may read alarms and drafts."""
    with reading(looking.visit.centre.engine, "looking for alarms and drafts") as session:
        if looking.visit.may(_ALARMS):
            yield from _alarms(session)
        if looking.visit.may(_DRAFTS):
            yield from _drafts(looking, session)


def _alarms(session: Session) -> Iterator[Matter]:
    query = select(AlarmRow).where(AlarmRow.acknowledged_at.is_(None)).order_by(AlarmRow.raised_at.desc())
    for row in session.scalars(query.limit(FEW)):
        yield Matter(
            urgency=Urgency.SOON,
            what=f"{row.name}@{row.version} has drifted at {row.place}: {cut(row.words)}",
            todo="Look at its windows and the cause. Acknowledge it once somebody has it in hand.",
            path=f"/models/{row.name}@{row.version}/windows",
            label="See its windows",
            at=row.raised_at,
        )


def _drafts(looking: Looking, session: Session) -> Iterator[Matter]:
    query = select(DraftRow).where(DraftRow.state == "open").order_by(DraftRow.drafted_at.desc())
    for row in session.scalars(query.limit(FEW)):
        mine = looking.name == row.author or (row.author is None and looking.is_any(Role.ML_ENGINEER))
        yield Matter(
            urgency=Urgency.SOON if mine else Urgency.TO_KNOW,
            what=f"{'A plan' if row.text else 'No plan'} to retrain {row.name} is drafted"
            f"{' for you' if mine else ''}: {cut(row.says[0])}",
            todo="Read why it is as it is; adopt it, sign it and submit it, or dismiss it with a reason."
            if mine
            else "Its author decides on it.",
            path=f"/loop/{row.id}",
            label="Open the draft",
            at=row.drafted_at,
        )
