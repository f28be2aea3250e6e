"""Who stands behind a plan: its author's signature and the officers' approvals, judged by every agent and every auditor for themselves.

1. A statement is a signature over the digest of the parsed plan and of its contract, with the role that is exercised and a last moment. A plan
   with one changed value is another plan, and nobody has approved it. It names the federation by its root, version 1: another one of the same
   name, with the same officers, is another.
2. Only `require_approved` makes an `ApprovedPlan`. Who is not on the member list that the plan names says nothing.
3. One wrong statement refuses everything: none is ignored, because each was put there to be counted.
4. An officer makes one statement about a plan, in one role. So nobody approves what they wrote, and nobody counts twice.
5. No statement is good for longer than every rule admits, so that what was approved long ago is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.approval_rule import ApprovalRule
from protos.contract import Contract
from protos.documents import Document, FieldError, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import MemberList, Officer, Role, Trusted
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256
from protos.plan import Plan
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

MOST_STATEMENTS: Final = 50
APPROVING: Final = (Role.PRIVACY_OFFICER, Role.MODEL_RISK)
"""The roles that approve plans. Their author is an ML engineer."""
_LABEL: Final = "covenant/plan-statement/v1"
_SHOWN: Final = 12


class _Statement(Document):
    """What is signed."""

    covenant: Literal["plan-statement/v1"] = "plan-statement/v1"
    act: Literal["author", "approve"]
    plan: Sha256
    contract: Sha256
    federation: Sha256
    """Digest of root version 1."""
    officer: Name
    role: Role
    expires: Moment

    @model_validator(mode="after")
    def _role_fits_the_act(self) -> Self:
        fitting = (Role.ML_ENGINEER,) if self.act == "author" else APPROVING
        if self.role not in fitting:
            raise FieldError(
                "role",
                f"a plan is {'written' if self.act == 'author' else 'approved'} as {' or '.join(fitting)}, not as {self.role}",
            )
        return self


class PlanStatement(_Statement):
    """An officer's word about a plan, signed with the officer's key. Worth nothing before `require_approved`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))

    @property
    def words(self) -> str:
        """What it says, as in `privacy-2's approval as privacy_officer`."""
        return (
            f"{self.officer}'s authorship"
            if self.act == "author"
            else f"{self.officer}'s approval as {self.role}"
        )


def author(
    plan: Plan, contract: Contract, officer: str, signer: Signer, *, federation: Digest, expires: datetime
) -> PlanStatement:
    """The statement of `officer` to have written `plan`, good until `expires` in the federation of that root version 1. Raises UsageError."""
    facts = {"act": "author", "officer": officer, "role": Role.ML_ENGINEER}
    return _signed(plan, contract, signer, federation=federation, expires=expires, **facts)


def approve(
    plan: Plan,
    contract: Contract,
    officer: str,
    role: Role,
    signer: Signer,
    *,
    federation: Digest,
    expires: datetime,
) -> PlanStatement:
    """The approval of `plan` by `officer`, who acts as `role`: as `author`. Raises UsageError."""
    facts = {"act": "approve", "officer": officer, "role": role}
    return _signed(plan, contract, signer, federation=federation, expires=expires, **facts)


def _signed(plan: Plan, contract: Contract, signer: Signer, **facts: object) -> PlanStatement:
    said = make_document(_Statement, "the statement", plan=plan.digest, contract=contract.digest, **facts)
    return PlanStatement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def _by_officer(statements: tuple[PlanStatement, ...]) -> tuple[PlanStatement, ...]:
    """In the order of names, so that the same statements make the same document."""
    acts: dict[str, str] = {}
    for each in statements:
        if acts.get(each.officer, each.act) != each.act:
            raise ValueError(f"{each.officer} is the author and approves; somebody else must approve")
        if each.officer in acts:
            raise ValueError(f"{each.officer} makes two statements; each officer makes one, in one role")
        acts[each.officer] = each.act
    authors = sorted(name for name, act in acts.items() if act == "author")
    if len(authors) > 1:
        raise ValueError(f"{' and '.join(authors)} both are the author; a plan has one")
    return tuple(sorted(statements, key=lambda each: each.officer))


