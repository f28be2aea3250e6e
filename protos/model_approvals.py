"""Who approves a version of a model for use: officers' signatures, judged by the coordinator, every auditor and every branch server for themselves.

1. A statement is about one version, by name, number and registry digest, and about the document that it was given on: the verdict that the move to
   `validated` rests on. It names the federation by its root, version 1, a role, the moment and the last moment.
2. Only `verify_approvals` makes an `ApprovedModel`. It needs no database: the statements, and the member list that the pinned root leads to.
3. It takes one privacy officer and one model risk officer, who are different people, and neither wrote the plan. Each statement names the plan's author
   for that; statements that disagree refuse everything, as does one that is wrong.
4. No statement is good for longer than a year: what was approved long ago is looked at again.
5. Of each officer one statement counts, in one role: the last that holds by the member list, at the moment. One that holds no more, because it is over
   or its officer left, stands in nobody's way, and one that lasts longer renews it (`counting`, `require_new`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.approval_rule import ApprovalRule
from protos.approvals import APPROVING
from protos.documents import Document, FieldError, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import Role, Trusted
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_YEAR_S: Final = 365 * 86400.0
MODEL_RULE: Final = ApprovalRule(privacy_officer=1, model_risk=1, valid_for=_YEAR_S)
"""What it takes to use a model."""
MOST_STATEMENTS: Final = 50
_LABEL: Final = "covenant/model-statement/v1"
_SHOWN: Final = 12

Version = Annotated[int, Field(ge=1, lt=10**9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is approved: a version with its registry `digest`, `on` the document with that digest; `author` wrote the plan, if anybody signed it."""

    name: str
    version: int
    digest: Digest
    on: Digest
    author: str | None

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"


class _Statement(Document):
    """What is signed."""

    covenant: Literal["model-statement/v1"] = "model-statement/v1"
    federation: Sha256
    """Digest of root version 1."""
    model: Name
    version: Version
    registry_digest: Sha256
    on: Sha256
    author: Name | None = None
    officer: Name
    role: Role
    at: Moment
    expires: Moment

    @model_validator(mode="after")
    def _is_one_that_can_count(self) -> Self:
        if self.role not in APPROVING:
            raise FieldError("role", f"a model is approved as {' or '.join(APPROVING)}, not as {self.role}")
        if self.officer == self.author:
            raise FieldError(
                "officer", f"{self.officer} wrote the plan; somebody else must approve its model"
            )
        if not self.at < self.expires <= self.at + timedelta(seconds=MODEL_RULE.valid_for):
            raise FieldError(
                "expires", f"it must be after the signature, by at most {MODEL_RULE.valid_for / 86400:g} days"
            )
        return self


