"""What the log says of plans: who has signed one, and which of a name was launched or approved last.

1. The log was read whole (`looking`), so what is not found here is not there.
2. A plan before is one that people approved, in each role that is asked now: else whoever writes plans could launch one that asks for nobody, and have its
   changes pass for what was there before.
3. What was launched is in the log whole, with its evidence, and is judged by the member list that its launch names. Of what was approved only, the log has
   the digest, and the bytes that the coordinator sends must have that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from coordinator.console.desk.looking import Trust
from coordinator.console.desk.memory import Kept, Memory, require_kept
from coordinator.console.desk.session import Session
from coordinator.desk import Desk
from coordinator.office.plans import ProposedPlan
from protos.approvals import PlanEvidence, PlanStatement, lacking, require_approved, require_statement
from protos.contract import Contract
from protos.log_entries import MembersSigned, PlanRecorded, RunLaunched
from protos.log_office import PlanApproved, PlanProposed
from protos.membership import Membership, Trusted
from protos.plan import Plan
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_CANDIDATES: Final = 50
_FEW: Final = 5


@dataclass(frozen=True, slots=True)
class Before:
    """The plan of the same name that was launched or approved last, by the log; `words` say where that stands."""

    plan: Plan
    contract: Contract
    words: str


def bytes_of(desk: Desk, plan: str, contract: str) -> ProposedPlan:
    """The plan with these digests. Raises Refused for other bytes than have them."""
    sent, _ = desk.plan(plan, contract)
    for what, document, asked in (("plan", sent.plan, plan), ("contract", sent.contract, contract)):
        if sha256_hex(document.canonical) != asked:
            raise Refused(
                f"the bytes that were sent have digest {document.digest}, and the {what} that was asked for is {asked}: it is another {what}"
            )
    return sent


def statement_of(kept: Kept) -> PlanStatement:
    """The statement in an entry of a proposal or an approval. Raises Refused for another entry."""
    what = kept.entry.what
    if not isinstance(what, PlanProposed | PlanApproved):
        raise Refused(f"entry {kept.seq} is no statement about a plan")
    return what.statement


def evidence_of(
    memory: Memory, plan: Plan, contract: Contract, trusted: Trusted, now: datetime | None
) -> PlanEvidence:
    """Who has signed a plan, by the log. A statement that no longer counts, such as that of an officer who left, is left out; the author's must count."""
    evidence = PlanEvidence()
    for kind in ("proposed", "approved"):
        for each in memory.of_subject(kind, plan.digest):
            said = statement_of(each)
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


def plan_before(session: Session, plan: Plan, trusted: Trusted) -> Before | None:
    """The last other plan of that name that was launched, or has all approvals, and was approved in each role that `plan` asks for. Raises Refused for a launch that does not hold, and where too many were signed in
    vain since to say that there is none: whoever writes the log could hide the last one behind them."""
    candidates, more = _candidates(session.trust.memory, plan)
    for digest, contract in candidates:
        found = _launched(session.trust, digest, contract, plan) or _approved(
            session, digest, contract, trusted, plan
        )
        if found is not None:
            return found
    if more:
        raise Refused(
            f"by the log, plans called {plan.name} were signed more than {_CANDIDATES} times since one was launched or approved, if one was: what changed"
            " cannot be shown. Propose it under a name of its own, and ask who signed the others"
        )
    return None


def _candidates(memory: Memory, plan: Plan) -> tuple[Sequence[tuple[Digest, Digest]], bool]:
    """Other plans of that name, with their contracts, by when the log told of them last, the latest first; and whether there are more than were looked at."""
    told: dict[tuple[Digest, Digest], int] = {}
    kept = memory.of_name(("plan", "approved"), plan.name, _CANDIDATES + 1, but=plan.digest)
    for each in kept[:_CANDIDATES]:
        what = each.entry.what
        if isinstance(what, PlanRecorded):
            key = what.plan.digest, what.contract.digest
        else:
            said = statement_of(each)
            key = said.plan, said.contract
        if key not in told:
            launched = memory.of_subject("launch", key[0], 1)
            told[key] = max(each.seq, *(one.seq for one in launched)) if launched else each.seq
    return sorted(told, key=lambda key: told[key], reverse=True), len(kept) > _CANDIDATES


def _asked_alike(asking: Plan, evidence: PlanEvidence, trusted: Trusted) -> bool:
    """Whether a plan was approved in each role that another one asks for, however often."""
    rule = asking.approval_rule
    once = rule.model_copy(
        update={
            "privacy_officer": min(1, rule.privacy_officer),
            "model_risk": min(1, rule.model_risk),
        }
    )
    return not any(lacking([once], evidence, trusted.members))


def _launched(trust: Trust, digest: Digest, contract: Digest, asking: Plan) -> Before | None:
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
        if not _asked_alike(asking, evidence, trusted):
            continue
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


def _approved(
    session: Session, digest: Digest, contract: Digest, trusted: Trusted, asking: Plan
) -> Before | None:
    """A plan that has all approvals by the log; its bytes must have the digest that the log names."""
    try:
        sent = bytes_of(session.desk, digest, contract)
    except UsageError as error:
        raise Refused(
            f"by the log plan {digest[:12]} was approved, and the coordinator does not have it ({error}); its author hands it in again with `covenant plan"
            " sign --access`, so that the difference from it can be shown"
        ) from error
    evidence = evidence_of(session.trust.memory, sent.plan, sent.contract, trusted, None)
    try:
        require_approved(sent.plan, sent.contract, evidence, trusted, [sent.plan.approval_rule], None)
    except Refused:
        return None
    if not _asked_alike(asking, evidence, trusted):
        return None
    return Before(
        sent.plan,
        sent.contract,
        f"{digest[:12]}, approved by {_names(evidence)} and not launched; the log has its digest, and these bytes have it",
    )


def _names(evidence: PlanEvidence) -> str:
    return " and ".join(each.officer for each in evidence.approvals) or "nobody"
