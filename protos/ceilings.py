"""Decisions of privacy officers on an account: what its ceiling is from now on, signed by those who decided so.

1. A decision says all that holds once it is applied, and which one of its account it is: signed once, it counts once, and in its place.
2. It names the federation by its root, version 1: it counts in no other one.
3. Only `SignedCeiling.require` makes a `DecidedCeiling`: every statement is by another privacy officer on the member list in force. One wrong
   statement refuses everything.
4. How many officers it takes is up to what the decision does to its account (`log_budgets`).
5. A decision that is not applied within 30 days is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import Signature, Signer, grouped, verify
from protos.log_clock import CLOCKS_DIFFER
from protos.log_run_events import Facts
from protos.membership import Role, Trusted
from protos.moments import Moment
from protos.names import Name, Sha256, Site, distinct
from strategies.dp.filters import Ceiling
from strategies.errors import Refused, UsageError

LABEL: Final = "covenant/ceiling/v1"
GOOD_FOR: Final = timedelta(days=30)
"""How long a decision may be on its way from officer to officer."""
MOST_OFFICERS: Final = 10
_MOST_ALERTS: Final = 10
_MOST_OVERLAPS: Final = 1000
_LONGEST_REASON: Final = 1000


def _sentence(text: str) -> str:
    if not text or len(text) > _LONGEST_REASON or not text.isprintable() or text != text.strip():
        raise ValueError(f"use 1 to {_LONGEST_REASON} printable characters without spaces around them")
    return text


def _ceiling(facts: dict[str, object]) -> dict[str, object]:
    try:
        return Ceiling.from_facts(facts).facts()
    except UsageError as error:
        raise ValueError(str(error)) from error


def _sorted_fractions(fractions: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(distinct(fractions)))


def _sorted_sites(sites: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(distinct(sites)))


class CeilingDecision(Document):
    """What officers decide about the account of `population` at `site`, for the unit of its ceiling; `number` 1 opens it."""

    covenant: Literal["ceiling-decision/v1"] = "ceiling-decision/v1"
    federation: Sha256
    """Digest of root version 1."""
    site: Site
    population: Name
    number: Annotated[int, Field(ge=1, le=10**6)]
    ceiling: Annotated[Facts, AfterValidator(_ceiling)]
    alert_at: Annotated[
        tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...],
        Field(max_length=_MOST_ALERTS),
        AfterValidator(_sorted_fractions),
    ] = ()
    """Fractions of the ceiling."""
    overlaps: Annotated[
        tuple[Site, ...], Field(max_length=_MOST_OVERLAPS), AfterValidator(_sorted_sites)
    ] = ()
    """Sites at which the same persons may be."""
    reason: Annotated[str, AfterValidator(_sentence)]
    at: Moment

    @model_validator(mode="after")
    def _overlaps_are_others(self) -> Self:
        if self.site in self.overlaps:
            raise FieldError("overlaps", f"{self.site} is the account's own site; name others")
        return self

    @property
    def terms(self) -> Ceiling:
        """The ceiling itself."""
        return Ceiling.from_facts(self.ceiling)

    @property
    def words(self) -> str:
        """Whose account, for people: `decision 2 on north/loans`."""
        return f"decision {self.number} on {self.site}/{self.population}"

    def require_current(self, now: datetime) -> None:
        """Raise Refused for one that is too old, and for one that is dated ahead: it would count when nobody remembers it."""
        if not self.at - CLOCKS_DIFFER <= now <= self.at + GOOD_FOR:
            raise Refused(
                f"{self.words} is of {self.at:%Y-%m-%d %H:%M:%S} UTC, and {now:%Y-%m-%d %H:%M:%S} UTC is not within {GOOD_FOR.days} days"
                " of it; draft it again, and have it signed again"
            )


class CeilingStatement(Part):
    """The signature of an officer over a decision."""

    officer: Name
    signature: Signature


def _by_officer(statements: tuple[CeilingStatement, ...]) -> tuple[CeilingStatement, ...]:
    """In the order of names, so that the same statements make the same document."""
    distinct(tuple(each.officer for each in statements))
    return tuple(sorted(statements, key=lambda each: each.officer))


class SignedCeiling(Document):
    """A decision and who signed it; a draft as long as they are too few. Worth nothing before `require`."""

    covenant: Literal["ceiling/v1"] = "ceiling/v1"
    decision: CeilingDecision
    statements: Annotated[
        tuple[CeilingStatement, ...], Field(max_length=MOST_OFFICERS), AfterValidator(_by_officer)
    ] = ()

    def signed_with(self, officer: str, signer: Signer) -> Self:
        """This decision with the statement of `officer`, which takes the place of an earlier one. Raises UsageError."""
        others = tuple(each for each in self.statements if each.officer != officer)
        said = make_document(
            CeilingStatement,
            "the statement",
            officer=officer,
            signature=signer.sign(LABEL, self.decision.canonical),
        )
        return make_document(
            type(self), self.decision.words, decision=self.decision, statements=(*others, said)
        )

    def require(self, trusted: Trusted, now: datetime) -> DecidedCeiling:
        """The decision, if all who signed it are privacy officers on the `trusted` list at `now`, and somebody did. Raises Refused."""
        decision, members = self.decision, trusted.members
        if decision.federation != trusted.federation:
            raise Refused(
                f"{decision.words} is for the federation with root {grouped(decision.federation)}, and this is the one with root"
                f" {grouped(trusted.federation)}: what is decided in one federation counts in no other"
            )
        decision.require_current(now)
        if not self.statements:
            raise Refused(
                f"nobody has signed {decision.words}; a privacy officer does, with `covenant ledger ceiling sign`"
            )
        for each in self.statements:
            officer = members.officer(each.officer)
            if Role.PRIVACY_OFFICER not in officer.roles:
                raise Refused(
                    f"what {officer.name} signed of {decision.words} does not count: on member list {members.ref} {officer.name} is"
                    f" {', '.join(officer.roles)}, not {Role.PRIVACY_OFFICER}"
                )
            officer.require_current(now)
            if not verify(officer.key, each.signature, LABEL, decision.canonical):
                raise Refused(
                    f"{decision.words} is not signed with the key of {officer.name} on member list {members.ref}: decision or key was changed;"
                    " have it signed again"
                )
        return DecidedCeiling(signed=self, officers=tuple(each.officer for each in self.statements))


@dataclass(frozen=True, slots=True)
class DecidedCeiling:
    """A decision that its officers stand behind; `SignedCeiling.require` is its only maker."""

    signed: SignedCeiling
    officers: tuple[str, ...]

    @property
    def decision(self) -> CeilingDecision:
        """What they decided."""
        return self.signed.decision
