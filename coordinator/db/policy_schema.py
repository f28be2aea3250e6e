"""Policy packs and what was judged by them, as tables.

1. A version of a pack is kept as the exact text that its officers signed. `in_force_at` is when everything was judged by it; once.
2. A judgement is never changed: the one with the highest id of a pack's name and a subject is the one that counts.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_SUBJECT_LENGTH = 2 * DIGEST_LENGTH + 1


class PolicyPackRow(Base):
    """A published version of a pack: `signed` is the signed document as canonical JSON, `digest` that of the pack in it."""

    __tablename__ = "policy_packs"
    __table_args__ = (CheckConstraint("version >= 1", name="version"),)

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    signed: Mapped[str] = mapped_column(Text)
    effective_from: Mapped[datetime] = mapped_column(UtcDateTime)
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
    in_force_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PolicyJudgementRow(Base):
    """A judgement as canonical JSON; `subject` is its key, `differs` what changed since the one before, as a JSON list."""

    __tablename__ = "policy_judgements"
    __table_args__ = (
        ForeignKeyConstraint(["pack_name", "pack_version"], ["policy_packs.name", "policy_packs.version"]),
        CheckConstraint("kind IN ('plan', 'model')", name="kind"),
        Index("ix_policy_judgements_subject", "pack_name", "subject"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pack_name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    pack_version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(8))
    subject: Mapped[str] = mapped_column(String(_SUBJECT_LENGTH))
    blocked: Mapped[bool]
    judgement: Mapped[str] = mapped_column(Text)
    differs: Mapped[str] = mapped_column(Text)
    judged_at: Mapped[datetime] = mapped_column(UtcDateTime)
