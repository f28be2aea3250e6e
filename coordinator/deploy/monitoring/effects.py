"""The effects of monitoring's log entries on the tables: written by the same function when they happen and when they are replayed."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from sqlalchemy.orm import Session

from coordinator.db.monitor_schema import AlarmRow, MonitorRow
from coordinator.governance.effects import carrying_out
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded, MonitorEvent


def take(session: Session, at: datetime, what: MonitorEvent) -> None:
    """Write the effect of one entry."""
    match what:
        case MonitorAdded():
            session.merge(
                MonitorRow(
                    name=what.model,
                    version=what.version,
                    monitor=what.monitor.canonical.decode(),
                    rules=what.rules.canonical.decode(),
                    reference=what.reference,
                    added_by=what.by,
                    added_at=at,
                )
            )
        case DriftAlarm():
            session.add(
                AlarmRow(
                    id=what.alarm,
                    name=what.model,
                    version=what.version,
                    place=what.place,
                    window=what.window,
                    number=what.number,
                    begins=what.begins,
                    ends=what.ends,
                    moved=list(what.moved),
                    cause=what.cause,
                    words=what.words,
                    evidence=list(what.evidence),
                    raised_at=at,
                )
            )
        case DriftAcknowledged():
            row = session.get_one(AlarmRow, what.alarm)
            row.acknowledged_by, row.acknowledged_at, row.why = what.by, at, what.why
        case _:
            assert_never(what)
    session.flush()


carried_out = carrying_out(take)
"""Each event, once its effect is in the tables: for `append`."""
