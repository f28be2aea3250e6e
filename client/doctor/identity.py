"""Who this site is and whom it trusts: keys, root, member list, approvers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from client.enrolment.enrol import members_file
from client.keystore import enrolment_request, load_identity, load_node_key, load_root
from protos.keys import fingerprint
from protos.membership import MemberList, Membership, Role
from strategies.errors import Refused

_SOON: Final = timedelta(days=30)


def _keys(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    shown = fingerprint(load_identity(config).public)
    load_node_key(config.identity.node_key)
    if config.identity.passphrase is None:
        yield doubtful(
            "keys",
            "the identity key is not encrypted: whoever has a copy of its file is this site",
            evidence=str(config.identity.key),
            then="name a passphrase in `identity.passphrase`, and encrypt the key; see docs/site-it/site-yaml.md",
        )
    yield fine("keys", "identity and node key open, and nobody else can read them", f"fingerprint {shown}")


def _root(patient: Patient) -> Iterator[Finding]:
    pinned = load_root(patient.config)
    left = pinned.root.expires - patient.clock()
    evidence = f"version {pinned.root.version}, until {pinned.root.expires:%Y-%m-%d}, fingerprint {pinned.root.fingerprint}"
    if left < timedelta(0):
        # A newer root comes with a member list; the pinned one only begins the chain.
        yield doubtful(
            "root",
            "the pinned root is past its last day; a newer one must come with the member list",
            evidence=evidence,
            then="ask the officers for their newest root.json, compare its fingerprint, and put it in its place",
        )
        return
    if left < _SOON:
        yield doubtful(
            "root",
            f"the pinned root ends in {left.days} days",
            evidence=evidence,
            then="ask the officers when the next one comes",
        )
        return
    yield fine("root", "the pinned root is signed by its own quorum", evidence)


def _membership(patient: Patient) -> Iterator[Finding]:
    config, file = patient.config, members_file(patient.config)
    if not file.exists():
        yield doubtful(
            "membership",
            "this site has not seen a member list with itself on it",
            evidence=f"{file} is not there",
            then=f"covenant-agent enroll INVITATION --config {patient.file}",
        )
        return
    trusted = Membership.from_canonical(file.read_bytes().strip()).verify(load_root(config))
    request, members = enrolment_request(config), trusted.members
    try:
        member = members.member(config.site)
    except Refused as refused:
        yield wrong(
            "membership", str(refused), evidence=str(file), then="ask the officers to certify this site"
        )
        return
    if (member.identity_key, member.node_key) != (request.identity_key, request.node_key):
        yield wrong(
            "membership",
            f"member list {members.ref} has this site with other keys than lie here",
            evidence=f"here {request.fingerprint}, there {fingerprint(member.identity_key)}",
            then=f"covenant-agent enroll INVITATION --config {patient.file}",
        )
        return
    yield fine("membership", f"member list {members.ref} has this site with its keys", str(file))
    yield from _approvers(patient, members)


def _approvers(patient: Patient, members: MemberList) -> Iterator[Finding]:
    """Whether those who must approve a plan by this site's policy exist, and may still sign."""
    now = patient.clock()
    current = [each for each in members.officers if each.expires >= now]
    rules = [each.approvals for each in patient.config.policy.accept]
    most = (
        (Role.PRIVACY_OFFICER, max((each.privacy_officer for each in rules), default=0)),
        (Role.MODEL_RISK, max((each.model_risk for each in rules), default=0)),
    )
    for role, needed in most:
        have = [each.name for each in current if role in each.roles]
        if len(have) < needed:
            yield wrong(
                "approvers",
                f"a rule of `policy.accept` asks for {needed} {role}, and member list {members.ref} has {len(have)} whose key is still good: no plan can be approved",
                evidence=", ".join(have) or "nobody",
                then="ask the officers to certify one, or lower the rule's `approvals`",
            )
        else:
            yield fine("approvers", f"{role}: {', '.join(have)}")


CHECKS: Final[Sequence[Check]] = (
    Check("keys", _keys),
    Check("root", _root),
    Check("membership", _membership),
)
