"""The office's tables: plans that were proposed and comments on them, requests that were answered, and accesses that were granted.

1. A plan is kept as the exact text that its digest is over; its evidence grows by one officer's statement at a time.
2. A request is written in the transaction of its effect, so it is answered once, whatever is sent again.
"""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_REQUEST_ID_LENGTH = 36
_METHOD_LENGTH = 128


class StoredPlan(Base):
    """A plan that was proposed under a contract, and what officers said about it."""

    __tablename__ = "plans"
    __table_args__ = (
        Index("ix_plans_proposed_at", "proposed_at"),
        Index("ix_plans_name", "name", "proposed_at"),
    )

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    contract_digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    plan: Mapped[str] = mapped_column(Text)
    contract: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str] = mapped_column(Text)
    proposed_by: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    proposed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PlanComment(Base):
    """What an officer said about a plan that was proposed; nothing rests on it."""

    __tablename__ = "plan_comments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["plan", "contract"], ["plans.digest", "plans.contract_digest"], name="fk_plan_comments_plans"
        ),
        Index("ix_plan_comments_plan", "plan", "contract", "at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    plan: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    contract: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    text: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class StoredRequest(Base):
    """A request that was answered: `outcome` is the answer's text, or with `refused` the reason."""

    __tablename__ = "requests"
    __table_args__ = (Index("ix_requests_at", "at"),)

    id: Mapped[str] = mapped_column(String(_REQUEST_ID_LENGTH), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    method: Mapped[str] = mapped_column(String(_METHOD_LENGTH))
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    outcome: Mapped[str] = mapped_column(Text)
    refused: Mapped[bool] = mapped_column(default=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class StoredAccess(Base):
    """An access that was granted, by the digest of the officer's request; `fingerprint` is that of the TLS key."""

    __tablename__ = "accesses"

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH), index=True)
    request: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    granted_at: Mapped[datetime] = mapped_column(UtcDateTime)
