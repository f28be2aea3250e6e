"""How an officer comes to the control API: a request for a certificate, signed with the key on the member list, and the folder that results.

1. TLS here takes no Ed25519 certificates, so an officer makes a P-256 key for it, and says so under the key that the list has.
2. A request is good as long as that key is the officer's on the *newest* list, for 90 days at most. It is judged anew on every call, so a
   certificate opens nothing by itself.
3. A request is no approval: what an officer decides is signed with the officer's own key, not with the one for TLS.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal, Self

from protos.documents import Document, FilePath, make_document
from protos.keys import NodeKey, Signature, Signer, verify
from protos.membership import MemberList, Officer
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import Refused
from strategies.ids import Digest

LONGEST_ACCESS: Final = timedelta(days=90)
PROFILE_FILE: Final = "access.yaml"
_LABEL: Final = "covenant/access/v1"


class _Wish(Document):
    """What is signed."""

    covenant: Literal["access-request/v1"] = "access-request/v1"
    federation: Name
    officer: Name
    tls_key: NodeKey
    until: Moment


class AccessRequest(_Wish):
    """An officer's wish to reach the control API with the TLS key `tls_key` (PEM) until a moment. Worth nothing before `judge`."""

    signature: Signature

    @classmethod
    def create(cls, federation: str, officer: str, tls_key: str, signer: Signer, *, until: datetime) -> Self:
        """Sign for `officer` with the officer's own key. Raises UsageError."""
        wish = make_document(
            _Wish,
            "the access request",
            federation=federation,
            officer=officer,
            tls_key=tls_key,
            until=until,
        )
        return cls(**dict(wish), signature=signer.sign(_LABEL, wish.canonical))

    @property
    def tls_digest(self) -> Digest:
        """SHA-256 of the TLS key in PEM."""
        return sha256_hex(self.tls_key.encode())

    def judge(self, members: MemberList, now: datetime) -> Officer:
        """The officer on `members` who made this request, if it is good at `now`. Raises Refused."""
        if self.federation != members.name:
            raise Refused(
                f"the access request of {self.officer} is for federation {self.federation}; this one is {members.name}"
            )
        officer = members.officer(self.officer)
        officer.require_current(now)
        message = canonical_json(self.model_dump(mode="json", exclude={"signature"}))
        if not verify(officer.key, self.signature, _LABEL, message):
            raise Refused(
                f"the access request of {officer.name} is not signed with the key of {officer.name} on member list {members.ref}: have a new one"
                " made with `covenant access request`"
            )
        if now > self.until:
            raise Refused(
                f"the access of {officer.name} was good until {self.until:%Y-%m-%d %H:%M} UTC; {officer.name} asks for a new one with"
                " `covenant access request`"
            )
        return officer

    def require_bounded(self, officer: Officer, now: datetime) -> None:
        """Check that this is not asked for longer than it may be given. Raises Refused."""
        latest = min(now + LONGEST_ACCESS + SIGNERS_CLOCK_AHEAD, officer.expires)
        if self.until > latest:
            raise Refused(
                f"{self.officer} asks for access until {self.until:%Y-%m-%d}; at most {LONGEST_ACCESS.days} days are given, and none beyond"
                f" the last day of the officer's key: {latest:%Y-%m-%d} at the latest. Have another request made with --until"
            )


class AccessProfile(Document):
    """`access.yaml` in an officer's folder: where the control API is, which authority proves it, and what proves the officer."""

    covenant: Literal["access/v1"] = "access/v1"
    server: str
    ca: FilePath
    certificate: FilePath
    key: FilePath
