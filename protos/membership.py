"""Who belongs to a federation: the member list, signed by the root's quorum, as it travels with the chain of roots that leads to it.

1. Only what `Membership.verify` accepted against the root that is pinned says who is a member. No key of the coordinator's can sign it.
2. A site, an officer or a service, and each of their keys, occurs once in a list.
3. Signatures are over canonical bytes, and a document that arrives in another form is refused.
4. Who is not on the newest list is revoked. Whoever verifies lists remembers the newest (`succession`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import NodeKey, PublicKey, Signer
from protos.moments import Moment
from protos.names import Name, Site, distinct
from protos.plan import Plan
from protos.root import MOST_LINKS, Root, Signatures, SignedRoot, lineage, with_signature
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, SiteName

_MEMBERS_LABEL: Final = "covenant/members/v2"
_MOST_SITES: Final = 1000
_MOST_OFFICERS: Final = 1000
Purpose = Literal["log", "control", "artifacts"]


class Role(StrEnum):
    """What an officer may do."""

    ML_ENGINEER = "ml_engineer"
    PRIVACY_OFFICER = "privacy_officer"
    MODEL_RISK = "model_risk"
    SITE_OPERATOR = "site_operator"
    AUDITOR = "auditor"
    ADMIN = "admin"

    @property
    def words(self) -> str:
        """For people: `privacy officer`."""
        return self.value.replace("_", " ")


class Member(Part):
    """A site and its public keys: Ed25519 in base64, and the transport's in PEM."""

    site: Site
    identity_key: PublicKey
    node_key: NodeKey


def _sorted_roles(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    return tuple(sorted(distinct(roles)))


class Officer(Part):
    """A person with one or more roles, and the last moment of the key."""

    name: Name
    roles: Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(_sorted_roles)]
    key: PublicKey
    expires: Moment

    def require_current(self, now: datetime) -> None:
        """Check that this officer may still decide at `now`. Raises Refused."""
        if now > self.expires:
            raise Refused(
                f"the key of officer {self.name} was good until {self.expires:%Y-%m-%d}; the officers certify a new one"
            )


class Service(Part):
    """A machine of the coordinator's, by the one thing that its key signs."""

    name: Name
    purpose: Purpose
    key: PublicKey


def _by_site(members: tuple[Member, ...]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda each: each.site))


def _officers_by_name(officers: tuple[Officer, ...]) -> tuple[Officer, ...]:
    return tuple(sorted(officers, key=lambda each: each.name))


def _services_by_name(services: tuple[Service, ...]) -> tuple[Service, ...]:
    return tuple(sorted(services, key=lambda each: each.name))


