"""Privacy officers who decide about accounts, and the member list that says so, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.governance.members import Listed
from coordinator.ledger import Ledger
from coordinator.ledger.alerts import Crossing
from coordinator.ledger.ceilings import Proposal
from protos.ceilings import SignedCeiling
from protos.keys import SigningKey
from protos.membership import Member, MemberList, Officer, Role
from strategies.ids import SiteName
from tests.trust_for_tests import FAR, key_of, officers

ONE, TWO = ("privacy-1",), ("privacy-1", "privacy-2")


def privacy_officers() -> tuple[Officer, ...]:
    """Two who may decide."""
    return tuple(
        Officer(name=name, roles=(Role.PRIVACY_OFFICER,), key=key_of(name).public, expires=FAR)
        for name in TWO
    )


def site_of(name: str) -> Member:
    """A site with keys of its own."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    node = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Member(site=SiteName(name), identity_key=SigningKey.generate().public, node_key=node)


@cache
def listed() -> Listed:
    """A list that has both."""
    members = MemberList(name="demo", version=1, members=(site_of("north"),), officers=privacy_officers())
    return Listed.of(officers().sign(members), officers().pinned)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What officers decide."""

    proposal: Proposal
    officers: Sequence[str]


def set_ceiling(
    ledger: Ledger,
    site: SiteName,
    population: str,
    decision: Decision,
    by: Listed | None = None,
    keys: Mapping[str, SigningKey] | None = None,
) -> tuple[Crossing, ...]:
    """A decision drafted, signed and carried out."""
    chosen = by or listed()
    drafted = ledger.draft_ceiling(site, population, decision.proposal, chosen.trusted.federation)
    signed = SignedCeiling(decision=drafted.decision)
    for name in decision.officers:
        signed = signed.signed_with(name, key_of(name) if keys is None else keys[name])
    return ledger.set_ceiling(signed, chosen)
