"""Lifts: two officers let a run, a site or everything go on that was halted.

1. A lift is statements about the order's digest, by different officers who hold a role that the rule names. So whoever gave the order never lifts
   it without another person.
2. Only `require_lift` makes what is acted on. One wrong statement refuses the lift: none is ignored, because each was put there to be counted.
3. A lift names the order, which names its federation: it counts in no other one.
4. A statement is good for as long as the rule says, and no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, make_document
from protos.halts import SHOWN, Why
from protos.keys import Signature, Signer, verify
from protos.membership import MemberList, Role
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import Digest

_LIFT_LABEL: Final = "covenant/halt-lift/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftRule:
    """How many different officers lift a halt, in which roles, and for how long the word of one of them is good."""

    officers: int = 2
    roles: tuple[Role, ...] = (Role.PRIVACY_OFFICER, Role.MODEL_RISK, Role.ADMIN)
    valid_for: timedelta = timedelta(days=7)

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.officers} officers who are {', '.join(self.roles[:-1])} or {self.roles[-1]}"


LIFT_RULE: Final = LiftRule()


class _LiftStatement(Document):
    """What an officer signs who wants to go on."""

    covenant: Literal["halt-lift-statement/v1"] = "halt-lift-statement/v1"
    order: Sha256
    officer: Name
    reason: Why
    at: Moment


class LiftStatement(_LiftStatement):
    """One officer's word that a halt may be lifted, signed."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))


def state_lift(order: Digest, officer: str, reason: str, signer: Signer, *, at: datetime) -> LiftStatement:
    """The word of `officer`, who holds `signer`. Raises UsageError."""
    said = make_document(
        _LiftStatement,
        "the statement",
        order=order,
        officer=officer,
        reason=reason,
        at=at.replace(microsecond=0),
    )
    return LiftStatement(**dict(said), signature=signer.sign(_LIFT_LABEL, said.canonical))


def _by_officer(statements: tuple[LiftStatement, ...]) -> tuple[LiftStatement, ...]:
    names = [each.officer for each in statements]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} makes two statements, and counts once; another officer must sign")
    return tuple(sorted(statements, key=lambda each: each.officer))


class HaltLift(Document):
    """Who wants to go on after the order with digest `order`. Worth nothing before `require_lift`."""

    covenant: Literal["halt-lift/v1"] = "halt-lift/v1"
    order: Sha256
    statements: Annotated[
        tuple[LiftStatement, ...], Field(min_length=1, max_length=10), AfterValidator(_by_officer)
    ]

    @model_validator(mode="after")
    def _all_about_it(self) -> Self:
        if any(each.order != self.order for each in self.statements):
            raise FieldError("statements", "one of them is about another order")
        return self

    def adding(self, statement: LiftStatement) -> Self:
        """This and one more statement, in the place of an earlier one of the same officer. Raises UsageError."""
        others = (each for each in self.statements if each.officer != statement.officer)
        return make_document(type(self), "the lift", order=self.order, statements=(*others, statement))

    def fresh(self, members: MemberList, now: datetime, rule: LiftRule = LIFT_RULE) -> Self | None:
        """Only what still counts: an officer may have left, or have spoken too long ago. None if that is nothing."""
        kept = tuple(each for each in self.statements if _counts(each, members, now, rule))
        return self.model_copy(update={"statements": kept}) if kept else None


@dataclass(frozen=True, slots=True)
class Lifted:
    """A lift that counts: the halt that it names is over. `require_lift` is its only maker."""

    lift: HaltLift


def require_statement(
    said: LiftStatement, members: MemberList, now: datetime, rule: LiftRule = LIFT_RULE
) -> None:
    """Judge one officer's word. Raises Refused."""
    officer = members.officer(said.officer)
    officer.require_current(now)
    if not set(officer.roles) & set(rule.roles):
        raise Refused(
            f"{officer.name} is {', '.join(officer.roles)} on member list {members.ref}; a halt is lifted by {rule.words}"
        )
    if not verify(officer.key, said.signature, _LIFT_LABEL, said.message):
        raise Refused(
            f"the statement of {said.officer} is not signed with their key on member list {members.ref}: have it signed again"
        )
    if not -SIGNERS_CLOCK_AHEAD <= now - said.at <= rule.valid_for:
        raise Refused(
            f"the statement of {said.officer} is of {said.at:%Y-%m-%d %H:%M:%S} UTC, and is good for {rule.valid_for.days} days; have it signed again"
        )


def require_lift(
    lift: HaltLift, order: Digest, members: MemberList, now: datetime, rule: LiftRule = LIFT_RULE
) -> Lifted:
    """Judge whether the halt of `order` is lifted. Raises Refused at the first rule that is broken."""
    if lift.order != order:
        raise Refused(f"the lift is of order {lift.order[:SHOWN]}, and this halt is {order[:SHOWN]}")
    for said in lift.statements:
        require_statement(said, members, now, rule)
    if len(lift.statements) < rule.officers:
        raise Refused(
            f"{len(lift.statements)} of {rule.officers} statements: a halt is lifted by {rule.words}"
        )
    return Lifted(lift)


def _counts(said: LiftStatement, members: MemberList, now: datetime, rule: LiftRule) -> bool:
    try:
        require_statement(said, members, now, rule)
    except Refused:
        return False
    return True
