"""What a site signs about the transparency log: the head that it saw, the run that it found in it, and where its own journal stood.

1. A statement counts for a site if the identity key that the member list has for it signed it; only `SignedWitness.verify` makes a `Witnessed`.
2. Heads that were witnessed are heads of one log: each is shown to be the beginning of the newest (`log_proofs`), or the difference is evidence.
3. A site's positions and the heads that it signs only grow, and together. Two statements of one site that break this, or are of two journals under
   one key, show that the site was set back to an older copy, or runs twice (`difference_of`).
4. A view is what a site knows of the positions of all sites. A statement has its digest, because the views of many sites are mostly the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import FROZEN, Document, FieldError, Part
from protos.keys import PublicKey, Signature, Signer, public_bytes, verify
from protos.log_names import origin_of
from protos.log_proofs import Grown, NoteText, Shown, Size
from protos.membership import MemberList
from protos.moments import Moment
from protos.names import Name, Run, Sha256, Site, matching
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import Refused
from strategies.ids import Digest, SiteName
from strategies.transparency.merkle import MOST_LEAVES
from strategies.transparency.notes import Checkpoint

MOST_WITNESSES: Final = 1000
MOST_BUNDLE_BYTES: Final = 7 << 19
"""Each witness names a view of all sites, and no two are alike: 150 to 215 bytes for each pair of sites, so this is enough for 128 sites of any name."""
MOST_EVIDENCE_BYTES: Final = 64 * 1024
KEY_DIGITS: Final = 16
_LABEL: Final = "covenant/witness/v1"
_LONGEST_TEXT: Final = 400

Epoch = Annotated[str, matching(r"[0-9a-f]{32}", "32 hexadecimal digits")]
"""Which journal: 16 digits of its site's key (`key_part`), and 16 that were drawn when it was first signed for."""


def key_part(identity: str) -> str:
    """How the epochs of all journals begin that are kept under a key (base64)."""
    return sha256_hex(public_bytes(identity))[:KEY_DIGITS]


class Position(Part):
    """Where a site's journal stands: which journal (`epoch`), its newest entry's number from 1, and that entry's checksum."""

    epoch: Epoch
    sequence: Annotated[int, Field(ge=1, le=MOST_LEAVES)]
    head: Sha256


View = Mapping[SiteName, Position]
"""The newest position that is known of each site."""
Viewed = Annotated[Mapping[Site, Position], Field(max_length=MOST_WITNESSES), *FROZEN]


def view_digest(view: View) -> Digest:
    """SHA-256 of a view's canonical JSON."""
    return digest_of({site: each.model_dump(mode="json") for site, each in view.items()})


class WitnessStatement(Document):
    """What a site says: the log had the head `checkpoint`, and in it, as entry `launch`, the launch of `run` under `plan`.

    `position` is of the site's journal after it recorded this, `view` the digest of what it knows of all sites then.
    """

    covenant: Literal["witness/v1"] = "witness/v1"
    federation: Name
    site: Site
    identity: PublicKey
    run: Run
    launch: Size
    plan: Sha256
    checkpoint: Annotated[str, Field(max_length=_LONGEST_TEXT)]
    position: Position
    view: Sha256
    at: Moment

    @model_validator(mode="after")
    def _is_of_a_head(self) -> Self:
        try:
            head = Checkpoint.parse(self.checkpoint)
        except Refused as error:
            raise FieldError("checkpoint", str(error)) from error
        if head.origin != origin_of(self.federation) or head.size <= self.launch:
            raise FieldError(
                "checkpoint", "it is of another log, or of one that does not have the launch yet"
            )
        if not self.position.epoch.startswith(key_part(self.identity)):
            raise FieldError("position", "it is of a journal under another key")
        return self

    @property
    def head(self) -> Checkpoint:
        """The head that was seen."""
        return Checkpoint.parse(self.checkpoint)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A statement that its site has signed; `SignedWitness.verify` is its only maker."""

    said: WitnessStatement
    head: Checkpoint
    signed: SignedWitness


class SignedWitness(Document):
    """A statement and the site's signature over its canonical bytes. Worth nothing before `verify`."""

    statement: WitnessStatement
    signature: Signature

    @classmethod
    def sign(cls, statement: WitnessStatement, identity: Signer) -> Self:
        """The statement, signed."""
        return cls(statement=statement, signature=identity.sign(_LABEL, statement.canonical))

    def verify(self, members: MemberList) -> Witnessed:
        """The statement, if the site's key on `members` signed it for that federation. Raises Refused."""
        said = self.statement
        key = members.member(said.site).identity_key
        if said.federation != members.name or said.identity != key:
            raise Refused(
                f"the statement of {said.site} is for another federation, or with another key than member list {members.ref} has"
            )
        if not verify(key, self.signature, _LABEL, said.canonical):
            raise Refused(
                f"the statement in the name of {said.site} is not signed with its key on member list {members.ref}"
            )
        return Witnessed(said, said.head, self)


