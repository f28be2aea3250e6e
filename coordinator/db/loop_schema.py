"""Retraining as tables: plans that were drafted, and what became of each draft.

1. A model has at most one open draft; a partial unique index holds this.
2. A draft is kept as the log tells it. Where no plan could be drafted, there is no text, and `says` has why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime
from protos.log_loop import ADOPTED_FOR

_NAME_LENGTH = 63
_ID_LENGTH = 24
_RUN_ID_LENGTH = 20
_OPEN = text("state = 'open'")


class DraftRow(Base):
    """A drafted plan; `version` is the one that serves, from whose windows or for whom it was drafted."""

    __tablename__ = "retraining_drafts"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        CheckConstraint("state IN ('open', 'adopted', 'dismissed', 'expired', 'launched')", name="state"),
        Index("uq_retraining_drafts_open", "name", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_retraining_drafts_name", "name", "drafted_at"),
        Index("ix_retraining_drafts_alarm", "alarm"),
    )

    id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    alarm: Mapped[str | None] = mapped_column(String(_ID_LENGTH))
    author: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))
    text: Mapped[str | None] = mapped_column(Text)
    plan: Mapped[str | None] = mapped_column("plan_digest", String(DIGEST_LENGTH))
    contract: Mapped[str | None] = mapped_column("contract_digest", String(DIGEST_LENGTH))
    says: Mapped[list[str]] = mapped_column(JSON)
    gain: Mapped[dict[str, Any]] = mapped_column(JSON)
    drafted_by: Mapped[str] = mapped_column(Text)
    drafted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    state: Mapped[str] = mapped_column(String(16))
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    why: Mapped[str | None] = mapped_column(Text)
    run: Mapped[str | None] = mapped_column(String(_RUN_ID_LENGTH))

    @property
    def expires_at(self) -> datetime | None:
        """When an adopted draft expires, unless its model is trained again by then."""
        is_waiting = self.state == "adopted" and self.decided_at is not None
        return self.decided_at + ADOPTED_FOR if is_waiting and self.decided_at is not None else None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        plain = (
            "id",
            "version",
            "alarm",
            "author",
            "text",
            "plan",
            "contract",
            "says",
            "gain",
            "drafted_by",
            "state",
            "decided_by",
            "why",
            "run",
        )
        moments = ("drafted_at", "decided_at")
        return (
            {"model": self.name}
            | {each: getattr(self, each) for each in plain}
            | {each: None if (at := getattr(self, each)) is None else at.isoformat() for each in moments}
            | {"expires_at": None if (end := self.expires_at) is None else end.isoformat()}
        )
