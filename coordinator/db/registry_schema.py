"""What becomes of registered models, as tables.

1. A move is one row for each transition of a version, numbered from 1, and never changed; the stage in `models` is that of the last.
2. An alias names one version of its model. `champion` follows deployment; others are set by hand.
3. `entry` is the place in the transparency log that tells of the same.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base, Stage, one_of
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_STAGE_LENGTH = 16


class ModelMove(Base):
    """A version came from stage `before` to stage `after`."""

    __tablename__ = "model_moves"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint(one_of("before", Stage), name="before"),
        CheckConstraint(one_of("after", Stage), name="after"),
        CheckConstraint("before <> after", name="moves"),
        Index("ix_model_moves_entry", "entry", unique=True),
    )

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    before: Mapped[str] = mapped_column(String(_STAGE_LENGTH))
    after: Mapped[str] = mapped_column(String(_STAGE_LENGTH))
    why: Mapped[str] = mapped_column(Text)
    moved_by: Mapped[str] = mapped_column(Text)
    rests_on: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)
    entry: Mapped[int]


class ModelAlias(Base):
    """A name for a version of a model."""

    __tablename__ = "model_aliases"
    __table_args__ = (ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),)

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    alias: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    version: Mapped[int]


class ModelStatementRow(Base):
    """An officer's approval of a version, as it was handed in; `digest` is the statement's."""

    __tablename__ = "model_statements"
    __table_args__ = (
        ForeignKeyConstraint(["name", "version"], ["models.name", "models.version"]),
        Index("ix_model_statements_version", "name", "version"),
    )

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    version: Mapped[int]
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    document: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    entry: Mapped[int]
