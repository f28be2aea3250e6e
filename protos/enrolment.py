"""How people and sites hand in their public keys: each request is signed with its own key, which shows that it is held.

A request says who made it, and nothing vouches for that: its fingerprint is compared with its people, by voice or on paper.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from protos.documents import Document, make_document
from protos.keys import NodeKey, PublicKey, Signer, fingerprint, verify
from protos.membership import Member
from protos.names import Name, Site
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import SiteName

_ENROLMENT_LABEL: Final = "covenant/enrolment/v1"
_IDENTITY_LABEL: Final = "covenant/identity/v1"


class EnrolmentRequest(Document):
    """A site's wish to be a member: its public keys, signed with the identity key to show that it is held."""

    covenant: Literal["enrolment/v1"] = "enrolment/v1"
    site: Site
    identity_key: PublicKey
    node_key: NodeKey
    signature: str

    @classmethod
    def create(cls, site: SiteName, identity: Signer, node_key: str) -> Self:
        """Sign for `site` with its `identity` key; `node_key` is the transport's public key in PEM."""
        body = _enrolment_body(site, identity.public, node_key)
        signature = identity.sign(_ENROLMENT_LABEL, body)
        return cls(site=site, identity_key=identity.public, node_key=node_key, signature=signature)

    @property
    def fingerprint(self) -> str:
        """Of the identity key: what the officer compares with the site before adding it."""
        return fingerprint(self.identity_key)

    def verify(self) -> Member:
        """The member this request describes; Refused if its signature is not by its own identity key."""
        body = _enrolment_body(self.site, self.identity_key, self.node_key)
        if not verify(self.identity_key, self.signature, _ENROLMENT_LABEL, body):
            raise Refused(
                f"the enrolment request of {self.site} is not signed by its identity key; have the site make a new one"
            )
        return Member(site=self.site, identity_key=self.identity_key, node_key=self.node_key)


class IdentityCard(Document):
    """`NAME.pub`: the public key of an officer or a service, signed with it to show that it is held."""

    covenant: Literal["identity/v1"] = "identity/v1"
    name: Name
    public_key: PublicKey
    signature: str

    @classmethod
    def create(cls, name: str, signer: Signer) -> Self:
        """The card of whoever holds `signer`. Raises UsageError for a name that none can have."""
        signature = signer.sign(_IDENTITY_LABEL, _identity_body(name, signer.public))
        return make_document(
            cls, "the identity card", name=name, public_key=signer.public, signature=signature
        )

    @property
    def fingerprint(self) -> str:
        """What people compare before they believe the card."""
        return fingerprint(self.public_key)

    def verify(self) -> Self:
        """This card, if it is signed by its own key; Refused otherwise."""
        if not verify(
            self.public_key, self.signature, _IDENTITY_LABEL, _identity_body(self.name, self.public_key)
        ):
            raise Refused(
                f"the identity card of {self.name} is not signed by its own key; have it made again with `covenant key new`"
            )
        return self


def _enrolment_body(site: SiteName, identity_key: str, node_key: str) -> bytes:
    return canonical_json({"site": site, "identity_key": identity_key, "node_key": node_key})


def _identity_body(name: str, public_key: str) -> bytes:
    return canonical_json({"name": name, "public_key": public_key})
