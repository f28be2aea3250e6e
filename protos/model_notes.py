"""What people say of a version in their own words: intended purpose, limitations, oversight, and the opinion of whoever validated it.

1. A note is about one version, by name, number and registry digest. It names the federation by its root, version 1, the officer, a role and the moment,
   and is signed with the officer's own key. Nothing in an evidence document is written by people but what stands in notes.
2. The opinion of validation is model risk's, and of nobody who wrote the plan.
3. A newer note of a kind supersedes the older; both are kept. One that was signed before the note that it would supersede is refused.
4. Text is bounded, in lines of printable characters: it goes to pages, terminals and paper as it is.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from protos.documents import Document, FieldError, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import Role, Trusted
from protos.model_approvals import Version
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import Digest

LONGEST_TEXT: Final = 8000
MOST_LINES: Final = 400
_LABEL: Final = "covenant/model-note/v1"
_SHOWN: Final = 12


class NoteKind(StrEnum):
    """What a note is about."""

    PURPOSE = "purpose"
    LIMITATIONS = "limitations"
    OVERSIGHT = "oversight"
    MONITORING = "monitoring"
    VALIDATION_OPINION = "validation-opinion"

    @property
    def heading(self) -> str:
        """For headings: `Intended purpose`."""
        words = "intended purpose" if self is NoteKind.PURPOSE else self.value.replace("-", " ")
        return words.capitalize()


SPEAKING: Final = (Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK)
"""The roles in which people speak of a version."""


def _plain_text(text: str) -> str:
    lines = text.split("\n")
    if not text.strip() or len(text) > LONGEST_TEXT or len(lines) > MOST_LINES:
        raise ValueError(f"use 1 to {LONGEST_TEXT} characters in at most {MOST_LINES} lines")
    for number, line in enumerate(lines, start=1):
        if not line.isprintable():
            bad = next(each for each in line if not each.isprintable())
            raise ValueError(
                f"line {number} has the character U+{ord(bad):04X}, which nobody sees; use printable characters, and spaces for tabs"
            )
    if text != text.strip():
        raise ValueError("leave out empty space around the text")
    return text


class _Note(Document):
    """What is signed."""

    covenant: Literal["model-note/v1"] = "model-note/v1"
    federation: Sha256
    """Digest of root version 1."""
    model: Name
    version: Version
    registry_digest: Sha256
    kind: NoteKind
    text: Annotated[str, AfterValidator(_plain_text)]
    officer: Name
    role: Role
    at: Moment

    @model_validator(mode="after")
    def _is_in_a_role_that_speaks(self) -> Self:
        allowed = (Role.MODEL_RISK,) if self.kind is NoteKind.VALIDATION_OPINION else SPEAKING
        if self.role not in allowed:
            raise FieldError(
                "role", f"{self.kind} is stated as {' or '.join(allowed)}, not as {self.role}; name that role"
            )
        return self


class ModelNote(_Note):
    """A note with its officer's signature. Worth nothing before `require_note`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.model}@{self.version}"

    @property
    def words(self) -> str:
        """`limitations of lending-default@3, stated by risk-1 as model_risk`."""
        return f"{self.kind} of {self.ref}, stated by {self.officer} as {self.role}"


def state_note(
    kind: NoteKind,
    text: str,
    officer: str,
    role: Role,
    signer: Signer,
    *,
    model: tuple[str, int, Digest],
    federation: Digest,
    at: datetime,
) -> ModelNote:
    """A note by `officer` on `model`, its name, number and registry digest. Raises UsageError."""
    name, version, digest = model
    said = make_document(
        _Note,
        "the note",
        federation=federation,
        model=name,
        version=version,
        registry_digest=digest,
        kind=kind,
        text=text.replace("\r\n", "\n").strip(),
        officer=officer,
        role=role,
        at=at.replace(microsecond=0),
    )
    return ModelNote(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def require_note(
    said: ModelNote,
    digest: Digest,
    author: str | None,
    before: ModelNote | None,
    members: Trusted,
    at: datetime,
) -> None:
    """Check a note on the version with registry `digest`, whose plan `author` wrote; `before` is the last one of its kind. Raises Refused."""
    officer = members.members.officer(said.officer)
    if said.role not in officer.roles:
        raise Refused(
            f"{said.words} does not count: on member list {members.members.ref} {officer.name} is {', '.join(officer.roles)}, not {said.role}"
        )
    officer.require_current(at)
    if not verify(officer.key, said.signature, _LABEL, said.message):
        raise Refused(
            f"{said.words} is not signed with the key of {officer.name} on member list {members.members.ref}: note or key was changed; have it signed again"
        )
    if said.federation != members.federation:
        raise Refused(
            f"{said.words} is for the federation with root {grouped(said.federation)}, and this is the one with root {grouped(members.federation)}"
        )
    if said.registry_digest != digest:
        raise Refused(
            f"{said.words} is about the files {said.registry_digest[:_SHOWN]}, and these are {digest[:_SHOWN]}: read this version, and state it anew"
        )
    if said.kind is NoteKind.VALIDATION_OPINION and said.officer == author:
        raise Refused(
            f"{said.officer} wrote the plan of {said.ref}, and somebody else must say what validation found"
        )
    if said.at > at + SIGNERS_CLOCK_AHEAD:
        raise Refused(
            f"{said.words} was signed at {said.at:%Y-%m-%d %H:%M:%S} UTC, which is to come; set the clocks"
        )
    if before is not None and said.at < before.at:
        raise Refused(
            f"{said.words} was signed at {said.at:%Y-%m-%d %H:%M:%S} UTC, before the one of {before.at:%Y-%m-%d %H:%M:%S} that it would supersede; sign it anew"
        )
