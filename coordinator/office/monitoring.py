"""Monitoring as officers decide it, each request once.

Engineers and model risk have a version watched, and acknowledge its alarms; rules are loosened by what two other officers have signed. Files of windows are taken in by
engineers, and say what the place has signed; a place without a key of its own is believed as far as whoever carried the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.monitor_schema import AlarmRow, MonitorRow
from coordinator.deploy.monitoring import collecting
from coordinator.deploy.monitoring.alerts import outbox
from coordinator.deploy.monitoring.effects import carried_out
from coordinator.deploy.monitoring.watched import reference_of
from coordinator.documents import read_listed
from coordinator.governance.log import append
from coordinator.governance.members import members_signed
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from protos.documents import make_document
from protos.drift import DriftRules
from protos.log_entries import What
from protos.log_monitor import DriftAcknowledged, MonitorAdded
from protos.monitor_approvals import MonitorStatement, Watch, require_approved_loosening
from protos.windows import Monitor, Windows
from strategies.errors import Refused, UsageError


def watch(
    centre: Centre,
    actor: Actor,
    name: str,
    version: int,
    monitor: Monitor,
    rules: DriftRules,
    why: str,
    asked: Asked | None = None,
    *,
    approvals: Sequence[MonitorStatement] = (),
) -> None:
    """Have a version watched from now on, or by another monitor or other rules; with `approvals` of two officers where that loosens what is in force.

    Raises UsageError and Refused.
    """
    with reading(centre.engine, f"reading the evaluation of {name}@{version}") as session:
        reference = reference_of(session, name, version)
    if monitor.model != name:
        raise UsageError(f"this monitor is of {monitor.model}; write one of {name}")
    reference.require_fits(monitor)
    what = make_document(
        MonitorAdded,
        "the monitor",
        model=name,
        version=version,
        digest=reference.version_digest,
        contract=reference.contract,
        monitor=monitor,
        rules=rules,
        reference=reference.digest,
        approvals=tuple(approvals) or None,
        why=why,
        by=actor.name,
    )

    def act(remember: Remember) -> str:
        at = centre.clock()
        with writing(centre.engine, f"watching {name}@{version}") as session:
            remember(session, "")
            append(session, at, _watched(centre, session, what, at))
        return ""

    once(centre, asked, centre.clock(), act)


def _watched(centre: Centre, session: Session, what: MonitorAdded, at: datetime) -> Iterator[What]:
    """The entries, under the log's lock, which two changes take in turn. Raises Refused for one that loosens without its two officers."""
    row = session.get(MonitorRow, (what.model, what.version), populate_existing=True)
    if what.approvals is not None:
        listed = read_listed(centre.settings)
        yield from members_signed(session, listed)
    if row is not None:
        what.require_reference_of(row.reference)
        trusted = None if what.approvals is None else listed.trusted
        require_approved_loosening(what.change_from(watch_of(row)), what.approvals or (), trusted, at)
    elif what.approvals is not None:
        raise UsageError(
            f"{what.model}@{what.version} is not watched yet; the first monitor takes no approvals"
        )
    yield from carried_out(session, at, [what])


def watch_of(row: MonitorRow) -> Watch:
    """How a version is watched, and since when."""
    return Watch(
        monitor=Monitor.from_canonical(row.monitor.encode()).digest,
        rules=DriftRules.from_canonical(row.rules.encode()),
        since=row.added_at,
    )


def acknowledge(centre: Centre, actor: Actor, alarm: str, why: str, asked: Asked | None = None) -> None:
    """Say that an alarm has been seen, so that the next window that drifts raises another. Raises UsageError, and Refused for one that was acknowledged."""

    def seen(session: Session) -> Iterator[DriftAcknowledged]:
        row = session.scalar(select(AlarmRow).where(AlarmRow.id == alarm))
        if row is None:
            raise UsageError(
                f"there is no alarm {alarm[:40]!r}; `covenant monitor alarms` shows those there are"
            )
        if row.acknowledged_at is not None:
            raise Refused(f"{alarm} was acknowledged by {row.acknowledged_by}: {row.why}")
        yield make_document(
            DriftAcknowledged, "the acknowledgement", alarm=alarm, model=row.name, why=why, by=actor.name
        )

    def act(remember: Remember) -> str:
        at = centre.clock()
        with writing(centre.engine, f"acknowledging {alarm[:40]}") as session:
            remember(session, "")
            append(session, at, carried_out(session, at, seen(session)))
        return ""

    once(centre, asked, centre.clock(), act)


def import_windows(centre: Centre, windows: Windows, asked: Asked | None = None) -> dict[str, Any]:
    """Take in a file of windows; what became of them. Sent again it changes nothing: windows are taken in once."""

    def act(remember: Remember) -> str:
        taken = json.dumps(asdict(collecting.take_file(centre, windows)))
        with writing(centre.engine, "remembering an import of windows") as session:
            remember(session, taken)
        return taken

    found: dict[str, Any] = json.loads(once(centre, asked, centre.clock(), act))
    return found


def try_alert_again(centre: Centre, about: str, asked: Asked | None = None) -> int:
    """Have alerts about something that were given up tried anew; how many. Raises UsageError where there are none."""

    def act(remember: Remember) -> str:
        count = outbox.try_again(centre, about, lambda session, found: remember(session, str(found)))
        return str(count)

    return int(once(centre, asked, centre.clock(), act))
