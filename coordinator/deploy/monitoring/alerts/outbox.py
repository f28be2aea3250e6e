"""The outbox: alerts that wait to be delivered, and their delivery.

1. An alert is written in the transaction of what it is about, once a channel, and has one id however often it is tried.
2. Delivered is what the other side has confirmed. If this process ends between that and its record, the same id is sent again: at least once.
3. What fails is tried again after half a minute, then after twice as long and so on, six hours at most; after `MOST_TRIES` it is given up and shown, until
   somebody has it tried anew.
4. A message says what the log's entry says, and nothing more. Troubles are told without what the other side wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.monitor_schema import AlertRow
from coordinator.deploy.monitoring.alerts.channels import Alerts, Mail, Webhook
from coordinator.deploy.monitoring.alerts.mail import send_mail
from coordinator.deploy.monitoring.alerts.webhook import post
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, UsageError

MOST_TRIES: Final = 16
_FIRST_WAIT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 6 * 3600.0
_AT_ONCE: Final = 20
_LONGEST_TROUBLE: Final = 300
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message: what it is `about`, an id by which it is written once; `facts` for programs and `lines` for people."""

    about: str
    title: str
    facts: Mapping[str, Any]
    lines: tuple[str, ...]


def put_in(session: Session, channels: Alerts, alert: Alert, at: datetime) -> None:
    """Write `alert` for each channel, in the caller's transaction."""
    for channel in channels.channels:
        session.add(
            AlertRow(
                about=alert.about,
                channel=channel.name,
                title=alert.title,
                body={"facts": dict(alert.facts), "lines": list(alert.lines)},
                made_at=at,
                due_at=at,
                tries=0,
            )
        )


def deliver(centre: Centre, ends: Callable[[], bool] = lambda: False) -> int:
    """Try what is due, until `ends`; how many were delivered. What fails is written down and waits. Raises `CovenantError` for the database's own failures."""
    channels = {each.name: each for each in centre.settings.config.alerts.channels}
    delivered = 0
    for row in _due(centre):
        if ends():
            break
        trouble = _try(centre, channels.get(row.channel), row)
        delivered += trouble is None
        _record(centre, row.id, trouble)
        if trouble is not None:
            _log.warning("alert not delivered", about=row.about, channel=row.channel, reason=trouble)
    return delivered


def try_again(centre: Centre, about: str, remember: Callable[[Session, int], None]) -> int:
    """Have what was given up about something tried anew; how many messages. `remember` is called with that in the transaction. Raises UsageError for none."""
    given_up = select(AlertRow).where(AlertRow.about == about, AlertRow.given_up_at.is_not(None))
    with reading(centre.engine, "looking for alerts") as session:
        count = len(session.scalars(given_up).all())
    if not count:
        raise UsageError(f"no alert about {about[:96]!r} was given up; `covenant monitor alerts` shows them")
    with writing(centre.engine, "trying alerts again") as session:
        remember(session, count)
        for row in session.scalars(given_up):
            row.given_up_at, row.tries, row.due_at = None, 0, centre.clock()
    return count


def alerts(centre: Centre, *, waiting: bool) -> list[dict[str, Any]]:
    """The newest alerts, at most 200, as facts; with `waiting` those that are not delivered."""
    query = select(AlertRow).order_by(AlertRow.id.desc()).limit(200)
    if waiting:
        query = query.where(AlertRow.delivered_at.is_(None))
    with reading(centre.engine, "listing alerts") as session:
        return [_facts(row) for row in session.scalars(query)]


def waits() -> ColumnElement[bool]:
    """What is neither delivered nor given up."""
    return AlertRow.delivered_at.is_(None) & AlertRow.given_up_at.is_(None)


def _due(centre: Centre) -> Sequence[AlertRow]:
    with reading(centre.engine, "looking for alerts") as session:
        query = select(AlertRow).where(waits(), AlertRow.due_at <= centre.clock())
        return session.scalars(query.order_by(AlertRow.due_at, AlertRow.id).limit(_AT_ONCE)).all()


def _try(centre: Centre, channel: Webhook | Mail | None, row: AlertRow) -> str | None:
    """Deliver; None, or what kept it from being delivered."""
    federation, lines = centre.settings.config.federation, list(row.body["lines"])
    id_ = f"{row.about}.{row.channel}"
    try:
        match channel:
            case None:
                return f"covenant.yaml has no channel {row.channel} any more"
            case Webhook():
                told = {
                    "covenant": "alert/v1",
                    "id": id_,
                    "federation": federation,
                    "title": row.title,
                    "made_at": row.made_at.isoformat(),
                    "lines": lines,
                    "facts": row.body["facts"],
                }
                post(channel, id_, canonical_json(told), centre.clock())
            case Mail():
                send_mail(channel, f"{id_}@{federation}", row.title, lines, row.made_at)
    except CovenantError as error:
        return str(error)[:_LONGEST_TROUBLE]
    except Exception as error:  # noqa: BLE001  (what one channel brings out must not keep the others' alerts waiting behind it)
        return (
            f"the channel {row.channel} cannot be used as it is set in covenant.yaml ({type(error).__name__})"
        )
    return None


def _record(centre: Centre, id_: int, trouble: str | None) -> None:
    now = centre.clock()
    with writing(centre.engine, "recording an alert's delivery") as session:
        centre.require_term(session)
        row = session.get_one(AlertRow, id_)
        row.tries += 1
        row.trouble = trouble
        if trouble is None:
            row.delivered_at = now
        elif row.tries >= MOST_TRIES:
            row.given_up_at = now
        else:
            wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (row.tries - 1))
            row.due_at = now + timedelta(seconds=wait)


def _facts(row: AlertRow) -> dict[str, Any]:
    moments = ("made_at", "due_at", "delivered_at", "given_up_at")
    told: dict[str, Any] = {
        each: getattr(row, each) for each in ("about", "channel", "title", "tries", "trouble")
    }
    return told | {
        name: None if (moment := getattr(row, name)) is None else moment.isoformat() for name in moments
    }
