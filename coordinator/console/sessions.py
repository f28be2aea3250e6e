"""Sessions: rows that end, named by a cookie of which the database has the digest only.

1. A new one at every sign-in: what a browser brought along before it, nobody knows.
2. IDLE without a request, or LONGEST after it began, a session is over. One that is over is told apart from one that never was, until it is swept,
   so that what was typed under it can be kept for the same officer (`drafts`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Engine, delete

from coordinator.db.console_schema import ConsoleDraft, ConsoleSession
from coordinator.db.engine import reading, writing
from strategies.encoding import sha256_hex

COOKIE: Final = "__Host-covenant"
IDLE: Final = timedelta(minutes=30)
LONGEST: Final = timedelta(hours=10)
_KEPT: Final = timedelta(hours=12)
_SEEN_EVERY: Final = timedelta(minutes=1)
_MOST_COOKIE: Final = 64
Method = Literal["link", "password", "oidc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as a request finds it. `token` proves that a form is the console's own."""

    digest: str
    officer: str
    method: str
    token: str
    began_at: datetime
    ends_at: datetime
    over: bool


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one console."""

    engine: Engine

    def begin(self, officer: str, method: Method, now: datetime) -> str:
        """A new session; returns what the cookie holds."""
        secret = secrets.token_urlsafe(32)
        with writing(self.engine, "beginning a session") as session:
            session.execute(delete(ConsoleSession).where(ConsoleSession.ends_at < now - _KEPT))
            session.execute(delete(ConsoleDraft).where(ConsoleDraft.kept_at < now - _KEPT))
            session.add(
                ConsoleSession(
                    digest=_digest(secret),
                    officer=officer,
                    method=method,
                    token=secrets.token_urlsafe(32),
                    began_at=now,
                    seen_at=now,
                    ends_at=now + LONGEST,
                )
            )
        return secret

    def find(self, cookie: str | None, now: datetime) -> Session | None:
        """The session that a cookie names, over or not."""
        if not cookie or len(cookie) > _MOST_COOKIE:
            return None
        with reading(self.engine, "looking for a session") as session:
            row = session.get(ConsoleSession, _digest(cookie))
        if row is None:
            return None
        over = now >= min(row.ends_at, row.seen_at + IDLE)
        if not over and now - row.seen_at >= _SEEN_EVERY:
            self._see(row.digest, now)
        return Session(
            digest=row.digest,
            officer=row.officer,
            method=row.method,
            token=row.token,
            began_at=row.began_at,
            ends_at=row.ends_at,
            over=over,
        )

    def end(self, digest: str) -> None:
        """Sign out."""
        with writing(self.engine, "ending a session") as session:
            session.execute(delete(ConsoleSession).where(ConsoleSession.digest == digest))

    def end_all(self, officer: str) -> None:
        """Sign an officer out everywhere."""
        with writing(self.engine, "ending sessions") as session:
            session.execute(delete(ConsoleSession).where(ConsoleSession.officer == officer))

    def tell(self, digest: str, notice: str) -> None:
        """Have the session's next page say `notice`."""
        with writing(self.engine, "leaving a notice") as session:
            if (row := session.get(ConsoleSession, digest)) is not None:
                row.notice = notice

    def told(self, digest: str) -> str | None:
        """What the next page is to say, once."""
        with reading(self.engine, "reading a notice") as session:
            row = session.get(ConsoleSession, digest)
        if row is None or row.notice is None:
            return None
        with writing(self.engine, "reading a notice") as session:
            if (again := session.get(ConsoleSession, digest)) is not None:
                again.notice = None
        return row.notice

    def _see(self, digest: str, now: datetime) -> None:
        with writing(self.engine, "keeping a session") as session:
            if (row := session.get(ConsoleSession, digest)) is not None:
                row.seen_at = max(row.seen_at, now)


def _digest(secret: str) -> str:
    return sha256_hex(secret.encode())
