"""How far a plan is approved, for people: who has signed, who is missing, and until when it may be launched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from protos.approvals import PlanEvidence, lacking, require_approved
from protos.contract import Contract
from protos.membership import Trusted, check_members
from protos.plan import Plan
from strategies.errors import Refused
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An approval; `expires` in ISO 8601."""

    officer: str
    role: str
    expires: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"officer": self.officer, "role": self.role, "expires": self.expires}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Approvals that are lacking in one role, and who could give one."""

    role: str
    given: int
    asked: int
    could: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"role": self.role, "given": self.given, "asked": self.asked, "could": list(self.could)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStanding:
    """How far a plan is approved by member list `members`; `reason` is why it may not be launched, `until` the last moment of all statements."""

    plan: str
    digest: Digest
    contract_ref: str
    contract_digest: Digest
    members: str
    author: str | None
    approvals: tuple[Given, ...]
    missing: tuple[Lacking, ...]
    reason: str | None
    until: str | None

    @property
    def approved(self) -> bool:
        """Whether it may be launched."""
        return self.reason is None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "plan": self.plan,
            "digest": self.digest,
            "contract": {"ref": self.contract_ref, "digest": self.contract_digest},
            "members": self.members,
            "author": self.author,
            "approvals": [each.facts() for each in self.approvals],
            "missing": [each.facts() for each in self.missing],
            "approved": self.approved,
            "reason": self.reason,
            "until": self.until,
        }


def standing_of(
    plan: Plan, contract: Contract, evidence: PlanEvidence, trusted: Trusted, now: datetime
) -> PlanStanding:
    """How far `plan` is approved at `now`."""
    rule, members, reason = plan.approval_rule, trusted.members, None
    try:
        check_members(plan, members)
        require_approved(plan, contract, evidence, trusted, [rule], now)
    except Refused as refused:
        reason = str(refused)
    until = min((each.expires for each in evidence.statements), default=None)
    return PlanStanding(
        plan=plan.name,
        digest=plan.digest,
        contract_ref=contract.ref,
        contract_digest=contract.digest,
        members=members.ref,
        author=None if evidence.author is None else evidence.author.officer,
        approvals=tuple(
            Given(officer=each.officer, role=str(each.role), expires=each.expires.isoformat())
            for each in evidence.approvals
        ),
        missing=tuple(
            Lacking(role=str(each.role), given=each.given, asked=each.asked, could=each.could)
            for each in lacking([rule], evidence, members)
        ),
        reason=reason,
        until=None if until is None else until.isoformat(),
    )