class MemberList(Document):
    """A version of the list, each kind sorted by name; its own name is the federation's."""

    covenant: Literal["members/v2"] = "members/v2"
    name: Name
    version: Annotated[int, Field(ge=1, lt=10**9)]
    members: Annotated[
        tuple[Member, ...], Field(min_length=1, max_length=_MOST_SITES), AfterValidator(_by_site)
    ]
    officers: Annotated[
        tuple[Officer, ...], Field(max_length=_MOST_OFFICERS), AfterValidator(_officers_by_name)
    ] = ()
    services: Annotated[tuple[Service, ...], AfterValidator(_services_by_name)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _once("members", "site", ((each.site, each.site) for each in self.members))
        _once("members", "node_key", ((each.site, each.node_key) for each in self.members))
        _once("officers", "name", ((each.name, each.name) for each in self.officers))
        _once("services", "name", ((each.name, each.name) for each in self.services))
        _once("services", "purpose", ((each.name, each.purpose) for each in self.services))
        _once("members", "identity_key", self._keys())
        return self

    def _keys(self) -> Iterator[tuple[str, str]]:
        """All keys that sign for Covenant, and whose they are."""
        yield from ((each.site, each.identity_key) for each in self.members)
        yield from ((each.name, each.key) for each in self.officers)
        yield from ((each.name, each.key) for each in self.services)

    @property
    def ref(self) -> str:
        """How plans name this list: `demo@1`."""
        return f"{self.name}@{self.version}"

    def member(self, site: SiteName) -> Member:
        """The member called `site`; Refused if there is none."""
        for member in self.members:
            if member.site == site:
                return member
        raise Refused(f"{site} is not on member list {self.ref}; the officers must sign a list that has it")

    def officer(self, name: str) -> Officer:
        """The officer called `name`; Refused if there is none."""
        for officer in self.officers:
            if officer.name == name:
                return officer
        raise Refused(
            f"{name} is no officer on member list {self.ref}; nothing that this person signs counts"
        )

    def service(self, purpose: Purpose) -> Service:
        """The service for `purpose`; Refused if there is none."""
        for service in self.services:
            if service.purpose == purpose:
                return service
        raise Refused(
            f"member list {self.ref} has no service for purpose {purpose}; the officers certify one with `--service`"
        )

    def next(
        self,
        *,
        members: Iterable[Member] = (),
        officers: Iterable[Officer] = (),
        services: Iterable[Service] = (),
    ) -> Self:
        """The draft of the version after this one: a site or officer takes the place of the one with that name, a service of the one with that
        purpose. Raises UsageError."""
        sites = {each.site: each for each in (*self.members, *members)}
        people = {each.name: each for each in (*self.officers, *officers)}
        machines = {each.purpose: each for each in (*self.services, *services)}
        return self._drafted(sites.values(), people.values(), machines.values())

    def without(self, names: Collection[str], kind: Literal["site", "officer", "service"] | None) -> Self:
        """The draft of the version after this one without who is named; `kind` says of what. Raises UsageError."""
        kinds: dict[str, set[str]] = {
            "site": {each.site for each in self.members},
            "officer": {each.name for each in self.officers},
            "service": {each.name for each in self.services},
        }
        gone: dict[str, set[str]] = {each: set() for each in kinds}
        for name in names:
            found = [each for each, known in kinds.items() if name in known and kind in {None, each}]
            if not found:
                raise UsageError(f"{name} is not on member list {self.ref}")
            if len(found) > 1:
                raise UsageError(
                    f"{name} is {' and '.join(found)} on member list {self.ref}; say which with --kind"
                )
            gone[found[0]].add(name)
        return self._drafted(
            (each for each in self.members if each.site not in gone["site"]),
            (each for each in self.officers if each.name not in gone["officer"]),
            (each for each in self.services if each.name not in gone["service"]),
        )

    def _drafted(
        self, members: Iterable[Member], officers: Iterable[Officer], services: Iterable[Service]
    ) -> Self:
        return make_document(
            type(self),
            "the member list",
            name=self.name,
            version=self.version + 1,
            members=tuple(members),
            officers=tuple(officers),
            services=tuple(services),
        )


class SignedMembers(Document):
    """A member list and signatures over its canonical bytes; a draft as long as they are too few."""

    list: MemberList
    signatures: Signatures = ()

    def verify(self, root: Root) -> MemberList:
        """The list, if the quorum of `root` signed it for its own federation; Refused otherwise."""
        if self.list.name != root.federation:
            raise Refused(
                f"member list {self.list.ref} is for another federation; this root is of {root.federation}"
            )
        root.require_quorum(
            self.signatures, _MEMBERS_LABEL, self.list.canonical, what=f"member list {self.list.ref}"
        )
        return self.list

    def signed(self, by: Root) -> tuple[str, ...]:
        """The names of those of root `by` who have signed. Raises Refused for a wrong signature."""
        return by.signed(self.signatures, _MEMBERS_LABEL, self.list.canonical)

    def signed_with(self, signer: Signer, root: Root) -> Self:
        """This list with one more signature. UsageError for a key that `root` does not have, or another federation's."""
        if self.list.name != root.federation:
            raise UsageError(
                f"member list {self.list.ref} is not named after this federation; call it {root.federation}"
            )
        if not root.has(signer.public):
            raise UsageError(
                f"the key is not in root version {root.version} of {root.federation}; those of"
                f" {', '.join(each.name for each in root.keys)} may sign member list {self.list.ref}"
            )
        signatures = with_signature(self.signatures, signer, _MEMBERS_LABEL, self.list.canonical)
        return make_document(type(self), "the member list", list=self.list, signatures=signatures)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A member list and the root whose quorum signed it; `Membership.verify` is its only maker."""

    root: Root
    members: MemberList
    members_digest: Digest
    lineage: tuple[Digest, ...]
    """The digests of all roots that led here: of the pinned one, and of each version up to `root`."""

    @property
    def root_digest(self) -> Digest:
        """Of `root`."""
        return self.lineage[-1]

    @property
    def federation(self) -> Digest:
        """The digest of the federation's root version 1."""
        return self.root.identity

    def root_at(self, version: int) -> Digest | None:
        """The digest of the root `version` that was followed; None if that is older than the pinned one, or newer than `root`."""
        place = version - self.root.version + len(self.lineage) - 1
        return self.lineage[place] if 0 <= place < len(self.lineage) else None


class Membership(Document):
    """`members.json`: a signed list, and the roots after the one that sites have pinned, as far as they go. Worth nothing before `verify`."""

    covenant: Literal["membership/v2"] = "membership/v2"
    roots: Annotated[tuple[SignedRoot, ...], Field(max_length=MOST_LINKS)] = ()
    signed: SignedMembers

    def verify(self, pinned: SignedRoot) -> Trusted:
        """The list, and the root that the chain leads to from the `pinned` one, if that one's quorum signed the list; Refused otherwise."""
        roots = lineage(pinned, self.roots)
        members = self.signed.verify(roots[-1])
        return Trusted(roots[-1], members, members.digest, tuple(each.digest for each in roots))


def check_members(plan: Plan, members: MemberList) -> None:
    """Check that `plan` names `members` and invites only sites on it. Raises Refused."""
    if plan.sites.members != members.ref:
        raise Refused(
            f"plan {plan.name} is for member list {plan.sites.members}, but this is {members.ref}; send the plan's own"
        )
    for site in plan.sites.invite:
        members.member(site)


def _once(field: str, what: str, named: Iterable[tuple[str, str]]) -> None:
    """Refuse two that have the same `what`."""
    seen: dict[str, str] = {}
    for name, value in named:
        if value in seen:
            raise FieldError(field, f"{seen[value]} and {name} have the same {what}; each has its own")
        seen[value] = name
