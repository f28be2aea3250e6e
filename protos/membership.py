"""Who belongs to a federation: the root key, the member list it signs, and a site's request to be on it.

1. A site pins the root's public key when it enrols, by a fingerprint that people compare by voice or on paper.
2. Only a `SignedMembers` that `verify` accepted against the pinned root says who is a member. The centre cannot add one.
3. Signatures are over canonical bytes, and a document that arrives in another form is refused.
4. A site, an identity key and a node key each occur once in a list.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, load_document, make_document
from protos.keys import SigningKey, check_node_pem, public_bytes, verify, write_new
from protos.names import Name, Site, checked
from protos.plan import Plan
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

_MEMBERS_LABEL: Final = "covenant/members/v1"
_ENROLMENT_LABEL: Final = "covenant/enrolment/v1"
_KEY_FILE: Final = "root.key"
_ROOT_FILE: Final = "root.json"
_GROUP: Final = 8

PublicKey = Annotated[str, checked(public_bytes)]
NodeKey = Annotated[str, checked(check_node_pem)]


def fingerprint(public: str) -> str:
    """SHA-256 of a public key (base64), hexadecimal in groups of eight for people to compare."""
    text = sha256_hex(public_bytes(public))
    return " ".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


class RootPublic(Document):
    """`root.json`: what a site pins."""

    covenant: Literal["root/v1"] = "root/v1"
    federation: Name
    public_key: PublicKey

    @property
    def fingerprint(self) -> str:
        """What people compare at enrolment."""
        return fingerprint(self.public_key)


class Member(Part):
    """A site and its public keys: Ed25519 in base64, and the transport's in PEM."""

    site: Site
    identity_key: PublicKey
    node_key: NodeKey


def _sorted_by_site(members: tuple[Member, ...]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.site))


class MemberList(Document):
    """A version of the list, sorted by site; its name is the federation's."""

    covenant: Literal["members/v1"] = "members/v1"
    name: Name
    version: Annotated[int, Field(ge=1, lt=10**9)]
    members: Annotated[
        tuple[Member, ...], Field(min_length=1, max_length=1000), AfterValidator(_sorted_by_site)
    ]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for field in ("site", "identity_key", "node_key"):
            seen: dict[str, SiteName] = {}
            for member in self.members:
                value: str = getattr(member, field)
                if value in seen:
                    raise FieldError(
                        "members", f"{seen[value]} and {member.site} have the same {field}; each has its own"
                    )
                seen[value] = member.site
        return self

    @property
    def ref(self) -> str:
        """How plans name this list: `demo@1`."""
        return f"{self.name}@{self.version}"

    def member(self, site: SiteName) -> Member:
        """The member called `site`; Refused if there is none."""
        for member in self.members:
            if member.site == site:
                return member
        raise Refused(f"{site} is not on member list {self.ref}; the root must sign a list that has it")


class SignedMembers(Document):
    """A member list and the root's signature over its canonical bytes. Worth nothing before `verify`."""

    list: MemberList
    signature: str

    def verify(self, root: RootPublic) -> MemberList:
        """The list, if `root` signed it for its own federation; Refused otherwise."""
        if not verify(root.public_key, self.signature, _MEMBERS_LABEL, self.list.canonical):
            raise Refused(
                f"member list {self.list.ref} is not signed by the root of {root.federation}"
                f" (fingerprint {root.fingerprint}); ask its officers for the signed list"
            )
        if self.list.name != root.federation:
            raise Refused(
                f"member list {self.list.ref} is for another federation; this root is of {root.federation}"
            )
        return self.list


class FederationRoot:
    """The private side: kept offline by the officers, needed only to sign a member list."""

    __slots__ = ("_key", "public")

    def __init__(self, federation: str, key: SigningKey) -> None:
        self._key = key
        self.public = make_document(
            RootPublic, "the federation's root", federation=federation, public_key=key.public
        )

    @classmethod
    def generate(cls, federation: str) -> Self:
        """A root with a fresh key."""
        return cls(federation, SigningKey.generate())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `root.key` and `root.json` from `folder`; UsageError if they do not belong together."""
        public = load_document(folder / _ROOT_FILE, RootPublic)
        root = cls(public.federation, SigningKey.load(folder / _KEY_FILE))
        if root.public != public:
            raise UsageError(
                f"{folder / _ROOT_FILE} is not the public key of {folder / _KEY_FILE}; restore the pair"
            )
        return root

    def save(self, folder: Path) -> None:
        """Write `root.key` (0600) and `root.json` to `folder`; UsageError if either exists."""
        self._key.save(folder / _KEY_FILE)
        write_new(folder / _ROOT_FILE, self.public.canonical + b"\n", mode=0o644)

    @property
    def fingerprint(self) -> str:
        """What people compare at enrolment."""
        return self.public.fingerprint

    def sign(self, members: MemberList) -> SignedMembers:
        """Sign a list of this root's own federation; UsageError for another's."""
        if members.name != self.public.federation:
            raise UsageError(
                f"member list {members.ref} is not named after this federation; call it {self.public.federation}"
            )
        return SignedMembers(list=members, signature=self._key.sign(_MEMBERS_LABEL, members.canonical))


class EnrolmentRequest(Document):
    """A site's wish to be a member: its public keys, signed with the identity key to show that it is held."""

    covenant: Literal["enrolment/v1"] = "enrolment/v1"
    site: Site
    identity_key: PublicKey
    node_key: NodeKey
    signature: str

    @classmethod
    def create(cls, site: SiteName, identity: SigningKey, node_key: str) -> Self:
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


def check_members(plan: Plan, members: MemberList) -> None:
    """Check that `plan` names `members` and invites only sites on it. Raises Refused."""
    if plan.sites.members != members.ref:
        raise Refused(
            f"plan {plan.name} is for member list {plan.sites.members}, but this is {members.ref}; send the plan's own"
        )
    for site in plan.sites.invite:
        members.member(site)


def _enrolment_body(site: SiteName, identity_key: str, node_key: str) -> bytes:
    return canonical_json({"site": site, "identity_key": identity_key, "node_key": node_key})
