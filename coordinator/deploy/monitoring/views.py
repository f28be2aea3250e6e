"""What is watched, its windows and its alarms, as people and other programs read it."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.monitor_schema import AlarmRow, MonitorRow, WindowRow
from coordinator.db.schema import Model
from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring.forecasting import forecasts_of
from protos.drift import DriftRules
from protos.windows import Monitor
from strategies.errors import UsageError

_MOST_WINDOWS: Final = 200
_MOST_MISSING: Final = 20
_MOST_ALARMS: Final = 200


def monitors(engine: Engine) -> Facts:
    """Every version that is watched, with how many windows it has, the latest of each place, and the model's open alarm."""
    with reading(engine, "listing what is watched") as session:
        rows = session.scalars(select(MonitorRow).order_by(MonitorRow.name, MonitorRow.version)).all()
        return [_monitor(session, row) for row in rows]


def is_watched(engine: Engine, name: str, version: int) -> bool:
    """Whether a version has a monitor."""
    with reading(engine, f"looking whether {name}@{version} is watched") as session:
        return session.get(MonitorRow, (name, version)) is not None


def windows(engine: Engine, name: str, version: int) -> dict[str, Any]:
    """The newest windows of a version by place, the oldest first, and where each stream is going. Raises UsageError for one that nobody watches."""
    with reading(engine, f"listing windows of {name}@{version}") as session:
        row = session.get(MonitorRow, (name, version))
        if row is None:
            raise UsageError(f"{name}@{version} is not watched; `covenant monitor status` shows what is")
        query = select(WindowRow).where(WindowRow.name == name, WindowRow.version == version)
        latest = session.scalars(
            query.order_by(WindowRow.ends.desc(), WindowRow.id.desc()).limit(_MOST_WINDOWS)
        )
        rules = DriftRules.from_canonical(row.rules.encode())
        found = sorted(latest, key=lambda each: (each.place, each.of, each.ends, each.id))
        return {
            "model": name,
            "version": version,
            "rules": rules.model_dump(mode="json", exclude={"covenant"}),
            "missing": {
                place: told
                for place in sorted({each.place for each in found})
                if (told := missing(session, place))
            },
            "places": [
                {
                    "place": place,
                    "of": of,
                    "windows": [_window(each) for each in group],
                    "forecasts": forecasts_of([each.found for each in group], rules),
                }
                for (place, of), part in groupby(found, key=lambda each: (each.place, each.of))
                for group in [list(part)]
            ],
        }


def missing(session: Session, place: str) -> list[list[int]]:
    """Sequences of a place, as [first, last], that are not here though it numbered a later window: refused, or kept back. The first 20 ranges.

    What a place keeps back after its newest window is not seen here, but as windows that do not come.
    """
    before = func.lag(WindowRow.sequence, 1, 0).over(order_by=WindowRow.sequence)
    numbered = select(WindowRow.sequence.label("here"), before.label("before")).where(
        WindowRow.place == place
    )
    told = numbered.subquery()
    gaps = select(told.c.before + 1, told.c.here - 1).where(told.c.here > told.c.before + 1)
    return [list(each) for each in session.execute(gaps.order_by(told.c.here).limit(_MOST_MISSING)).all()]


def alarms(engine: Engine, *, only_open: bool = False) -> Facts:
    """Alarms, the latest first."""
    query = select(AlarmRow).order_by(AlarmRow.raised_at.desc(), AlarmRow.id).limit(_MOST_ALARMS)
    if only_open:
        query = query.where(AlarmRow.acknowledged_at.is_(None))
    with reading(engine, "listing alarms") as session:
        return [alarm_facts(row) for row in session.scalars(query)]


def alarm_facts(row: AlarmRow) -> dict[str, Any]:
    """An alarm as JSON."""
    plain = (
        "id",
        "version",
        "place",
        "window",
        "number",
        "moved",
        "cause",
        "words",
        "evidence",
        "acknowledged_by",
        "why",
    )
    moments = ("begins", "ends", "raised_at", "acknowledged_at")
    return (
        {"model": row.name}
        | {each: getattr(row, each) for each in plain}
        | {name: None if (at := getattr(row, name)) is None else at.isoformat() for name in moments}
    )


def _monitor(session: Session, row: MonitorRow) -> dict[str, Any]:
    monitor = Monitor.from_canonical(row.monitor.encode())
    of_version = (WindowRow.name == row.name, WindowRow.version == row.version)
    counted = session.scalar(select(func.count()).where(*of_version))
    newest = select(WindowRow.place, func.max(WindowRow.id)).where(*of_version).group_by(WindowRow.place)
    latest = [session.get_one(WindowRow, each) for _, each in session.execute(newest).all()]
    open_ = select(AlarmRow).where(AlarmRow.name == row.name, AlarmRow.acknowledged_at.is_(None))
    alarm = session.scalar(open_)
    return {
        "model": row.name,
        "version": row.version,
        "version_digest": session.get_one(Model, (row.name, row.version)).digest,
        "monitor": monitor.digest,
        "window_s": monitor.window,
        "rules": DriftRules.from_canonical(row.rules.encode()).model_dump(mode="json", exclude={"covenant"}),
        "added_by": row.added_by,
        "added_at": row.added_at.isoformat(),
        "windows": int(counted or 0),
        "latest": [_window(each) for each in sorted(latest, key=lambda each: each.place)],
        "alarm": None if alarm is None else alarm_facts(alarm),
    }


def _window(row: WindowRow) -> dict[str, Any]:
    return {
        "place": row.place,
        "of": row.of,
        "number": row.number,
        "begins": row.begins.isoformat(),
        "ends": row.ends.isoformat(),
        "digest": row.digest,
        **row.found,
    }
