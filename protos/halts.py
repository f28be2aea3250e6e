"""Halts: any officer and any site stops a site's part, a run or everything alone; it takes two officers to go on.

1. An order is signed with the identity key of whoever gives it. A site orders for itself, for a run, or for all; an officer for any site too.
2. A lift is two statements about the order's digest, by different officers who hold a role that the rule names. So whoever gave the order
   never lifts it without another person.
3. Only `require_halt` and `require_lift` make what is acted on: who is not on the member list, or whose key has expired, says nothing.
4. One wrong statement refuses the lift: none is ignored, because each was put there to be counted.
5. An order names the federation by its root, version 1, and a lift names the order: neither counts in another federation of the same name.
6. To stop is the safe side, so an order is good however old it is. A statement to lift is good for as long as the rule says, and no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.membership import MemberList, Role
from protos.moments import Moment
from protos.names import Name, Sha256, matching
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName, run_id, site_name

MOST_ORDER_BYTES: Final = 64 * 1024
_ORDER_LABEL: Final = "covenant/halt/v1"
_LIFT_LABEL: Final = "covenant/halt-lift/v1"
_SHOWN: Final = 12
_CLOCKS_DIFFER: Final = timedelta(minutes=10)

HaltScope = Literal["site", "run", "all"]
Why = Annotated[str, Field(min_length=1, max_length=500)]
OrderId = Annotated[str, matching(r"[0-9a-f]{32}", "32 hexadecimal digits")]


class OrderedBy(Part):
    """Who gives an order: an officer or a site, by the name on the member list."""

    kind: Literal["officer", "site"]
    name: Name

    @property
    def words(self) -> str:
        """`officer privacy-1`, `site north`."""
        return f"{self.kind} {self.name}"


class _Order(Document):
    """What is signed."""

    covenant: Literal["halt/v1"] = "halt/v1"
    federation: Sha256
    """Digest of root version 1."""
    scope: HaltScope
    target: str | None = None
    reason: Why
    by: OrderedBy
    at: Moment
    id: OrderId

    @model_validator(mode="after")
    def _target_fits_the_scope(self) -> Self:
        if (self.scope == "all") != (self.target is None):
            raise FieldError("target", "name the site or the run that is halted, and nothing for all")
        try:
            if self.scope == "run":
                run_id(self.target or "")
            elif self.scope == "site":
                site_name(self.target or "")
        except UsageError as error:
            raise FieldError("target", str(error)) from error
        if self.scope == "site" and self.by.kind == "site" and self.by.name != self.target:
            raise FieldError(
                "target", "a site halts itself, a run, or all; another site is halted by an officer"
            )
        return self


class HaltOrder(_Order):
    """An order to halt, signed. Worth nothing before `require_halt`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def what(self) -> str:
        """What is halted, as in `run run-0123456789abcdef`."""
        return "everything" if self.scope == "all" else f"{self.scope} {self.target}"

    @property
    def words(self) -> str:
        """Who halted what, and why."""
        return f"{self.by.words} halted {self.what} at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.reason} (halt {self.id[:_SHOWN]})"

    def covers(self, run: RunId, sites: frozenset[SiteName] = frozenset()) -> bool:
        """Whether it stands in the way of `run`, or of asking one of `sites`."""
        match self.scope:
            case "all":
                return True
            case "run":
                return self.target == run
            case "site":
                return self.target in sites


def order_halt(
    federation: Digest,
    scope: HaltScope,
    target: str | None,
    reason: str,
    by: OrderedBy,
    signer: Signer,
    *,
    at: datetime,
    entropy: bytes,
) -> HaltOrder:
    """The order of `by`, who holds `signer`, in the `federation` of that root version 1; `entropy` is 16 random bytes. Raises UsageError."""
    said = make_document(
        _Order,
        "the order",
        federation=federation,
        scope=scope,
        target=target,
        reason=reason,
        by=by,
        at=at.replace(microsecond=0),
        id=entropy.hex(),
    )
    return HaltOrder(**dict(said), signature=signer.sign(_ORDER_LABEL, said.canonical))


@dataclass(frozen=True, slots=True)
class Halt:
    """An order that counts; `require_halt` is its only maker."""

    order: HaltOrder

    @property
    def digest(self) -> Digest:
        """By which the log and a lift name it."""
        return self.order.digest


def require_halt(order: HaltOrder, members: MemberList, federation: Digest, now: datetime) -> Halt:
    """Judge an order by the newest member list of the `federation` with that root version 1. Raises Refused."""
    if order.federation != federation:
        raise Refused(
            f"the order is for the federation with root {grouped(order.federation)}, and this is the one with root {grouped(federation)}: what is"
            " ordered in one federation counts in no other"
        )
    if order.by.kind == "officer":
        officer = members.officer(order.by.name)
        officer.require_current(now)
        key = officer.key
    else:
        key = members.member(SiteName(order.by.name)).identity_key
    if not verify(key, order.signature, _ORDER_LABEL, order.message):
        raise Refused(
            f"the order of {order.by.words} is not signed with their key on member list {members.ref}: order or key was changed; have it given again"
        )
    return Halt(order)


# --- going on -----------------------------------------------------------------------------------------------------------


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
    if not -_CLOCKS_DIFFER <= now - said.at <= rule.valid_for:
        raise Refused(
            f"the statement of {said.officer} is of {said.at:%Y-%m-%d %H:%M:%S} UTC, and is good for {rule.valid_for.days} days; have it signed again"
        )


def require_lift(
    lift: HaltLift, order: Digest, members: MemberList, now: datetime, rule: LiftRule = LIFT_RULE
) -> Lifted:
    """Judge whether the halt of `order` is lifted. Raises Refused at the first rule that is broken."""
    if lift.order != order:
        raise Refused(f"the lift is of order {lift.order[:_SHOWN]}, and this halt is {order[:_SHOWN]}")
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