class ModelStatement(_Statement):
    """An officer's approval of a version, signed with the officer's key. Worth nothing before `verify_approvals`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return Subject(
            name=self.model,
            version=self.version,
            digest=self.registry_digest,
            on=self.on,
            author=self.author,
        )

    @property
    def words(self) -> str:
        """`privacy-1's approval of lending-default@3 as privacy_officer`."""
        return f"{self.officer}'s approval of {self.model}@{self.version} as {self.role}"


def approve_model(
    subject: Subject,
    officer: str,
    role: Role,
    signer: Signer,
    *,
    federation: Digest,
    at: datetime,
    expires: datetime,
) -> ModelStatement:
    """The approval of `subject` by `officer`, who acts as `role`, in the federation of that root version 1. Raises UsageError."""
    said = make_document(
        _Statement,
        "the approval",
        federation=federation,
        model=subject.name,
        version=subject.version,
        registry_digest=subject.digest,
        on=subject.on,
        author=subject.author,
        officer=officer,
        role=role,
        at=at.replace(microsecond=0),
        expires=expires.replace(microsecond=0),
    )
    return ModelStatement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedModel:
    """A version that may be used; `verify_approvals` is its only maker."""

    subject: Subject
    approved_by: tuple[tuple[str, Role], ...]
    """Officers and their roles, by name."""
    until: datetime
    """The last moment at which enough of what was said is good."""


def verify_approvals(
    statements: Sequence[ModelStatement], members: Trusted, at: datetime, subject: Subject | None = None
) -> ApprovedModel:
    """Judge whether `statements` approve one version at the moment `at`, by the officers on the list `members`: `subject`, where the caller knows it.

    Without it, compare the result's subject with what you hold. Raises Refused at the first rule that is broken.
    """
    if not statements:
        raise Refused("nobody has approved this model; officers do, with `covenant model approve`")
    about = subject or statements[0].subject
    if len(statements) > MOST_STATEMENTS:
        raise Refused(f"{len(statements)} statements about {about.ref}; at most {MOST_STATEMENTS} are read")
    names = [each.officer for each in statements]
    for each in statements:
        require_model_statement(each, about, members, at)
        if names.count(each.officer) > 1:
            raise Refused(
                f"{each.officer} makes two statements about {about.ref}, and counts once, in one role; another officer must approve it"
            )
    for lack in lacking_for(statements, members):
        raise Refused(f"{about.ref} {lack.words}")
    return ApprovedModel(
        subject=about,
        approved_by=tuple(sorted((each.officer, each.role) for each in statements)),
        until=min(_last_in(role, statements) for role in APPROVING),
    )


def _last_in(role: Role, statements: Sequence[ModelStatement]) -> datetime:
    """Until when as many as it takes in `role` are good; at least so many are there. One more that ends sooner takes nothing away."""
    ends = sorted((each.expires for each in statements if each.role == role), reverse=True)
    return ends[int(getattr(MODEL_RULE, role.value)) - 1]


def require_model_statement(said: ModelStatement, about: Subject, members: Trusted, at: datetime) -> None:
    """Check that one statement counts for `about` at the moment `at`, whatever others say. Raises Refused."""
    officer = members.members.officer(said.officer)
    if said.role not in officer.roles:
        raise Refused(
            f"{said.words} does not count: on member list {members.members.ref} {officer.name} is {', '.join(officer.roles)}, not {said.role}"
        )
    officer.require_current(at)
    if not verify(officer.key, said.signature, _LABEL, said.message):
        raise Refused(
            f"{said.words} is not signed with the key of {officer.name} on member list {members.members.ref}: statement or key was changed; have it"
            " signed again"
        )
    if said.federation != members.federation:
        raise Refused(
            f"{said.words} is for the federation with root {grouped(said.federation)}, and this is the one with root {grouped(members.federation)}:"
            " what is approved in one federation counts in no other"
        )
    _require_about(said, about)
    if at > said.expires:
        raise Refused(
            f"{said.words} was good until {said.expires:%Y-%m-%d %H:%M:%S} UTC; {officer.name} must sign again"
        )
    if said.at > at + SIGNERS_CLOCK_AHEAD:
        raise Refused(
            f"{said.words} was signed at {said.at:%Y-%m-%d %H:%M:%S} UTC, which is to come; set the clocks"
        )


def counting(
    statements: Iterable[ModelStatement], about: Subject, members: Trusted, at: datetime
) -> tuple[ModelStatement, ...]:
    """Those of `statements`, the oldest first, that count for `about` at the moment `at`: the last of each officer that holds, by officer."""
    last: dict[str, ModelStatement] = {}
    for each in statements:
        with suppress(Refused):
            require_model_statement(each, about, members, at)
            last[each.officer] = each
    return tuple(last[officer] for officer in sorted(last))


def require_new(said: ModelStatement, counted: Iterable[ModelStatement]) -> None:
    """Check that a statement adds to those that are `counted` now: of another officer, or of the same in the same role for longer. Raises Refused."""
    for each in counted:
        if each.officer == said.officer and (each.role != said.role or said.expires <= each.expires):
            raise Refused(
                f"{said.officer} has approved {said.subject.ref} already, as {each.role} until {each.expires:%Y-%m-%d %H:%M:%S} UTC, and counts once, in"
                " one role; an approval in that role that lasts longer renews it"
            )


def require_covered(what: str, expires: datetime, approved: ApprovedModel) -> None:
    """Check that `what`, which lets a version run until `expires`, does not outlast the approvals that it rests on. Raises Refused."""
    if expires > approved.until:
        raise Refused(
            f"{what} is good until {expires:%Y-%m-%d %H:%M:%S} UTC, and the officers' approvals only until {approved.until:%Y-%m-%d %H:%M:%S}: nothing"
            " runs for longer than it was approved. Have it approved anew, then released anew"
        )


def _require_about(said: ModelStatement, about: Subject) -> None:
    """Check that a statement is about exactly this version, and was given on the same document. Raises Refused."""
    if said.subject == about:
        return
    named = said.subject
    if (named.name, named.version) != (about.name, about.version):
        raise Refused(f"{said.words} is about {named.ref}, and this is {about.ref}")
    if named.digest != about.digest:
        raise Refused(
            f"{said.words} is about the files {named.digest[:_SHOWN]}, and these are {about.digest[:_SHOWN]}: a version with one changed file is"
            " another, and needs new approvals"
        )
    if named.on != about.on:
        raise Refused(
            f"{said.words} was given on {named.on[:_SHOWN]}, and what the version was validated on is {about.on[:_SHOWN]}; read that, and sign again"
        )
    raise Refused(
        f"{said.words} names {named.author or 'nobody'} as the plan's author, who is {about.author or 'nobody'}; sign again"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLack:
    """Too few approvals in one role, and which officers could give one."""

    role: Role
    given: int
    asked: int
    could: tuple[str, ...]

    @property
    def words(self) -> str:
        """`has 0 of the 1 approvals as privacy_officer that it takes; privacy-1 may give one ...`."""
        have = f"has {self.given} of the {self.asked} approvals as {self.role} that it takes"
        if not self.could:
            return f"{have}, and nobody who could give one is on the member list; the officers must certify somebody"
        return (
            f"{have}; {' or '.join(self.could)} may give one with `covenant model approve --as {self.role}`"
        )


def lacking_for(
    statements: Sequence[ModelStatement], members: Trusted, author: str | None = None
) -> Iterator[ModelLack]:
    """Which approvals are missing, if every one of `statements` is good. `author` could give none, where nobody has spoken yet."""
    spoken = {each.officer for each in statements} | {each.author for each in statements} | {author}
    for role in APPROVING:
        given = sum(each.role == role for each in statements)
        asked = int(getattr(MODEL_RULE, role.value))
        if given < asked:
            could = (
                each.name
                for each in members.members.officers
                if role in each.roles and each.name not in spoken
            )
            yield ModelLack(role=role, given=given, asked=asked, could=tuple(could))


def until(at: datetime, last: datetime | None) -> datetime:
    """The last moment of an approval that is signed at `at`: `last`, or a year. Raises UsageError for one that is too late."""
    longest = at.replace(microsecond=0) + timedelta(seconds=MODEL_RULE.valid_for)
    if last is not None and last > longest:
        raise UsageError(
            f"an approval of a model is good for at most a year; name a day until {longest:%Y-%m-%d}"
        )
    return last or longest
