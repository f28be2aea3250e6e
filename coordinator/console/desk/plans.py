"""A plan at the desk: what would be signed, byte for byte, and what is known about it without believing the coordinator.

1. The bytes come from the coordinator, and must have the digest that was asked for, computed here.
2. Who has signed is what the log has, each statement judged again by the member list. The log was read whole, so nobody can be left out.
3. The plan of this name that was launched or approved last is looked for in the same log. What was launched is in it whole; of what was approved only,
   the log has the digest, and the bytes must have that.
4. Accounts and what policies say are the coordinator's word, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from coordinator.console.desk.checks import Checks, stopping
from coordinator.console.desk.looking import FIRST, Looked, Trust
from coordinator.console.desk.memory import Kept, Memory, require_kept
from coordinator.console.desk.session import Session
from coordinator.desk import Desk
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding, standing_of
from protos.approvals import (
    APPROVING,
    PlanEvidence,
    PlanStatement,
    approve,
    require_approved,
    require_statement,
)
from protos.contract import Contract
from protos.log_entries import MembersSigned, PlanRecorded, RunLaunched
from protos.log_office import PlanApproved, PlanProposed
from protos.membership import Membership, Officer, Role, Trusted, check_members
from protos.plan import Plan
from protos.plan_diff import PlanDiff, diff
from protos.plan_fit import check_contract, check_plan
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

BYTES: Final = "The plan's bytes"
PROPOSED: Final = "The proposal"
SIGNED: Final = "Who has signed"
BEFORE: Final = "The plan before"
LISTED: Final = "For this federation"
PLAN_CHECKS: Final = (*FIRST, BYTES, LISTED, PROPOSED, SIGNED, BEFORE)
TYPED: Final = 8
"""Digits of the digest that whoever signs types."""
_CANDIDATES: Final = 50
_FEW: Final = 5


@dataclass(frozen=True, slots=True)
class Before:
    """The plan of the same name that was launched or approved last, by the log; `words` say where that stands."""

    plan: Plan
    contract: Contract
    words: str


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
        lambda: _bytes(session.desk, plan, contract),
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
        lambda: _evidence(memory, sent.plan, sent.contract, trusted, now),
        lambda it: (
            f"{len(it.approvals)} approvals are in the log, and each is signed by an officer on the member list"
        ),
    )
    view.found = ProposedPlan(plan=sent.plan, contract=sent.contract, evidence=evidence)
    view.standing = standing_of(sent.plan, sent.contract, evidence, trusted, now)
    view.before = checks.hold(
        BEFORE,
        lambda: _before(session, sent.plan, trusted),
        lambda it: "none of this name was launched or approved before" if it is None else it.words,
    )
    if view.before is not None:
        view.changes = diff(view.before.plan, view.before.contract, sent.plan, sent.contract)
    view.newest = _newest(memory, sent.plan.name)
    view.roles = tuple(role for role in APPROVING if role in officer.roles)
    view.hinders = _hinders(view, officer, proposal[1])


def _bytes(desk: Desk, plan: str, contract: str) -> ProposedPlan:
    sent, _ = desk.plan(plan, contract)
    for what, document, asked in (("plan", sent.plan, plan), ("contract", sent.contract, contract)):
        if sha256_hex(document.canonical) != asked:
            raise Refused(
                f"the bytes that were sent have digest {document.digest}, and the {what} that was asked for is {asked}: it is another {what}"
            )
    return sent


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
        if _statement(each).contract == sent.contract.digest
    ]
    kept = require_kept(
        mine, f"plan {digest[:12]} having been proposed under contract {sent.contract.digest[:12]}"
    )
    said = _statement(kept)
    require_statement(said, sent.plan, sent.contract, trusted, [sent.plan.approval_rule], now)
    return kept, said


def _statement(kept: Kept) -> PlanStatement:
    what = kept.entry.what
    if not isinstance(what, PlanProposed | PlanApproved):
        raise Refused(f"entry {kept.seq} is no statement about a plan")
    return what.statement


def _evidence(
    memory: Memory, plan: Plan, contract: Contract, trusted: Trusted, now: datetime | None
) -> PlanEvidence:
    """Who has signed a plan, by the log. A statement that no longer counts, such as that of an officer who left, is left out; the author's must count."""
    evidence = PlanEvidence()
    for kind in ("proposed", "approved"):
        for each in memory.of_subject(kind, plan.digest):
            said = _statement(each)
            if said.contract != contract.digest:
                continue
            try:
                require_statement(said, plan, contract, trusted, [plan.approval_rule], now)
            except Refused:
                continue
            evidence = _adding(evidence, said)
    return evidence


def _adding(evidence: PlanEvidence, said: PlanStatement) -> PlanEvidence:
    try:
        return evidence.adding(said)
    except UsageError as error:
        raise Refused(str(error)) from error


