"""The member list that the coordinator uses, and what the log is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from protos.log_entries import LogEntry, LoggedDocument, MembersSigned
from protos.membership import MemberList, Membership, Trusted
from protos.root import SignedRoot
from protos.succession import newest_after, require_follows
from strategies.errors import Refused

_MEMBERS: Final = "members"


@dataclass(frozen=True, slots=True)
class Listed:
    """A member list as it travels, the root that it was verified against, and what that says; `of` is its only maker."""

    membership: Membership
    pinned: SignedRoot
    trusted: Trusted

    @classmethod
    def of(cls, membership: Membership, pinned: SignedRoot) -> Self:
        """`membership`, if the `pinned` root leads to it. Raises Refused."""
        return cls(membership, pinned, membership.verify(pinned))


def members_signed(session: Session, listed: Listed) -> Iterator[MembersSigned]:
    """The entry of a member list with its roots, unless the log has it. Raises Refused, as sites and auditors do, for a list or a root that
    may not follow those that the log has (`protos.succession`).

    Call it under the log's lock, as `append` does.
    """
    logged = _logged(session)
    newest = None
    for each in logged:
        before = each.read_as(Membership).verify(listed.pinned)
        newest = newest_after(before, newest)
    try:
        if newest is not None:
            require_follows(listed.trusted, newest)
    except Refused as refused:
        raise Refused(
            f"the coordinator's member list does not follow the one in the transparency log; put the newest back. {refused}"
        ) from refused
    if listed.membership.digest not in {each.digest for each in logged}:
        yield MembersSigned(members=LoggedDocument.of(listed.membership))


def newest_members(session: Session) -> MemberList | None:
    """The newest member list that the log has, by which it judges what follows. Call it under the log's lock, as `append` does."""
    logged = _logged(session)
    return logged[-1].read_as(Membership).signed.list if logged else None


def newest_root(session: Session) -> int:
    """The newest version of the root that the log has come to; 1 where it has no member list. Call it under the log's lock, as `append` does."""
    found = (each.read_as(Membership) for each in _logged(session))
    return max((each.roots[-1].root.version for each in found if each.roots), default=1)


def _logged(session: Session) -> list[LoggedDocument]:
    query = select(LoggedEntry.body).where(LoggedEntry.kind == _MEMBERS).order_by(LoggedEntry.seq)
    known = [LogEntry.from_canonical(bytes(body)).what for body in session.scalars(query)]
    return [each.members for each in known if isinstance(each, MembersSigned)]
