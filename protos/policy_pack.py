"""Policy packs: versioned rules that plans and models are judged by, signed by the officers who stand behind them.

1. A rule is an expression in CEL over facts (`policy_facts`), with a severity, the evidence that it contributes to, who must act where it does
   not pass, and what they do. Only `true` passes.
2. A pack is in effect from `effective_from` on, or from its publication if that is later, until a later version of the same name is. A version
   without rules ends the pack.
3. Only `SignedPack.require` makes a `PublishedPack`: a privacy officer and another person who is model risk have signed its digest, for the
   federation with that root version 1. One wrong statement refuses everything.
4. A pack takes effect within a year and a day of its publication: a slip in the year would leave its name without versions until then.
5. A pack may allow the coordinator to launch approved retraining of models that it names. Nothing else gives it that right.
6. Sizes are bounded, because others wrote it; and nothing in it calls anything compliant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.log_clock import CLOCKS_DIFFER
from protos.membership import Role, Trusted
from protos.moments import Moment
from protos.names import Name, Sha256, distinct
from strategies.encoding import canonical_json
from strategies.errors import Refused

QUORUM: Final = (Role.PRIVACY_OFFICER, Role.MODEL_RISK)
"""The roles in which a pack is signed, each by another person."""
GOOD_FOR: Final = timedelta(days=30)
"""How long a statement may be on its way to the coordinator."""
FARTHEST: Final = timedelta(days=366)
"""How far ahead of its publication a pack may take effect: no later version of its name takes effect before it."""
MOST_RULES: Final = 100
MOST_EXPRESSION: Final = 1000
MOST_STATEMENTS: Final = 10
_LABEL: Final = "covenant/policy-statement/v1"
_LONGEST_SENTENCE: Final = 500
_SHOWN: Final = 12

Kind = Literal["plan", "model"]
Severity = Literal["blocking", "warning"]
EvidenceKind = Literal["model-card", "validation-dossier", "privacy-statement"]


def _sentence(text: str) -> str:
    if not text or len(text) > _LONGEST_SENTENCE or not text.isprintable() or text != text.strip():
        raise ValueError(f"use 1 to {_LONGEST_SENTENCE} printable characters without spaces around them")
    return text


def _expression(text: str) -> str:
    text = text.strip()
    if not text or len(text) > MOST_EXPRESSION or not text.replace("\n", "").isprintable():
        raise ValueError(f"use 1 to {MOST_EXPRESSION} printable characters on one or more lines")
    return text


def _no_verdict(text: str) -> str:
    if "complian" in text.lower():
        raise ValueError(
            "say what is recorded, without the word compliant: no expression over recorded facts decides on a law, and a verdict reads as if one did"
        )
    return text


Sentence = Annotated[str, AfterValidator(_sentence)]
_Own = Annotated[Sentence, AfterValidator(_no_verdict)]
"""What a pack says for itself."""
_OwnName = Annotated[Name, AfterValidator(_no_verdict)]


class PolicyRule(Part):
    """One rule. It passes where `expression` is true; else whoever is `acts` does what `remedy` says. A blocking one stops the plan or the model."""

    id: _OwnName
    applies_to: Kind
    severity: Severity
    says: _Own
    """What holds where it passes."""
    expression: Annotated[str, AfterValidator(_expression)]
    contributes_to: Annotated[tuple[EvidenceKind, ...], Field(max_length=3), AfterValidator(distinct)] = ()
    acts: Role
    remedy: _Own


class PolicyPack(Document):
    """A version of a pack; `rules` apply from `effective_from` on."""

    covenant: Literal["policy-pack/v1"]
    name: _OwnName
    version: Annotated[int, Field(ge=1, lt=10**9)]
    effective_from: Moment
    reason: _Own
    """Why this version."""
    rules: Annotated[tuple[PolicyRule, ...], Field(max_length=MOST_RULES)]
    launches_retraining_of: (
        Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_RULES), AfterValidator(distinct)]
        | None
    ) = None
    """Models whose drafted plans the coordinator launches by itself, once a person has adopted them unchanged and officers have approved them. Without,
    it launches nothing."""

    @model_validator(mode="after")
    def _rules_have_names_of_their_own(self) -> Self:
        try:
            distinct(tuple(each.id for each in self.rules))
        except ValueError as error:
            raise FieldError("rules", str(error)) from error
        return self

    @property
    def ref(self) -> str:
        """How people name it: `baseline@1`."""
        return f"{self.name}@{self.version}"

    def rules_for(self, kind: Kind) -> tuple[PolicyRule, ...]:
        """Those that apply to a plan, or to a model."""
        return tuple(each for each in self.rules if each.applies_to == kind)


class _Statement(Document):
    """What is signed."""

    covenant: Literal["policy-statement/v1"] = "policy-statement/v1"
    federation: Sha256
    """Digest of root version 1."""
    pack: Sha256
    officer: Name
    role: Role
    at: Moment

    @model_validator(mode="after")
    def _role_signs_packs(self) -> Self:
        if self.role not in QUORUM:
            raise FieldError("role", f"a policy pack is signed as {' or '.join(QUORUM)}, not as {self.role}")
        return self


class PackStatement(_Statement):
    """An officer's word for a pack. Worth nothing before `SignedPack.require`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def words(self) -> str:
        """Whose word it is: `what privacy-1 signed as privacy_officer`."""
        return f"what {self.officer} signed as {self.role}"


