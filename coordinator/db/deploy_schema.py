"""Where models run, as tables.

1. A target's row is the lock of all that is done to it: whoever changes anything of a target holds it until the transaction ends.
2. An order is what a target is to run from a revision on. It is there before its effect and confirmed after it, so that whoever starts again knows
   what to do once more. Orders of a target are numbered without gaps, and only the newest is ever carried out.
3. A release is kept as it was signed; its number is the target's, and never used again.
4. A rollout is one way of a version to one target. At most one of a target is under way; a partial unique index holds this.
5. What ran where is told by events that are never changed; `running` is where each target stands after the last of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_ID_LENGTH = 24
_UNDER_WAY = text("state IN ('planned', 'shadow', 'canary')")


class TargetRow(Base):
    """A place where models run. `settings` is its document; `sequence` and `revision` are the last that were used."""

    __tablename__ = "deploy_targets"
    __table_args__ = (
        CheckConstraint("kind IN ('local', 'kserve', 'edge')", name="kind"),
        CheckConstraint("sequence >= 0 AND revision >= 0", name="numbers"),
    )

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    settings: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(default=0)
    added_by: Mapped[str] = mapped_column(Text)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RolloutRow(Base):
    """One way of a version to a target. `share` is that of a canary; `before` is the rollout that served until this one does."""

    __tablename__ = "rollouts"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        CheckConstraint(
            "state IN ('planned', 'shadow', 'canary', 'full', 'superseded', 'rolled_back', 'recalled', 'failed')",
            name="state",
        ),
        CheckConstraint("share >= 0 AND share <= 1", name="share"),
        Index(
            "uq_rollouts_under_way",
            "target",
            unique=True,
            sqlite_where=_UNDER_WAY,
            postgresql_where=_UNDER_WAY,
        ),
    )

    id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"))
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    state: Mapped[str] = mapped_column(String(16))
    share: Mapped[float] = mapped_column(Double)
    rules: Mapped[str] = mapped_column(Text)
    before: Mapped[str | None] = mapped_column(ForeignKey("rollouts.id"))
    reason: Mapped[str | None] = mapped_column(Text)
    started_by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OrderRow(Base):
    """What a target is to run: at most one release that serves and one on trial. `rollout` comes to `state` and `share` once it is confirmed.

    `baseline` is what the service had counted when it was confirmed.
    """

    __tablename__ = "deploy_orders"
    __table_args__ = (
        CheckConstraint("revision >= 1", name="revision"),
        CheckConstraint("mode IN ('none', 'shadow', 'canary')", name="mode"),
        CheckConstraint("(challenger IS NULL) = (mode = 'none')", name="challenger"),
    )

    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rollout: Mapped[str] = mapped_column(ForeignKey("rollouts.id"))
    state: Mapped[str] = mapped_column(String(16))
    stable: Mapped[int | None]
    challenger: Mapped[int | None]
    recall: Mapped[int | None]
    mode: Mapped[str] = mapped_column(String(8))
    share: Mapped[float] = mapped_column(Double)
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column("ordered_by", Text)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    refused: Mapped[str | None] = mapped_column(Text)
    baseline: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ReleaseRow(Base):
    """A release as it was signed."""

    __tablename__ = "releases"
    __table_args__ = (CheckConstraint("sequence >= 1", name="sequence"),)

    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    document: Mapped[str] = mapped_column(Text)


class RunningRow(Base):
    """What a target runs on one of its arms since the newest event."""

    __tablename__ = "running"
    __table_args__ = (CheckConstraint("arm IN ('stable', 'challenger')", name="arm"),)

    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"), primary_key=True)
    arm: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    sequence: Mapped[int]
    since: Mapped[datetime] = mapped_column(UtcDateTime)


class RunningEvent(Base):
    """A version began or ended to run somewhere."""

    __tablename__ = "running_events"
    __table_args__ = (
        CheckConstraint("arm IN ('stable', 'challenger')", name="arm"),
        CheckConstraint("event IN ('begins', 'ends')", name="event"),
        Index("ix_running_events_version", "name", "version"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"))
    arm: Mapped[str] = mapped_column(String(16))
    event: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    sequence: Mapped[int]
    revision: Mapped[int]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class RecallRow(Base):
    """An order that a version runs on a target no more, and its confirmation. `revision` is the target's order that does it, once there is one."""

    __tablename__ = "recalls"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        Index(
            "uq_recalls_open",
            "target",
            "name",
            "version",
            unique=True,
            sqlite_where=text("confirmed_at IS NULL"),
            postgresql_where=text("confirmed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("deploy_targets.name"))
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    why: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column("ordered_by", Text)
    ordered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revision: Mapped[int | None]
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
