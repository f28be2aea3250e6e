"""Sessions: rows that end, named by a cookie of which the database has the digest only.

1. A new one at every sign-in: what a browser brought along before it, nobody knows.
2. IDLE without a click, or LONGEST after it began, a session is over: what a page fetches by itself keeps none. One that is over is told apart from one that never was, until it is swept,
   so that what was typed under it can be kept for the same officer (`drafts`).
3. A row without this console's seal is no session (`seals`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Engine, delete, select

from coordinator.console.seals import holds, seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleDraft, ConsoleSession
from coordinator.db.engine import reading, writing
from strategies.encoding import sha256_hex

COOKIE: Final = "__Host-covenant"
IDLE: Final = timedelta(minutes=30)
LONGEST: Final = timedelta(hours=10)
_KEPT: Final = timedelta(hours=12)
_SEEN_EVERY: Final = timedelta(minutes=1)
_MOST_COOKIE: Final = 64
_SHOWN: Final = 50
Method = Literal["link", "password", "oidc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as a request finds it. `token` proves that a form is the console's own."""

    digest: str
    officer: str
    method: str
    token: str = field(repr=False)
    began_at: datetime
    seen_at: datetime
    ends_at: datetime
    over: bool


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one console."""

    engine: Engine
    vault: Vault

    def begin(self, officer: str, method: Method, now: datetime) -> str:
        """A new session; returns what the cookie holds."""
        secret = secrets.token_urlsafe(32)
        row = ConsoleSession(
            digest=_digest(secret),
            officer=officer,
            method=method,
            token=secrets.token_urlsafe(32),
            began_at=now,
            seen_at=now,
            ends_at=now + LONGEST,
        )
        seal(self.vault, row)
        with writing(self.engine, "beginning a session") as session:
            session.execute(delete(ConsoleSession).where(ConsoleSession.ends_at < now - _KEPT))
            session.execute(delete(ConsoleDraft).where(ConsoleDraft.kept_at < now - _KEPT))
            session.add(row)
        return secret

    def find(self, cookie: str | None, now: datetime, *, clicked: bool = True) -> Session | None:
        """The session that a cookie names, over or not; it goes on from `now` if somebody `clicked`."""
        if not cookie or len(cookie) > _MOST_COOKIE:
            return None
        with reading(self.engine, "looking for a session") as session:
            row = session.get(ConsoleSession, _digest(cookie))
        if row is None or not holds(self.vault, row):
            return None
        found = _session(row, now)
        if clicked and not found.over and now - row.seen_at >= _SEEN_EVERY:
            self._see(row.digest, now)
        return found

    def lives(self, digest: str, now: datetime) -> bool:
        """Whether a session is there, and not over."""
        with reading(self.engine, "looking for a session") as session:
            row = session.get(ConsoleSession, digest)
        return row is not None and holds(self.vault, row) and now < _end_of(row)

    def of(self, officer: str, now: datetime) -> Sequence[Session]:
        """An officer's sessions that are not over, the newest first."""
        query = select(ConsoleSession).where(ConsoleSession.officer == officer, ConsoleSession.ends_at > now)
        with reading(self.engine, "reading sessions") as session:
            rows = session.scalars(query.order_by(ConsoleSession.began_at.desc()).limit(_SHOWN)).all()
        return [_session(row, now) for row in rows if holds(self.vault, row) and now < _end_of(row)]

    def had(self, officer: str, token: str, now: datetime) -> bool:
        """Whether a form's token is that of a session of the officer which is over, and was not signed out of."""
        query = select(ConsoleSession).where(ConsoleSession.officer == officer, ConsoleSession.token == token)
        with reading(self.engine, "looking for a session that is over") as session:
            row = session.scalars(query.limit(1)).first()
        return row is not None and holds(self.vault, row) and now >= _end_of(row)

    def end(self, digest: str) -> None:
        """Sign out."""
        with writing(self.engine, "ending a session") as session:
            session.execute(delete(ConsoleSession).where(ConsoleSession.digest == digest))

    def end_all(self, officer: str, but: str | None = None) -> int:
        """Sign an officer out everywhere, except in the session with the digest `but`; returns how many sessions ended."""
        query = select(ConsoleSession).where(ConsoleSession.officer == officer)
        if but is not None:
            query = query.where(ConsoleSession.digest != but)
        with writing(self.engine, "ending sessions") as session:
            found = session.scalars(query).all()
            for row in found:
                session.delete(row)
        return len(found)

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
            row = session.get(ConsoleSession, digest, with_for_update=True)
            if row is not None and holds(self.vault, row):
                row.seen_at = max(row.seen_at, now)
                seal(self.vault, row)


def _end_of(row: ConsoleSession) -> datetime:
    return min(row.ends_at, row.seen_at + IDLE)


def _session(row: ConsoleSession, now: datetime) -> Session:
    return Session(
        digest=row.digest,
        officer=row.officer,
        method=row.method,
        token=row.token,
        began_at=row.began_at,
        seen_at=row.seen_at,
        ends_at=row.ends_at,
        over=now >= _end_of(row),
    )


def _digest(secret: str) -> str:
    return sha256_hex(secret.encode())