def state_pack(
    pack: PolicyPack, officer: str, role: Role, signer: Signer, *, federation: Sha256, at: datetime
) -> PackStatement:
    """The word of `officer`, who holds `signer`, for `pack` in the `federation` with that root version 1. Raises UsageError."""
    said = make_document(
        _Statement,
        "the statement",
        federation=federation,
        pack=pack.digest,
        officer=officer,
        role=role,
        at=at.replace(microsecond=0),
    )
    return PackStatement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def _by_officer(statements: tuple[PackStatement, ...]) -> tuple[PackStatement, ...]:
    """In the order of names, so that the same statements make the same document."""
    distinct(tuple(each.officer for each in statements))
    return tuple(sorted(statements, key=lambda each: each.officer))


class PackStatements(Document):
    """`PACK.signatures.json`: who has signed the pack beside it."""

    covenant: Literal["policy-statements/v1"] = "policy-statements/v1"
    statements: Annotated[
        tuple[PackStatement, ...], Field(max_length=MOST_STATEMENTS), AfterValidator(_by_officer)
    ] = ()

    def adding(self, statement: PackStatement) -> Self:
        """These and `statement`, which takes the place of an earlier one of the same officer. Raises UsageError."""
        others = (each for each in self.statements if each.officer != statement.officer)
        return make_document(type(self), "the statements", statements=(*others, statement))

    def about(self, pack: PolicyPack) -> Self:
        """Only what is said about this very pack: the rest was said before it was changed."""
        kept = tuple(each for each in self.statements if each.pack == pack.digest)
        return make_document(type(self), "the statements", statements=kept)


class SignedPack(Document):
    """A pack and who signed it. Worth nothing before `require`."""

    covenant: Literal["signed-policy-pack/v1"] = "signed-policy-pack/v1"
    pack: PolicyPack
    statements: Annotated[
        tuple[PackStatement, ...], Field(max_length=MOST_STATEMENTS), AfterValidator(_by_officer)
    ] = ()

    def require(self, trusted: Trusted, now: datetime) -> PublishedPack:
        """The pack, if the officers that it takes are on the `trusted` list at `now` and have signed it. Raises Refused."""
        for each in self.statements:
            self._require_statement(each, trusted, now)
        for role in QUORUM:
            if all(each.role != role for each in self.statements):
                others = " and ".join(each.words for each in self.statements) or "nobody has signed it"
                raise Refused(
                    f"pack {self.pack.ref} is not signed as {role} ({others}); an officer who is signs with `covenant policy sign --as {role}`"
                )
        if self.pack.effective_from > now + FARTHEST:
            raise Refused(
                f"pack {self.pack.ref} takes effect on {self.pack.effective_from:%Y-%m-%d}, more than {FARTHEST.days} days ahead, and no later version"
                " of its name could before it: name an earlier moment"
            )
        return PublishedPack(signed=self, officers=tuple(each.officer for each in self.statements))

    def _require_statement(self, said: PackStatement, trusted: Trusted, now: datetime) -> None:
        pack, members = self.pack, trusted.members
        officer = members.officer(said.officer)
        if said.role not in officer.roles:
            raise Refused(
                f"{said.words} of pack {pack.ref} does not count: on member list {members.ref} {officer.name} is {', '.join(officer.roles)}"
            )
        officer.require_current(now)
        if said.pack != pack.digest:
            raise Refused(
                f"{said.words} is about pack {said.pack[:_SHOWN]}, and {pack.ref} is {pack.digest[:_SHOWN]}: a pack with one changed value is"
                " another pack; have it signed again"
            )
        if said.federation != trusted.federation:
            raise Refused(
                f"{said.words} of pack {pack.ref} is for the federation with root {grouped(said.federation)}, and this is the one with root"
                f" {grouped(trusted.federation)}: what is signed in one federation counts in no other"
            )
        if not verify(officer.key, said.signature, _LABEL, said.message):
            raise Refused(
                f"{said.words} of pack {pack.ref} is not signed with the key of {officer.name} on member list {members.ref}: statement or key was"
                " changed; have it signed again"
            )
        if not said.at - CLOCKS_DIFFER <= now <= said.at + GOOD_FOR:
            raise Refused(
                f"{said.words} of pack {pack.ref} is of {said.at:%Y-%m-%d %H:%M:%S} UTC, and {now:%Y-%m-%d %H:%M:%S} UTC is not within"
                f" {GOOD_FOR.days} days of it; have it signed again"
            )


@dataclass(frozen=True, slots=True)
class PublishedPack:
    """A pack that its officers stand behind; `SignedPack.require` is its only maker."""

    signed: SignedPack
    officers: tuple[str, ...]

    @property
    def pack(self) -> PolicyPack:
        """What they signed."""
        return self.signed.pack


def require_succeeds(pack: PolicyPack, newest: PolicyPack | None) -> None:
    """Check that `pack` may follow the `newest` published version of its name. Raises Refused."""
    if newest is None:
        return
    if pack.version <= newest.version:
        raise Refused(
            f"pack {pack.ref} does not follow {newest.ref}, which is published; give it version {newest.version + 1}"
        )
    if pack.effective_from < newest.effective_from:
        raise Refused(
            f"pack {pack.ref} would take effect on {pack.effective_from:%Y-%m-%d %H:%M} UTC, before {newest.ref} does"
            f" ({newest.effective_from:%Y-%m-%d %H:%M} UTC); name that moment or a later one"
        )
