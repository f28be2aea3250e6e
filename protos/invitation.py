"""How a site is let into the officers' letter box: an invitation with a one-time token, and what is said at the enrolment door.

1. A token puts one enrolment request of one site before the officers. It makes nobody a member: only a list that the root's quorum signed does.
2. What a site pins comes from its invitation, and counts once a person has compared the root's fingerprint with the officers.
3. The centre keeps a token's digest. The token itself is in the invitation alone, which is as confidential as a letter to the site's IT.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.contract import Contract
from protos.documents import Document, FieldError
from protos.enrolment import EnrolmentRequest
from protos.keys import decode_base64
from protos.membership import Membership
from protos.moments import Moment
from protos.names import Address, Name, Site, checked
from protos.root import SignedRoot
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import Digest

TOKEN_BYTES: Final = 32
MOST_SUBMITTED_BYTES: Final = 16 * 1024
MOST_ANSWER_BYTES: Final = 8 << 20
ENROLMENT_PATH: Final = "/covenant/enrolment/v1"
_LONGEST_PEM: Final = 8192
_LONGEST_REASON: Final = 500


def _token(text: str) -> bytes:
    return decode_base64(text, TOKEN_BYTES)


Token = Annotated[str, checked(_token), Field(repr=False)]


def token_of(secret: bytes) -> str:
    """A token of 32 random bytes as it is written."""
    return base64.b64encode(secret).decode()


def token_digest(token: str) -> Digest:
    """What the centre keeps of a token."""
    return sha256_hex(_token(token))


class Invitation(Document):
    """`SITE.invitation`: where a site enrols until when, with what, and what it is to pin. `contract` is the one that its data are to follow."""

    covenant: Literal["invitation/v1"] = "invitation/v1"
    site: Site
    federation: Name
    superlink: Address
    door: Address | None = None
    """Of the enrolment door; without it the request travels as a file."""
    ca: Annotated[str, Field(max_length=_LONGEST_PEM)]
    root: SignedRoot
    contract: Contract | None = None
    token: Token
    expires: Moment

    @model_validator(mode="after")
    def _is_of_one_federation(self) -> Self:
        if self.root.root.federation != self.federation:
            raise FieldError(
                "root", f"it is of {self.root.root.federation}, the invitation of {self.federation}"
            )
        return self

    def require_current(self, now: datetime) -> None:
        """Check that the token still opens the door at `now`. Raises Refused."""
        if now > self.expires:
            raise Refused(
                f"the invitation of {self.site} was good until {self.expires:%Y-%m-%d %H:%M} UTC, and this machine's clock says"
                f" {now:%Y-%m-%d %H:%M} UTC; have the centre make another with `covenant site invite {self.site}`, or set the clock right"
            )


class Submission(Document):
    """What a site says at the door: its token, and its request. Sent again as it is, it asks how far the request is."""

    covenant: Literal["submission/v1"] = "submission/v1"
    token: Token
    request: EnrolmentRequest


class DoorAnswer(Document):
    """What the door says: `waiting` for the officers, `member` with the list that they signed, or `refused` with the reason."""

    covenant: Literal["door/v1"] = "door/v1"
    state: Literal["waiting", "member", "refused"]
    reason: Annotated[str, Field(max_length=_LONGEST_REASON)] | None = None
    membership: Membership | None = None