class PlanEvidence(Document):
    """`PLAN.evidence.json`: the statements about a plan, by officer."""

    covenant: Literal["plan-evidence/v1"] = "plan-evidence/v1"
    statements: Annotated[
        tuple[PlanStatement, ...], Field(max_length=MOST_STATEMENTS), AfterValidator(_by_officer)
    ] = ()

    @property
    def author(self) -> PlanStatement | None:
        """The statement of the plan's author."""
        return next((each for each in self.statements if each.act == "author"), None)

    @property
    def approvals(self) -> tuple[PlanStatement, ...]:
        """The statements of those who approve, by officer."""
        return tuple(each for each in self.statements if each.act == "approve")

    def adding(self, statement: PlanStatement) -> Self:
        """This evidence and `statement`, which takes the place of an earlier one of the same officer.

        Raises UsageError where that would make the author approve, or a second author.
        """
        before = self.author
        if before is not None and before.officer == statement.officer and statement.act == "approve":
            raise UsageError(f"{statement.officer} is the plan's author; somebody else must approve it")
        others = (each for each in self.statements if each.officer != statement.officer)
        return make_document(type(self), "the evidence", statements=(*others, statement))

    def about(self, plan: Digest, contract: Digest) -> Self:
        """Only what is said about this plan under this contract: the rest was said before one of them was changed."""
        kept = (each for each in self.statements if (each.plan, each.contract) == (plan, contract))
        return make_document(type(self), "the evidence", statements=tuple(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedPlan:
    """A plan that may be run; `require_approved` is its only maker. Where nobody was asked and nobody spoke, there is no author."""

    plan: Plan
    contract: Contract
    author: str | None
    approved_by: tuple[tuple[str, Role], ...]
    """Officers and their roles."""
    until: datetime | None
    """The last moment at which all that was said is good."""


def require_approved(
    plan: Plan,
    contract: Contract,
    evidence: PlanEvidence,
    trusted: Trusted,
    rules: Sequence[ApprovalRule],
    now: datetime | None,
) -> ApprovedPlan:
    """Judge whether `plan` has the author and the approvals that each of `rules` asks for, by the officers on the `trusted` list.

    Without `now` nothing expires: that is for runs that have begun. Raises Refused at the first rule that is broken.
    """
    by = evidence.author
    if evidence.statements or any(rule.asks for rule in rules):
        if by is None:
            raise Refused(
                f"nobody has signed plan {plan.name} ({plan.digest[:_SHOWN]}) as its author; an officer who is {Role.ML_ENGINEER} does, with"
                " `covenant plan sign`"
            )
        for each in (by, *evidence.approvals):
            require_statement(each, plan, contract, trusted, rules, now)
    for lack in lacking(rules, evidence, trusted.members):
        raise Refused(f"plan {plan.name} ({plan.digest[:_SHOWN]}) {lack.words}")
    return ApprovedPlan(
        plan=plan,
        contract=contract,
        author=None if by is None else by.officer,
        approved_by=tuple((each.officer, each.role) for each in evidence.approvals),
        until=min((each.expires for each in evidence.statements), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Too few approvals of one role, and which officers on list `members` could give one."""

    role: Role
    given: int
    asked: int
    could: tuple[str, ...]
    members: str

    @property
    def words(self) -> str:
        """`has 0 of 1 approvals as privacy_officer: privacy-2 may give one`."""
        have = f"has {self.given} of the {self.asked} approvals as {self.role} that are asked for"
        if not self.could:
            return f"{have}, and nobody who could give one is left on member list {self.members}; the officers must certify somebody"
        return f"{have}; {' or '.join(self.could)} may give one with `covenant plan approve --as {self.role}`"


def lacking(rules: Iterable[ApprovalRule], evidence: PlanEvidence, members: MemberList) -> Iterator[Lack]:
    """Which approvals are missing for all `rules`, if every statement in `evidence` is good."""
    rules = tuple(rules)
    spoken = {each.officer for each in evidence.statements}
    for role in APPROVING:
        given = sum(each.role == role for each in evidence.approvals)
        asked = max((getattr(rule, role.value) for rule in rules), default=0)
        if given < asked:
            could = (each.name for each in members.officers if role in each.roles and each.name not in spoken)
            yield Lack(role=role, given=given, asked=asked, could=tuple(could), members=members.ref)


def require_statement(
    said: PlanStatement,
    plan: Plan,
    contract: Contract,
    trusted: Trusted,
    rules: Sequence[ApprovalRule],
    now: datetime | None,
) -> None:
    """Check that a statement counts for `plan` at `now`, whatever others say about it. Without `now` nothing expires. Raises Refused."""
    officer = _require_speaker(said, trusted, now)
    _require_about(said, "plan", said.plan, plan.digest)
    _require_about(said, "contract", said.contract, contract.digest)
    if now is not None:
        _require_fresh(said, officer, rules, now)


def _require_speaker(said: PlanStatement, trusted: Trusted, now: datetime | None) -> Officer:
    members = trusted.members
    officer = members.officer(said.officer)
    if said.role not in officer.roles:
        raise Refused(
            f"{said.words} does not count: on member list {members.ref} {officer.name} is {', '.join(officer.roles)}, not {said.role}"
        )
    if now is not None:
        officer.require_current(now)
    if not verify(officer.key, said.signature, _LABEL, said.message):
        raise Refused(
            f"{said.words} is not signed with the key of {officer.name} on member list {members.ref}: statement or key was changed; have it"
            " signed again"
        )
    if said.federation != trusted.federation:
        raise Refused(
            f"{said.words} is for the federation with root {grouped(said.federation)}, and this is the one with root {grouped(trusted.federation)}:"
            " what is approved in one federation counts in no other"
        )
    return officer


def _require_about(said: PlanStatement, what: str, named: Digest, digest: Digest) -> None:
    if named != digest:
        raise Refused(
            f"{said.words} is about {what} {named[:_SHOWN]}, and this is {digest[:_SHOWN]}: a {what} with one changed value is another {what}, and"
            " needs new approvals"
        )


def _require_fresh(
    said: PlanStatement, officer: Officer, rules: Sequence[ApprovalRule], now: datetime
) -> None:
    if now > said.expires:
        raise Refused(
            f"{said.words} was good until {said.expires:%Y-%m-%d %H:%M:%S} UTC; {officer.name} must sign again"
        )
    most = min((rule.valid_for for rule in rules), default=None)
    if most is not None and said.expires > now + timedelta(seconds=most) + SIGNERS_CLOCK_AHEAD:
        raise Refused(
            f"{said.words} is good until {said.expires:%Y-%m-%d %H:%M:%S} UTC, and `approvals.valid_for` admits {most / 86400:g} days from now;"
            f" {officer.name} must sign again with an earlier day"
        )


def require_spoken(said: PlanStatement, trusted: Trusted, now: datetime) -> None:
    """Check that a statement is by an officer on the `trusted` list who has the role, signed with the officer's key and good at `now`; not what it is about. Raises Refused."""
    _require_speaker(said, trusted, now)
    if now > said.expires:
        raise Refused(
            f"{said.words} was good until {said.expires:%Y-%m-%d %H:%M:%S} UTC; {said.officer} must sign again"
        )
