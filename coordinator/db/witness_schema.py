"""What sites have signed about the transparency log, and the histories that do not fit, as tables.

1. A statement's row is its site's position: a site never signs two statements from one place of one journal. The newest row of a site is the last
   that was received.
2. Evidence stays. A person who has dealt with it says what was done, beside it.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_EPOCH_LENGTH = 32


class WitnessRow(Base):
    """A site's signed statement as canonical JSON, and the view that it names."""

    __tablename__ = "witness_statements"
    __table_args__ = (
        UniqueConstraint("site", "epoch", "sequence"),
        Index("ix_witness_statements_site_id", "site", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    epoch: Mapped[str] = mapped_column(String(_EPOCH_LENGTH))
    sequence: Mapped[int] = mapped_column(BigInteger)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    statement: Mapped[str] = mapped_column(Text)
    view: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ForkRow(Base):
    """Evidence (canonical JSON) that `site` has found, or that is about it. `shows` is what it shows; a set-back journal is no fork of the log."""

    __tablename__ = "log_forks"
    __table_args__ = (
        CheckConstraint("shows IN ('split', 'shorter', 'not extended', 'set back')", name="shows"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    shows: Mapped[str] = mapped_column(String(16))
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    evidence: Mapped[bytes] = mapped_column(LargeBinary)
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    settled: Mapped[str | None] = mapped_column(Text)
