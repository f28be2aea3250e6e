"""What officers do through the control API, as the transparency log tells it.

1. An access that was granted, a plan that was proposed and an approval carry the officer's own signature, which is judged by the member list
   in force. Launches are judged by their own evidence, whether their plan was proposed here or signed elsewhere.
2. A refusal carries none: it tells what the coordinator did not do, for an officer or at the enrolment door.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from protos.access import AccessRequest
from protos.approvals import PlanStatement, require_spoken
from protos.documents import Part
from protos.membership import Trusted
from protos.names import Name, Site
from strategies.errors import Refused

LONGEST_REFUSAL: Final = 500


class AccessGranted(Part):
    """An officer was given a certificate for the control API."""

    kind: Literal["access"] = "access"
    request: AccessRequest


class PlanProposed(Part):
    """A plan was handed in, with its author's statement, which names it by digest. The plan itself is in the log once it is launched."""

    kind: Literal["proposed"] = "proposed"
    plan: Name
    statement: PlanStatement


class PlanApproved(Part):
    """An approval was handed in."""

    kind: Literal["approved"] = "approved"
    plan: Name
    statement: PlanStatement


class CallDenied(Part):
    """An officer asked for a change that was refused; nothing was changed. With `silent`, further refusals of this officer within the hour are not told."""

    kind: Literal["denied"] = "denied"
    officer: Name
    method: Annotated[str, Field(min_length=1, max_length=128)]
    request_id: Annotated[str, Field(max_length=64)] | None = None
    reason: Annotated[str, Field(max_length=LONGEST_REFUSAL)]
    silent: bool = False


class EnrolmentDenied(Part):
    """Somebody who had the token of an invitation of `site` asked for something else than it gives; nothing was changed."""

    kind: Literal["enrolment-denied"] = "enrolment-denied"
    site: Site
    reason: Annotated[str, Field(max_length=LONGEST_REFUSAL)]


OfficeEvent = AccessGranted | PlanProposed | PlanApproved | CallDenied | EnrolmentDenied
"""What officers do through the control API, and what was refused at the coordinator's doors."""


def judge_office(what: OfficeEvent, trusted: Trusted | None, at: datetime) -> None:
    """Judge an entry by the member list in force. Raises Refused."""
    if isinstance(what, CallDenied | EnrolmentDenied):
        return
    if trusted is None:
        raise Refused("an officer acts before there is a member list in the log")
    match what:
        case AccessGranted():
            what.request.require_bounded(what.request.judge(trusted.members, at), at)
        case PlanProposed() | PlanApproved():
            expected = "author" if isinstance(what, PlanProposed) else "approve"
            if what.statement.act != expected:
                raise Refused(f"{what.statement.words} is told as {what.kind}")
            require_spoken(what.statement, trusted, at)
