"""That a site's journal is its newest: at each start it draws a nonce, and other sites sign what they have seen of it.

1. A `Start` is the site's own word: it was started, and its journal stands at `position`, which holds the nonce. A start is vouched for once.
2. A `Voucher` is another site's: for this nonce, so none can be shown again, the newest that it has seen that site sign, and the last attempts of runs in
   which it was in a sum with it. What was signed is there whole, so nobody can make up a place of another's journal.
3. A site holds its own journal against all of them. Only `verify` says whose word something is.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field

from protos.documents import Document, Part
from protos.keys import PublicKey, Signature, Signer, verify
from protos.membership import MemberList
from protos.moments import Moment
from protos.names import Name, Sha256, Site, checked
from protos.witness import Position, SignedWitness
from strategies.errors import Refused
from strategies.ids import RunId, SiteName, run_id

MOST_MET: Final = 16
_START: Final = "covenant/start/v1"
_VOUCHER: Final = "covenant/voucher/v1"
_MOST: Final = 10**9


class Start(Document):
    """`site` was started with this `nonce`, which its journal holds at `position`."""

    covenant: Literal["start/v1"] = "start/v1"
    federation: Name
    site: Site
    identity: PublicKey
    nonce: Sha256
    position: Position
    at: Moment


class SignedStart(Document):
    """A start and its site's signature. Worth nothing before `verify`."""

    start: Start
    signature: Signature

    @classmethod
    def sign(cls, start: Start, identity: Signer) -> Self:
        """The start, signed."""
        return cls(start=start, signature=identity.sign(_START, start.canonical))

    def verify(self, members: MemberList) -> Start:
        """The start, if the site's key on `members` signed it for that federation. Raises Refused."""
        said = self.start
        _require_member(members, said.federation, said.site, said.identity)
        if not verify(said.identity, self.signature, _START, said.canonical):
            raise Refused(f"the start of {said.site} is not signed with its key on member list {members.ref}")
        return said


class Met(Part):
    """The last attempt of a run in which a site was seen among the survivors."""

    run: Annotated[RunId, checked(run_id)]
    stage: Literal["PREPARE", "TRAIN", "EVALUATE"]
    round: Annotated[int, Field(ge=0, le=_MOST)]
    attempt: Annotated[int, Field(ge=0, le=_MOST)]


class Voucher(Document):
    """What the site `by` has seen of `site`, which was started with `nonce`: its newest statement, an earlier start of it, and sums that both were in."""

    covenant: Literal["voucher/v1"] = "voucher/v1"
    federation: Name
    by: Site
    identity: PublicKey
    site: Site
    nonce: Sha256
    statement: SignedWitness | None = None
    start: SignedStart | None = None
    met: Annotated[tuple[Met, ...], Field(max_length=MOST_MET)] = ()
    at: Moment


class SignedVoucher(Document):
    """A voucher and the signature of whoever vouches. Worth nothing before `verify`."""

    voucher: Voucher
    signature: Signature

    @classmethod
    def sign(cls, voucher: Voucher, identity: Signer) -> Self:
        """The voucher, signed."""
        return cls(voucher=voucher, signature=identity.sign(_VOUCHER, voucher.canonical))

    def verify(self, members: MemberList) -> Voucher:
        """The voucher, if the key that `members` has for its signer signed it. Raises Refused."""
        said = self.voucher
        _require_member(members, said.federation, said.by, said.identity)
        if said.by == said.site or not verify(said.identity, self.signature, _VOUCHER, said.canonical):
            raise Refused(
                f"the voucher for {said.site} is not signed by another site, {said.by}, with its key on member list {members.ref}"
            )
        return said


def _require_member(members: MemberList, federation: str, site: SiteName, identity: str) -> None:
    if federation != members.name or members.member(site).identity_key != identity:
        raise Refused(
            f"what {site} says is for another federation, or with another key than member list {members.ref} has"
        )
