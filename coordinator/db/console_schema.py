"""The console's tables: who may sign in, and who has.

Nothing here decides what somebody may do: that is the member list's. Each row bears a seal of the console's key, without which it does not count
(`coordinator.console.seals`); one without any is of before there were seals.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_SEAL_LENGTH = 64
_NONE = text("''")


class ConsoleLink(Base):
    """A link that signs an officer in once, by the digest of its secret."""

    __tablename__ = "console_links"

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    seal: Mapped[str] = mapped_column(String(_SEAL_LENGTH), server_default=_NONE)


class ConsoleAccount(Base):
    """A local account: `password` is an Argon2id hash, `totp` the secret, encrypted; `totp_step` is the last step that was used."""

    __tablename__ = "console_accounts"
    __table_args__ = (CheckConstraint("failures >= 0", name="failures"),)

    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    password: Mapped[str] = mapped_column(Text)
    totp: Mapped[str] = mapped_column(Text)
    totp_step: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seal: Mapped[str] = mapped_column(String(_SEAL_LENGTH), server_default=_NONE)


class ConsoleIdentity(Base):
    """Who an OpenID provider's subject is."""

    __tablename__ = "console_identities"

    issuer: Mapped[str] = mapped_column(String(255), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH), index=True)
    tied_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seal: Mapped[str] = mapped_column(String(_SEAL_LENGTH), server_default=_NONE)


class ConsoleSession(Base):
    """A session, by the digest of what the cookie holds. `method` is how its officer signed in."""

    __tablename__ = "console_sessions"
    __table_args__ = (Index("ix_console_sessions_ends_at", "ends_at"),)

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH), index=True)
    method: Mapped[str] = mapped_column(String(16))
    token: Mapped[str] = mapped_column(String(64))
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ends_at: Mapped[datetime] = mapped_column(UtcDateTime)
    notice: Mapped[str | None] = mapped_column(Text)
    seal: Mapped[str] = mapped_column(String(_SEAL_LENGTH), server_default=_NONE)


class ConsoleDraft(Base):
    """What an officer had typed when their session ended: `fields` is JSON."""

    __tablename__ = "console_drafts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    officer: Mapped[str] = mapped_column(String(_NAME_LENGTH), index=True)
    path: Mapped[str] = mapped_column(Text)
    fields: Mapped[str] = mapped_column(Text)
    kept_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seal: Mapped[str] = mapped_column(String(_SEAL_LENGTH), server_default=_NONE)