def _hinders(view: PlanAtDesk, officer: Officer, author: PlanStatement) -> str | None:
    if author.officer == officer.name:
        return "You are its author; somebody else must approve it."
    if not view.roles:
        return f"You are {', '.join(officer.roles)}; a plan is approved as {' or '.join(APPROVING)}."
    return None


# --- the plan before --------------------------------------------------------------------------------------------------


def _before(session: Session, plan: Plan, trusted: Trusted) -> Before | None:
    """The last other plan of that name that was launched, or has all approvals. Raises Refused for a launch that does not hold."""
    for digest, contract in _candidates(session.trust.memory, plan):
        found = _launched(session.trust, digest, contract) or _approved(session, digest, contract, trusted)
        if found is not None:
            return found
    return None


def _candidates(memory: Memory, plan: Plan) -> Sequence[tuple[Digest, Digest]]:
    """Other plans of that name, with their contracts, by when the log told of them last, the latest first."""
    told: dict[tuple[Digest, Digest], int] = {}
    for each in memory.of_name(("plan", "approved"), plan.name, _CANDIDATES):
        what = each.entry.what
        if isinstance(what, PlanRecorded):
            key = what.plan.digest, what.contract.digest
        else:
            said = _statement(each)
            key = said.plan, said.contract
        if key[0] != plan.digest and key not in told:
            launched = memory.of_subject("launch", key[0], 1)
            told[key] = max(each.seq, *(one.seq for one in launched)) if launched else each.seq
    return sorted(told, key=lambda key: told[key], reverse=True)


def _launched(trust: Trust, digest: Digest, contract: Digest) -> Before | None:
    """A plan that was launched: with the evidence, and by the member list, that its launch names."""
    memory = trust.memory
    for kept in reversed(memory.of_subject("launch", digest, _FEW)):
        launch = kept.entry.what
        if not isinstance(launch, RunLaunched) or launch.contract != contract:
            continue
        plan, agreed, evidence = _recorded(memory, launch)
        listed = require_kept(
            memory.of_subject("members", launch.members), f"member list {launch.members[:12]}"
        )
        members = listed.entry.what
        if not isinstance(members, MembersSigned):
            raise Refused(f"entry {listed.seq} is no member list")
        trusted = members.members.read_as(Membership).verify(trust.pinned)
        require_approved(plan, agreed, evidence, trusted, [plan.approval_rule], None)
        return Before(
            plan, agreed, f"{digest[:12]}, launched as {launch.run} (entry {kept.seq}); the log has it whole"
        )
    return None


def _recorded(memory: Memory, launch: RunLaunched) -> tuple[Plan, Contract, PlanEvidence]:
    """What a launch names, from the log. Raises Refused where the log has it not."""
    for kept in memory.of_subject("plan", launch.plan):
        what = kept.entry.what
        if not isinstance(what, PlanRecorded) or what.contract.digest != launch.contract:
            continue
        evidence = what.evidence
        if (None if evidence is None else evidence.digest) == launch.evidence:
            read = PlanEvidence() if evidence is None else evidence.read_as(PlanEvidence)
            return what.plan.read_as(Plan), what.contract.read_as(Contract), read
    raise Refused(
        f"{launch.run} was launched under plan {launch.plan[:12]}, which is not in the log with its evidence"
    )


def recorded_author(memory: Memory, run: str) -> str | None:
    """Who wrote the plan of a run, by the log. Raises Refused where the log has no such launch."""
    kept = require_kept(memory.of_name(("launch",), run, 1), f"{run} having been launched")
    launch = kept.entry.what
    if not isinstance(launch, RunLaunched):
        raise Refused(f"entry {kept.seq} is no launch")
    author = _recorded(memory, launch)[2].author
    return None if author is None else author.officer


def _approved(session: Session, digest: Digest, contract: Digest, trusted: Trusted) -> Before | None:
    """A plan that has all approvals by the log; its bytes must have the digest that the log names."""
    sent = _bytes(session.desk, digest, contract)
    evidence = _evidence(session.trust.memory, sent.plan, sent.contract, trusted, None)
    try:
        require_approved(sent.plan, sent.contract, evidence, trusted, [sent.plan.approval_rule], None)
    except Refused:
        return None
    return Before(
        sent.plan,
        sent.contract,
        f"{digest[:12]}, approved by {_names(evidence)} and not launched; the log has its digest, and these bytes have it",
    )


def _names(evidence: PlanEvidence) -> str:
    return " and ".join(each.officer for each in evidence.approvals) or "nobody"


def _newest(memory: Memory, name: str) -> Digest | None:
    """The plan of that name that was proposed last."""
    found = memory.of_name(("proposed",), name, 1)
    return _statement(found[0]).plan if found else None


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
