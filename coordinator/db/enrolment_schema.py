"""Invitations as a table: of each the digest of its token, and the request that was put behind it, once.

The token itself is in the invitation's file alone.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63


class InvitationRow(Base):
    """An invitation of `site`. `request` is its enrolment request in canonical JSON; `denied` counts what was tried with the token since."""

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint("(request IS NULL) = (submitted_at IS NULL)", name="submitted"),
        CheckConstraint("denied >= 0", name="denied"),
    )

    token: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH), index=True)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    request: Mapped[str | None] = mapped_column(Text)
    submitted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    denied: Mapped[int] = mapped_column(default=0)
