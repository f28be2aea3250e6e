"""A plan at the desk: what would be signed, byte for byte, and what is known about it without believing the coordinator.

1. The bytes come from the coordinator, and must have the digest that was asked for, computed here.
2. Who has signed is what the log has, each statement judged again by the member list. The log was read whole, so nobody can be left out.
3. The plan of this name that was launched or approved last is looked for in the same log. What was launched is in it whole; of what was approved only,
   the log has the digest, and the bytes must have that.
4. Accounts and what policies say are the coordinator's word, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from coordinator.console.desk.checks import Checks, stopping
from coordinator.console.desk.history import Before, bytes_of, evidence_of, plan_before, statement_of
from coordinator.console.desk.looking import FIRST, Looked
from coordinator.console.desk.memory import Kept, Memory, require_kept
from coordinator.console.desk.session import Session
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding, standing_of
from protos.approvals import (
    APPROVING,
    PlanStatement,
    approve,
    require_statement,
)
from protos.membership import Officer, Role, Trusted, check_members
from protos.plan_diff import PlanDiff, diff
from protos.plan_fit import check_contract, check_plan
from strategies.errors import Refused
from strategies.ids import Digest

BYTES: Final = "The plan's bytes"
PROPOSED: Final = "The proposal"
SIGNED: Final = "Who has signed"
BEFORE: Final = "The plan before"
LISTED: Final = "For this federation"
PLAN_CHECKS: Final = (*FIRST, BYTES, LISTED, PROPOSED, SIGNED, BEFORE)
TYPED: Final = 8
"""Digits of the digest that whoever signs types."""


@dataclass
class PlanAtDesk:
    """What was found. Only where every check holds can it be signed."""

    checks: Checks
    found: ProposedPlan | None = None
    standing: PlanStanding | None = None
    before: Before | None = None
    changes: PlanDiff | None = None
    newest: Digest | None = None
    """The plan of this name that the log tells of last."""
    roles: tuple[Role, ...] = ()
    """In which the officer may approve."""
    hinders: str | None = None
    """Why the officer may not, though every check holds."""

    @property
    def shown(self) -> dict[str, Any]:
        """All that a signature rests on: what is signed is what was shown, or nothing."""
        return {
            "plan": None if self.found is None else self.found.plan.digest,
            "contract": None if self.found is None else self.found.contract.digest,
            "the plan before": None if self.before is None else self.before.plan.digest,
            "the newest proposal of this name": self.newest,
            "approvals": []
            if self.found is None
            else sorted(each.officer for each in self.found.evidence.approvals),
        }


def plan_at_desk(session: Session, looked: Looked, plan: str, contract: str) -> PlanAtDesk:
    """Look at the plan with these digests. Raises Unreachable."""
    view = PlanAtDesk(looked.checks)
    if looked.checks.hold_all:
        with stopping():
            _check(view, session, looked, plan, contract)
    looked.checks.open(PLAN_CHECKS)
    return view


def _check(view: PlanAtDesk, session: Session, looked: Looked, plan: str, contract: str) -> None:
    trusted, officer = looked.sound
    checks, memory, now = view.checks, session.trust.memory, session.clock()
    sent = checks.hold(
        BYTES,
        lambda: bytes_of(session.desk, plan, contract),
        lambda it: f"SHA-256 of the {len(it.plan.canonical)} bytes below is {it.plan.digest}, computed here",
    )
    checks.hold(
        LISTED,
        lambda: _listed(sent, trusted),
        lambda _: f"it names member list {trusted.members.ref}, and fits its contract",
    )
    proposal = checks.hold(
        PROPOSED,
        lambda: _proposal(memory, sent, trusted, now),
        lambda it: (
            f"entry {it[0].seq}: {it[1].officer} signed it as its author, with the key on the member list"
        ),
    )
    evidence = checks.hold(
        SIGNED,
        lambda: evidence_of(memory, sent.plan, sent.contract, trusted, now),
        lambda it: (
            f"{len(it.approvals)} approvals are in the log, and each is signed by an officer on the member list"
        ),
    )
    view.found = ProposedPlan(plan=sent.plan, contract=sent.contract, evidence=evidence)
    view.standing = standing_of(sent.plan, sent.contract, evidence, trusted, now)
    view.before = checks.hold(
        BEFORE,
        lambda: plan_before(session, sent.plan, trusted),
        lambda it: (
            "none of this name was approved before, in each role that this one asks for"
            if it is None
            else it.words
        ),
    )
    if view.before is not None:
        view.changes = diff(view.before.plan, view.before.contract, sent.plan, sent.contract)
    view.newest = _newest(memory, sent.plan.name)
    view.roles = tuple(role for role in APPROVING if role in officer.roles)
    view.hinders = _hinders(view, officer, proposal[1])


def _listed(sent: ProposedPlan, trusted: Trusted) -> None:
    check_contract(sent.plan, sent.contract)
    check_plan(sent.plan, sent.contract)
    check_members(sent.plan, trusted.members)


def _proposal(
    memory: Memory, sent: ProposedPlan, trusted: Trusted, now: datetime
) -> tuple[Kept, PlanStatement]:
    """The entry of the proposal, and the author's statement in it. Raises Refused."""
    digest = sent.plan.digest
    mine = [
        each
        for each in memory.of_subject("proposed", digest)
        if statement_of(each).contract == sent.contract.digest
    ]
    kept = require_kept(
        mine, f"plan {digest[:12]} having been proposed under contract {sent.contract.digest[:12]}"
    )
    said = statement_of(kept)
    require_statement(said, sent.plan, sent.contract, trusted, [sent.plan.approval_rule], now)
    return kept, said


def _hinders(view: PlanAtDesk, officer: Officer, author: PlanStatement) -> str | None:
    if author.officer == officer.name:
        return "You are its author; somebody else must approve it."
    if not view.roles:
        return f"You are {', '.join(officer.roles)}; a plan is approved as {' or '.join(APPROVING)}."
    return None


def _newest(memory: Memory, name: str) -> Digest | None:
    """The plan of that name that was proposed last."""
    found = memory.of_name(("proposed",), name, 1)
    return statement_of(found[0]).plan if found else None


# --- signing ----------------------------------------------------------------------------------------------------------


def sign(session: Session, view: PlanAtDesk, looked: Looked, role: str) -> PlanStatement:
    """The officer's approval of exactly what was looked at. Raises Refused unless every check holds."""
    if view.found is None or not view.checks.hold_all:
        failed = view.checks.failed
        raise Refused(f"nothing was signed: {'a check is open' if failed is None else failed.words}")
    if view.hinders is not None or role not in view.roles:
        raise Refused(f"nothing was signed: {view.hinders or 'choose the role in which you approve'}")
    trusted, officer = looked.sound
    found, at = view.found, session.clock().replace(microsecond=0)
    return approve(
        found.plan,
        found.contract,
        officer.name,
        Role(role),
        session.trust.signer,
        federation=trusted.federation,
        expires=at + timedelta(seconds=found.plan.approval_rule.valid_for),
    )
