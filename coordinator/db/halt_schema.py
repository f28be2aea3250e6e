"""Halts, and who leads, as tables.

1. A halt is a signed order as it was given. It stands until `lifted_at`; its row stays.
2. `lift` is what officers have said so far to lift it, and is complete when it is lifted.
3. Leadership is one row: the term grows by one with each leader, and whoever holds it leads until `until` by the database's clock.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_ID_LENGTH = 32
_TARGET_LENGTH = 63
_HOME_LENGTH = 16


class HaltRow(Base):
    """An order to halt, by the digest of its document `order` in canonical JSON."""

    __tablename__ = "halts"
    __table_args__ = (
        CheckConstraint("scope IN ('site', 'run', 'all')", name="scope"),
        CheckConstraint("(scope = 'all') = (target IS NULL)", name="target"),
        Index(
            "ix_halts_standing",
            "scope",
            sqlite_where=text("lifted_at IS NULL"),
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    id: Mapped[str] = mapped_column(String(_ID_LENGTH), unique=True)
    scope: Mapped[str] = mapped_column(String(8))
    target: Mapped[str | None] = mapped_column(String(_TARGET_LENGTH))
    order: Mapped[str] = mapped_column("order_document", Text)
    halted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lift: Mapped[str | None] = mapped_column("lift_document", Text)
    lifted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class LeadershipRow(Base):
    """The one row that says who leads, made with the table. `until` is absent where the leader has given it back."""

    __tablename__ = "leadership"
    __table_args__ = (CheckConstraint("id = 1 AND term >= 0", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    term: Mapped[int]
    holder: Mapped[str] = mapped_column(Text)
    home: Mapped[str] = mapped_column(String(_HOME_LENGTH))
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
