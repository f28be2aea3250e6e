"""What people said of registered versions, as a table: every note is kept, and the last of a kind counts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_KIND_LENGTH = 32


class ModelNoteRow(Base):
    """A note as it was handed in; `digest` is its own, `entry` the place in the transparency log that tells the same."""

    __tablename__ = "model_notes"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        CheckConstraint("entry >= 0", name="entry"),
        Index("ix_model_notes_version", "name", "version", "kind"),
    )

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(_KIND_LENGTH))
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    document: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    entry: Mapped[int]
