"""What is watched where models run, as tables.

1. A version has one monitor, one reference and one set of rules: the newest that the log tells.
2. A window is kept once, as it was released, by the number that its place gave it. What was found in it is kept beside it.
3. A model has at most one open alarm; a partial unique index holds this.
4. Alerts are written in the transaction of what they are about, one a channel, and are gone from the outbox once delivered: never lost, and told twice only
   with the same id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_ID_LENGTH = 24
_OPEN = text("acknowledged_at IS NULL")
_WAITS = text("delivered_at IS NULL AND given_up_at IS NULL")


class MonitorRow(Base):
    """A version that is watched."""

    __tablename__ = "drift_monitors"
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),)

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    monitor: Mapped[str] = mapped_column(Text)
    rules: Mapped[str] = mapped_column(Text)
    reference: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    added_by: Mapped[str] = mapped_column(Text)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WindowRow(Base):
    """A window as a place released it; `found` is what it says beside the reference."""

    __tablename__ = "drift_windows"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["drift_monitors.name", "drift_monitors.version"]),
        CheckConstraint("number >= 1 AND sequence >= 1", name="numbers"),
        CheckConstraint("of IN ('decisions', 'outcomes')", name="of"),
        UniqueConstraint("place", "sequence"),
        Index("ix_drift_windows_version", "name", "version", "ends"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    place: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    sequence: Mapped[int]
    number: Mapped[int]
    of: Mapped[str] = mapped_column(String(16))
    begins: Mapped[datetime] = mapped_column(UtcDateTime)
    ends: Mapped[datetime] = mapped_column(UtcDateTime)
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    document: Mapped[str] = mapped_column(Text)
    found: Mapped[dict[str, Any]] = mapped_column(JSON)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AlarmRow(Base):
    """An alarm as the log tells it."""

    __tablename__ = "drift_alarms"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["drift_monitors.name", "drift_monitors.version"]),
        Index("uq_drift_alarms_open", "name", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    place: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    window: Mapped[str] = mapped_column("window_digest", String(DIGEST_LENGTH))
    number: Mapped[int]
    begins: Mapped[datetime] = mapped_column(UtcDateTime)
    ends: Mapped[datetime] = mapped_column(UtcDateTime)
    moved: Mapped[list[str]] = mapped_column(JSON)
    cause: Mapped[str] = mapped_column(String(32))
    words: Mapped[str] = mapped_column(Text)
    evidence: Mapped[list[str]] = mapped_column(JSON)
    raised_at: Mapped[datetime] = mapped_column(UtcDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(Text)
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    why: Mapped[str | None] = mapped_column(Text)


class AlertRow(Base):
    """One message to one channel of covenant.yaml, under an id that stays the same however often it is tried."""

    __tablename__ = "alert_outbox"
    __table_args__ = (
        UniqueConstraint("about", "channel"),
        CheckConstraint("tries >= 0", name="tries"),
        Index("ix_alert_outbox_due", "due_at", sqlite_where=_WAITS, postgresql_where=_WAITS),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    about: Mapped[str] = mapped_column(String(96))
    channel: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    tries: Mapped[int] = mapped_column(default=0)
    trouble: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    given_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
