"""Taking in one window: checked, judged, kept, and, where it moved further than is tolerated, an alarm with its log entry and its alerts.

1. All of that is one transaction: there is no alarm without its window, and none without its entry and alerts.
2. A window is taken in once. The same again changes nothing; another one under the same number is refused, since a place that counts twice has given
   two noises to one window.
3. A model has one open alarm. Windows that move while it is open are kept and judged, and raise none.
4. A window raises one alarm, ever: after a restore windows are told again, whose alarms the log has brought back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import RunningEvent
from coordinator.db.engine import reading, writing
from coordinator.db.monitor_schema import AlarmRow, WindowRow
from coordinator.deploy.monitoring.alerts.outbox import Alert, put_in
from coordinator.deploy.monitoring.causes import JudgedWindow, cause_of
from coordinator.deploy.monitoring.effects import carried_out
from coordinator.deploy.monitoring.judging import Judged, judge
from coordinator.deploy.monitoring.watched import Watched, watched_version
from coordinator.governance.log import append
from protos.drift import require_released, require_window
from protos.log_monitor import DriftAlarm, alarm_of
from protos.windows import Window
from strategies.errors import Refused

_MOST_EVIDENCE: Final = 20
_MOST_OTHERS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of a window: `new` unless it was there before; `alarm` is the id of the one that it raised."""

    new: bool
    judged: Judged | None = None
    alarm: str | None = None


def receive(centre: Centre, window: Window) -> Received:
    """Take a window in. Raises Refused for one that is of nothing that is watched, not over, or another one under a number that is taken."""
    at = centre.clock()
    if window.ends > at:
        raise Refused(
            f"window {window.number} of {window.place} ends {window.ends:%Y-%m-%d %H:%M} UTC, which is not over; partial windows are not looked at"
        )
    name, _, number = window.model.partition("@")
    with reading(centre.engine, f"looking at window {window.number} of {window.place}") as session:
        if _is_known(session, window):
            return Received(new=False)
        watched = watched_version(session, name, int(number))
        _require_ran(session, window, watched)
    require_window(window, watched.reference, watched.monitor)
    require_released(window, watched.monitor)
    judged = judge(window, watched.reference, watched.rules, watched.monitor.score_scale)
    raised: list[DriftAlarm] = []
    with writing(centre.engine, f"taking in window {window.number} of {window.place}") as session:
        centre.require_term(session)
        if _is_known(session, window):
            return Received(new=False)
        session.add(_row(watched, window, judged, at))
        session.flush()
        if judged.moved:
            append(
                session,
                at,
                carried_out(session, at, _alarm(session, centre, watched, window, judged, raised)),
            )
    return Received(new=True, judged=judged, alarm=raised[0].alarm if raised else None)


def of(window: Window) -> str:
    """What a window counts."""
    return "decisions" if window.outcomes is None else "outcomes"


def _is_known(session: Session, window: Window) -> bool:
    """Whether this very window is there. Raises Refused where another one is under its number."""
    query = select(WindowRow).where(WindowRow.place == window.place, WindowRow.sequence == window.sequence)
    known = session.scalar(query)
    if known is not None and known.digest == window.digest:
        return True
    name, _, version = window.model.partition("@")
    if known is None and window.outcomes is None:
        known = session.scalar(
            select(WindowRow).where(
                WindowRow.place == window.place,
                WindowRow.name == name,
                WindowRow.version == int(version),
                WindowRow.begins == window.begins,
                WindowRow.of == "decisions",
            )
        )
    if known is not None:
        raise Refused(
            f"{window.place} told another window before, of {known.name}@{known.version} from {known.begins:%Y-%m-%d %H:%M} UTC; one window is told once."
            " Ask the place whether its state was restored or copied"
        )
    return False


def _require_ran(session: Session, window: Window, watched: Watched) -> None:
    query = select(RunningEvent.id).where(
        RunningEvent.target == window.place,
        RunningEvent.name == watched.name,
        RunningEvent.version == watched.version,
        RunningEvent.event == "begins",
    )
    if session.scalar(query.limit(1)) is None:
        raise Refused(
            f"{watched.ref} never ran on {window.place}; `covenant deploy inventory --past` shows what did"
        )


def _row(watched: Watched, window: Window, judged: Judged, at: datetime) -> WindowRow:
    return WindowRow(
        name=watched.name,
        version=watched.version,
        place=window.place,
        sequence=window.sequence,
        number=window.number,
        of=of(window),
        begins=window.begins,
        ends=window.ends,
        digest=window.digest,
        document=window.canonical.decode(),
        found=judged.facts(),
        received_at=at,
    )


def _alarm(
    session: Session,
    centre: Centre,
    watched: Watched,
    window: Window,
    judged: Judged,
    raised: list[DriftAlarm],
) -> Iterator[DriftAlarm]:
    """The alarm, unless one is open or the window has raised it before; under the log's lock, which two windows take in turn. `raised` is given it."""
    open_ = select(AlarmRow.id).where(AlarmRow.name == watched.name, AlarmRow.acknowledged_at.is_(None))
    id_ = alarm_of(window.digest)
    if session.scalar(open_) is not None or session.get(AlarmRow, id_) is not None:
        return
    others = _told(session, watched)
    cause = cause_of(watched, JudgedWindow(window, judged.facts()), others)
    alarm = DriftAlarm(
        alarm=id_,
        model=watched.name,
        version=watched.version,
        place=window.place,
        window=window.digest,
        number=window.number,
        begins=window.begins,
        ends=window.ends,
        moved=judged.moved,
        cause=cause.kind,
        words=cause.words,
        evidence=tuple(each.words for each in cause.features[:_MOST_EVIDENCE]),
    )
    raised.append(alarm)
    put_in(session, centre.settings.config.alerts, _alert(alarm), centre.clock())
    yield alarm


def _told(session: Session, watched: Watched) -> Sequence[JudgedWindow]:
    """The newest windows of a version, the latest first."""
    query = (
        select(WindowRow)
        .where(WindowRow.name == watched.name, WindowRow.version == watched.version)
        .order_by(WindowRow.ends.desc(), WindowRow.id.desc())
        .limit(_MOST_OTHERS)
    )
    return [
        JudgedWindow(Window.from_canonical(row.document.encode()), row.found)
        for row in session.scalars(query)
    ]


def _alert(alarm: DriftAlarm) -> Alert:
    """What the alert says: nothing that the log's entry does not."""
    return Alert(
        about=alarm.alarm,
        title=f"Drift of {alarm.model}@{alarm.version} at {alarm.place}: {alarm.cause}",
        facts=alarm.model_dump(mode="json"),
        lines=(
            alarm.words,
            *alarm.evidence,
            f"See `covenant monitor windows {alarm.model}@{alarm.version}`, and acknowledge it with `covenant monitor acknowledge {alarm.alarm} --why ...`.",
        ),
    )
