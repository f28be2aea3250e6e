"""Which officer an OpenID provider's subject is. Said on the coordinator's machine, never by the provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, select

from coordinator.console.seals import holds, seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleIdentity
from coordinator.db.engine import reading, writing
from strategies.errors import UsageError

LONGEST = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A subject of an issuer, and the officer who it is."""

    issuer: str
    subject: str
    officer: str
    tied_at: datetime
    counts: bool
    """Whether the row bears this console's seal."""


@dataclass(frozen=True, slots=True)
class Identities:
    """The subjects that are tied."""

    engine: Engine
    vault: Vault

    def tie(self, issuer: str, subject: str, officer: str, now: datetime) -> None:
        """Say who a subject is; said again, it is sealed anew. Raises UsageError for one that somebody else is already."""
        if not 0 < len(subject) <= LONGEST or not subject.isprintable():
            raise UsageError(
                f"a subject is text of 1 to {LONGEST} characters, as the provider's ID token has it"
            )
        with writing(self.engine, "tying an identity") as session:
            row = session.get(ConsoleIdentity, (issuer, subject))
            if row is not None and row.officer != officer:
                raise UsageError(
                    f"this subject is {row.officer}'s; untie it first: covenant console untie --subject"
                )
            if row is None:
                row = ConsoleIdentity(issuer=issuer, subject=subject, officer=officer, tied_at=now)
            elif not holds(self.vault, row):
                row.tied_at = now
            seal(self.vault, row)
            session.add(row)

    def untie(self, issuer: str, subject: str) -> str:
        """Forget who a subject is; returns who it was. Raises UsageError where it is nobody."""
        with writing(self.engine, "untying an identity") as session:
            row = session.get(ConsoleIdentity, (issuer, subject))
            if row is None:
                raise UsageError(
                    "this subject is tied to nobody; covenant console accounts lists those that are"
                )
            officer = row.officer
            session.delete(row)
        return officer

    def remove(self, officer: str) -> int:
        """Untie all subjects of an officer; returns how many."""
        with writing(self.engine, "untying identities") as session:
            found = session.scalars(select(ConsoleIdentity).where(ConsoleIdentity.officer == officer)).all()
            session.execute(delete(ConsoleIdentity).where(ConsoleIdentity.officer == officer))
        return len(found)

    def officer(self, issuer: str, subject: str) -> str | None:
        """Who a subject is."""
        with reading(self.engine, "looking for an identity") as session:
            row = session.get(ConsoleIdentity, (issuer, subject))
        return row.officer if row is not None and holds(self.vault, row) else None

    def views(self, limit: int, officer: str | None = None) -> Sequence[Identity]:
        """Subjects by officer, at most `limit`; of one officer if named."""
        query = (
            select(ConsoleIdentity).order_by(ConsoleIdentity.officer, ConsoleIdentity.subject).limit(limit)
        )
        if officer is not None:
            query = query.where(ConsoleIdentity.officer == officer)
        with reading(self.engine, "reading identities") as session:
            rows = session.scalars(query).all()
        return [
            Identity(
                issuer=row.issuer,
                subject=row.subject,
                officer=row.officer,
                tied_at=row.tied_at,
                counts=holds(self.vault, row),
            )
            for row in rows
        ]
