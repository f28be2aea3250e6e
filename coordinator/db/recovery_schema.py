"""What a restored database knows of its own past, as tables.

1. While a restore waits, nothing is appended to the log, and so nothing is done: a later head is known, and neither a copy nor a signed gap bridges it.
2. What was adopted from a site after a gap is charged for good: its rows are never changed or deleted (migration 0010).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, CheckConstraint, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_RowId = BigInteger().with_variant(Integer, "sqlite")


class Restore(Base):
    """One restore: the backup's head, `kept_size` and `kept_root`; the `size` that copies led to; signed notes of `later` heads that are known.

    `waits` until the entries up to those are there, or said to be lost by the gap that is entry `gap_entry`.
    """

    __tablename__ = "restores"
    __table_args__ = (CheckConstraint("size >= kept_size AND kept_size >= 0", name="sizes"),)

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    restored_at: Mapped[datetime] = mapped_column(UtcDateTime)
    backup: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    kept_size: Mapped[int] = mapped_column(BigInteger)
    kept_root: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    size: Mapped[int] = mapped_column(BigInteger)
    later: Mapped[list[Any]] = mapped_column(JSON)
    waits: Mapped[bool] = mapped_column(Boolean)
    gap_entry: Mapped[int | None] = mapped_column(BigInteger)


class AdoptedCharge(Base):
    """`times` of a release that a site had charged and a gap has lost, by its signed `statement`."""

    __tablename__ = "adopted_charges"
    __table_args__ = (CheckConstraint("times >= 1", name="times"),)

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"), index=True)
    release_digest: Mapped[str] = mapped_column(ForeignKey("ledger_releases.digest"))
    times: Mapped[int]
    statement: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class AdoptedSite(Base):
    """That the accounts of `site` were adopted after the gap that is entry `gap_entry`: they may be charged again."""

    __tablename__ = "adopted_sites"

    gap_entry: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    statement: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
