"""The gate's verdicts, as a table: one row for each time that a version was judged, never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63


class ModelVerdict(Base):
    """What the gate said of a version; `document` is the verdict, `digest` its own, `entry` the place in the transparency log that tells the same."""

    __tablename__ = "model_verdicts"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        CheckConstraint("entry >= 0", name="entry"),
        Index("ix_model_verdicts_version", "name", "version"),
    )

    entry: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    passed: Mapped[bool]
    document: Mapped[str] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text)
    asked_by: Mapped[str] = mapped_column(Text)
    judged_at: Mapped[datetime] = mapped_column(UtcDateTime)