def difference_of(
    known: WitnessStatement,
    said: WitnessStatement,
    *,
    lost: Collection[Checkpoint] = (),
    one_log: bool = True,
) -> str | None:
    """What two statements of one site under one key show: that it was set back, or runs twice; None if they fit in some order.

    An older statement that is shown again fits. One that saw more of the log from an earlier place of the journal does not, unless what it saw
    are `lost` heads, which a gap names. Where they are not of `one_log`, because the log was begun anew after the `known` one, their heads say
    nothing, and the other must be from a later place.
    """
    if known.position.epoch != said.position.epoch:
        return "it has begun another journal under the same key"
    earlier, later = sorted((known, said), key=lambda each: each.position.sequence)
    if earlier.position.sequence == later.position.sequence:
        if earlier == later:
            return None
        return f"its journal has two different entries {later.position.sequence}"
    if not one_log:
        return (
            None
            if earlier == known
            else f"it has seen the log that was begun anew from entry {said.position.sequence} of its journal, and had signed entry"
            f" {known.position.sequence} before that"
        )
    if earlier.head.size > later.head.size and earlier.head not in lost:
        return (
            f"at entry {earlier.position.sequence} of its journal it had seen {earlier.head.size} entries of the log, and at entry"
            f" {later.position.sequence} only {later.head.size}"
        )
    return None


class WitnessBundle(Document):
    """Who has witnessed a run: their statements, the views that these name, and proofs that all heads are of one log. Worth nothing unchecked."""

    most_bytes: ClassVar[int] = MOST_BUNDLE_BYTES

    covenant: Literal["witnesses/v1"] = "witnesses/v1"
    note: NoteText
    statements: Annotated[tuple[SignedWitness, ...], Field(max_length=MOST_WITNESSES)]
    views: Annotated[Mapping[Sha256, Viewed], Field(max_length=MOST_WITNESSES), *FROZEN]
    grown: Annotated[tuple[Grown, ...], Field(max_length=MOST_WITNESSES)]


class Evidence(Document):
    """What shows that a history is not one: `notes` that cannot be of one log, or `statements` that cannot be of one journal.

    `site` is who found it, or whose journal it is about; `view` is what the last statement names, where it is that which shows something.
    """

    covenant: Literal["evidence/v1"] = "evidence/v1"
    shows: Literal["split", "shorter", "not extended", "set back"]
    site: Site
    notes: Annotated[tuple[NoteText, ...], Field(max_length=2)] = ()
    statements: Annotated[tuple[SignedWitness, ...], Field(max_length=2)] = ()
    view: Annotated[Mapping[Site, Position], Field(max_length=MOST_WITNESSES)] | None = None

    @property
    def encoded(self) -> bytes:
        """As a refusal carries it: without the view where that is too long."""
        data = self.canonical
        return data if len(data) <= MOST_EVIDENCE_BYTES else self.model_copy(update={"view": None}).canonical


def witnesses_of(bundle: WitnessBundle, shown: Shown, members: MemberList) -> dict[SiteName, Witnessed]:
    """The statements of a bundle by site, each signed, and each over a head that `shown` extends. Raises Refused for any other in it."""
    found: dict[SiteName, Witnessed] = {}
    for each in bundle.statements:
        witness = each.verify(members)
        shown.require_extends(witness.head)
        if witness.said.site in found:
            raise Refused(f"{witness.said.site} is among the witnesses twice")
        found[witness.said.site] = witness
    for digest, view in bundle.views.items():
        if view_digest(view) != digest:
            raise Refused("a view is not the one that a statement names")
    return found
