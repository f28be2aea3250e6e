"""Invitations, and what is put behind them. Raises `Refused` with a sentence that the site may read.

1. A token takes one request, for the site that it was made for, until its last moment. The same bytes again are a question how far it is.
2. Anything else with a token that is known is denied, and told to the transparency log, at most `MOST_DENIALS` times for a token. Nothing changes.
3. A token that is not known is denied like one whose time is over, and told to nobody.
4. A new invitation of a site ends those of its invitations that were not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import select, update

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.enrolment_schema import InvitationRow
from coordinator.documents import read_members
from coordinator.governance.log import append
from protos.enrolment import EnrolmentRequest
from protos.invitation import DoorAnswer, Submission, token_digest
from protos.log_office import EnrolmentDenied
from protos.membership import MemberList, Membership
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, SiteName

MOST_DENIALS: Final = 10
State = Literal["invited", "expired", "waiting", "member"]
_UNKNOWN: Final = (
    "this token opens nothing: it is not known here, or its time is over. Ask the centre for a new invitation"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """An invitation as people see it."""

    site: SiteName
    made_at: datetime
    expires_at: datetime
    request: EnrolmentRequest | None
    state: State


@dataclass(frozen=True, slots=True)
class InvitationBook:
    """The invitations of one coordinator."""

    centre: Centre

    def invite(self, site: SiteName, token: Digest, expires: datetime) -> None:
        """Let the token with this digest put one request of `site` behind the door until `expires`."""
        now = self.centre.clock()
        unused = update(InvitationRow).where(
            InvitationRow.site == site, InvitationRow.request.is_(None), InvitationRow.expires_at > now
        )
        with writing(self.centre.engine, f"inviting {site}") as session:
            session.execute(unused.values(expires_at=now))
            session.add(InvitationRow(token=token, site=site, made_at=now, expires_at=expires, denied=0))

    def submit(self, submission: Submission) -> DoorAnswer:
        """What the door says to a submission. Raises CovenantError only where nothing can be said at all."""
        try:
            submission.request.verify()
            self._put(submission)
        except Refused as refused:
            return DoorAnswer(state="refused", reason=str(refused))
        found = self._members()
        if found is not None and _is_on(found[1], submission.request):
            return DoorAnswer(state="member", membership=found[0])
        return DoorAnswer(
            state="waiting",
            reason=f"the request of {submission.request.site} is with the officers; they compare its fingerprint and sign a member list",
        )

    def all(self) -> Iterator[Invited]:
        """All invitations, the oldest first."""
        found, now = self._members(), self.centre.clock()
        with reading(self.centre.engine, "reading invitations") as session:
            rows = session.scalars(select(InvitationRow).order_by(InvitationRow.made_at)).all()
        for row in rows:
            request = None if row.request is None else EnrolmentRequest.from_canonical(row.request.encode())
            state: State = "invited" if now <= row.expires_at else "expired"
            if request is not None:
                state = "member" if found is not None and _is_on(found[1], request) else "waiting"
            yield Invited(
                site=SiteName(row.site),
                made_at=row.made_at,
                expires_at=row.expires_at,
                request=request,
                state=state,
            )

    def _put(self, submission: Submission) -> None:
        """Put a request behind its token. Raises Refused."""
        denied: str | None = None
        self._require_known(submission)
        with writing(self.centre.engine, "taking an enrolment request") as session:
            self.centre.require_term(session)
            row = session.get(InvitationRow, token_digest(submission.token), with_for_update=True)
            now = self.centre.clock()
            if row is None or (row.request is None and now > row.expires_at):
                raise Refused(_UNKNOWN)
            denied = _denied(row, submission.request)
            if denied is None and row.request is None:
                row.request, row.submitted_at = submission.request.canonical.decode(), now
            elif denied is not None and row.denied < MOST_DENIALS:
                row.denied += 1
                session.flush()
                append(session, now, [EnrolmentDenied(site=SiteName(row.site), reason=denied)])
        if denied is not None:
            raise Refused(denied)

    def _require_known(self, submission: Submission) -> None:
        """Turn strangers away before anything is locked, so that they keep no round from being written. Raises Refused."""
        with reading(self.centre.engine, "looking up a token") as session:
            if session.get(InvitationRow, token_digest(submission.token)) is None:
                raise Refused(_UNKNOWN)

    def _members(self) -> tuple[Membership, MemberList] | None:
        """The list in use; None where there is none, or a draft lies in its place."""
        if not self.centre.settings.members_file.exists():
            return None
        try:
            membership, trusted = read_members(self.centre.settings)
        except CovenantError:
            return None
        return membership, trusted.members


def _denied(row: InvitationRow, request: EnrolmentRequest) -> str | None:
    """Why a token that is known does not take `request`."""
    if request.site != row.site:
        return f"the token is of an invitation of {row.site}, and was used for {request.site}"
    if row.request is not None and row.request != request.canonical.decode():
        return (
            f"the token of {row.site} was used already, for another request; a token takes one. The request that came first stands. If that was not"
            " yours, tell the officers; else ask the centre for a new invitation"
        )
    return None


def _is_on(members: MemberList, request: EnrolmentRequest) -> bool:
    wanted = (request.site, request.identity_key, request.node_key)
    return any((each.site, each.identity_key, each.node_key) == wanted for each in members.members)
