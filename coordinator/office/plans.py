"""Plans at the centre: proposed by their author, approved by officers, one statement at a time.

1. What is proposed is a plan that could be launched but for its approvals: it fits its contract and the member list in use.
2. Each statement is judged before it is kept, as a launch and every site judge it again. The author never approves.
3. A proposal and an approval are each one transaction with their entry in the log; two officers at once both count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.office_schema import StoredPlan
from coordinator.db.schema import DIGEST_LENGTH
from coordinator.documents import read_listed, read_members
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from coordinator.office.standing import PlanStanding, standing_of
from protos.approvals import PlanEvidence, PlanStatement, require_statement
from protos.contract import Contract
from protos.log_entries import MembersSigned
from protos.log_office import PlanApproved, PlanProposed
from protos.membership import Trusted, check_members
from protos.plan import Plan
from protos.plan_fit import check_contract, check_plan
from strategies.errors import Refused, UsageError

FEWEST_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedPlan:
    """A plan as it was proposed, and what was said about it since."""

    plan: Plan
    contract: Contract
    evidence: PlanEvidence


def propose(
    centre: Centre,
    actor: Actor,
    plan: Plan,
    contract: Contract,
    statement: PlanStatement,
    asked: Asked | None = None,
) -> PlanStanding:
    """Keep a plan with its author's statement; returns how far it is approved then. Raises `CovenantError`."""
    at = centre.clock()

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        actor.require_own(statement.officer, "the statement of authorship")
        if statement.act != "author":
            raise Refused(f"{statement.words} proposes no plan; its author's statement does")
        check_contract(plan, contract)
        check_plan(plan, contract)
        check_members(plan, listed.trusted.members)
        require_statement(statement, plan, contract, listed.trusted, [plan.approval_rule], at)
        with writing(centre.engine, f"proposing plan {plan.name}") as session:
            remember(session, "")
            if _keep(session, plan, contract, statement, at):
                _tell(session, at, listed, PlanProposed(plan=plan.name, statement=statement))
        return ""

    once(centre, asked, at, act)
    return standing(centre, find_plan(centre, plan.digest, contract.digest))


def approve(
    centre: Centre, actor: Actor, statement: PlanStatement, asked: Asked | None = None
) -> PlanStanding:
    """Keep an approval of a plan that was proposed; returns how far it is approved then. Raises `CovenantError`."""
    at = centre.clock()

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        actor.require_own(statement.officer, "the approval")
        actor.require([statement.role], f"an approval as {statement.role}")
        if statement.act != "approve":
            raise Refused(f"{statement.words} approves nothing; propose the plan with it")
        with writing(centre.engine, f"approving plan {statement.plan[:FEWEST_DIGITS]}") as session:
            remember(session, "")
            row = session.get(StoredPlan, (statement.plan, statement.contract), with_for_update=True)
            if row is None:
                raise Refused(
                    f"no plan {statement.plan[:FEWEST_DIGITS]} with contract {statement.contract[:FEWEST_DIGITS]} was proposed here: a plan"
                    " with one changed value is another plan; its author proposes it with `covenant plan sign --access`"
                )
            found = _proposed(row)
            rules = [found.plan.approval_rule]
            require_statement(statement, found.plan, found.contract, listed.trusted, rules, at)
            if statement in found.evidence.statements:
                return ""
            row.evidence = _adding(found.evidence, statement).canonical.decode()
            session.flush()
            _tell(session, at, listed, PlanApproved(plan=found.plan.name, statement=statement))
        return ""

    once(centre, asked, at, act)
    return standing(centre, find_plan(centre, statement.plan, statement.contract))


def find_plan(centre: Centre, plan: str, contract: str = "") -> ProposedPlan:
    """The plan with a digest that begins with `plan`. Raises UsageError where there is none, or several."""
    if not FEWEST_DIGITS <= len(plan) <= DIGEST_LENGTH or set(plan) - set("0123456789abcdef"):
        raise UsageError(
            f"{plan[:70]!r} names no plan; use its digest, or {FEWEST_DIGITS} or more digits of it"
        )
    whole = len(plan) == DIGEST_LENGTH  # which an index finds
    query = select(StoredPlan).where(
        StoredPlan.digest == plan if whole else StoredPlan.digest.startswith(plan, autoescape=True)
    )
    if contract:
        query = query.where(StoredPlan.contract_digest == contract)
    with reading(centre.engine, "looking for a plan") as session:
        rows = session.scalars(query.limit(2)).all()
    if not rows:
        raise UsageError(f"no plan {plan} was proposed here; `covenant plan list` shows those there are")
    if len(rows) > 1:
        raise UsageError(f"several plans {plan} were proposed; give all digits, and the contract's digest")
    return _proposed(rows[0])


def standing(centre: Centre, found: ProposedPlan, trusted: Trusted | None = None) -> PlanStanding:
    """How far a plan is approved now. Raises Refused without a member list."""
    trusted = trusted or read_members(centre.settings)[1]
    return standing_of(found.plan, found.contract, found.evidence, trusted, centre.clock())


def list_plans(centre: Centre, start: int, limit: int | None) -> Sequence[PlanStanding]:
    """The plans from `start` on, the latest first, at most `limit` if there is one."""
    order = (StoredPlan.proposed_at.desc(), StoredPlan.digest, StoredPlan.contract_digest)
    with reading(centre.engine, "listing plans") as session:
        rows = session.scalars(select(StoredPlan).order_by(*order).offset(start).limit(limit)).all()
    trusted = read_members(centre.settings)[1] if rows else None
    return [standing(centre, _proposed(row), trusted) for row in rows]


def _keep(session: Session, plan: Plan, contract: Contract, statement: PlanStatement, at: datetime) -> bool:
    """Whether its author's statement is a new one, which the plan's row has then."""
    row = session.get(StoredPlan, (plan.digest, contract.digest), with_for_update=True)
    before = PlanEvidence() if row is None else PlanEvidence.from_canonical(row.evidence.encode())
    if statement in before.statements:
        return False
    evidence = _adding(before, statement)
    if row is None:
        session.add(
            StoredPlan(
                digest=plan.digest,
                contract_digest=contract.digest,
                name=plan.name,
                plan=plan.canonical.decode(),
                contract=contract.canonical.decode(),
                evidence=evidence.canonical.decode(),
                proposed_by=statement.officer,
                proposed_at=at,
            )
        )
    else:
        row.evidence = evidence.canonical.decode()
    _flush(session, plan)
    return True


def _adding(before: PlanEvidence, statement: PlanStatement) -> PlanEvidence:
    """Evidence with one more statement. Raises Refused where author and approver would be one, or two the author."""
    try:
        return before.adding(statement)
    except UsageError as error:
        raise Refused(str(error)) from error


def _proposed(row: StoredPlan) -> ProposedPlan:
    return ProposedPlan(
        plan=Plan.from_canonical(row.plan.encode()),
        contract=Contract.from_canonical(row.contract.encode()),
        evidence=PlanEvidence.from_canonical(row.evidence.encode()),
    )


def _flush(session: Session, plan: Plan) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        raise Refused(
            f"plan {plan.name} was proposed by another call at this moment; look, and propose it again"
        ) from error


def _tell(session: Session, at: datetime, listed: Listed, what: PlanProposed | PlanApproved) -> None:
    append(session, at, _entries(session, listed, what))


def _entries(
    session: Session, listed: Listed, what: PlanProposed | PlanApproved
) -> Iterator[MembersSigned | PlanProposed | PlanApproved]:
    yield from members_signed(session, listed)
    yield what
