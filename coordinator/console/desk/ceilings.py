"""Ceilings of accounts at the desk: drafted, shown beside what the log has, and signed, one privacy officer after the other.

1. What holds before is the log's last decision on the account, and not the coordinator's word. All decisions on it are judged again here, each by the
   member list that the log had then: one that nobody signed, or too few, would make raising look like lowering. What is spent is the coordinator's word.
2. A draft is made here. It goes from officer to officer as a file: what each signs is what their own desk shows, signatures of others checked.
3. Once enough have signed for what the decision does, it is handed in; the coordinator judges it again, and the log has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from coordinator.console.desk.accounts import Told, told_account
from coordinator.console.desk.checks import Checks, stopping
from coordinator.console.desk.looking import Looked, Trust
from coordinator.console.desk.memory import Kept
from coordinator.console.desk.session import Session
from coordinator.ledger.books import InForce
from coordinator.ledger.ceilings import Proposal, decided_by, loosened
from coordinator.ledger.needs import AccountKey
from protos.ceilings import CeilingDecision, DecidedCeiling, SignedCeiling
from protos.documents import make_document
from protos.log_budgets import QUORUM, Budgets
from protos.log_entries import CeilingSet, MembersSigned
from protos.membership import Membership, Officer, Role, Trusted
from strategies.errors import Refused

SIGNED_FOR: Final = "The decision"
BEFORE: Final = "The ceiling before"
HELD: Final = "What is spent"
CHECKS: Final = (SIGNED_FOR, BEFORE, HELD)


@dataclass
class CeilingAtDesk:
    """What was found of a decision; where a check failed, what rests on it is None. `officers` is how many it takes, `loosens` why more than one."""

    signed: SignedCeiling
    checks: Checks = field(default_factory=Checks)
    before: InForce | None = None
    told: Told | None = None
    officers: int = 1
    loosens: str = ""
    hinders: str | None = None

    @property
    def key(self) -> AccountKey:
        """The account."""
        return key_of(self.signed.decision)

    @property
    def last(self) -> bool:
        """Whether the signature of whoever has not signed yet is the last that it takes."""
        return len(self.signed.statements) + 1 >= self.officers

    @property
    def shown(self) -> Mapping[str, Any]:
        """All that a signature rests on."""
        return {
            "the decision": self.signed.decision.digest,
            "the decision before": 0 if self.before is None else self.before.seq,
            "signatures": sorted(each.officer for each in self.signed.statements),
            "what is spent": "nothing" if self.told is None else self.told.account.guarantee().words,
        }


def key_of(decision: CeilingDecision) -> AccountKey:
    """The account that a decision is about."""
    return AccountKey.of(decision.site, decision.population, decision.terms.unit)


def draft(session: Session, looked: Looked, key: AccountKey, proposal: Proposal) -> SignedCeiling:
    """The next decision on an account, by the log, signed by nobody yet. Raises Refused where a check failed, UsageError for values out of bounds."""
    trusted, _ = looked.sound
    before = in_force(session, key)
    decision = make_document(
        CeilingDecision,
        f"the decision on {key.words}",
        federation=trusted.federation,
        site=key.site,
        population=key.population,
        number=1 if before is None else before.seq + 1,
        ceiling=proposal.ceiling(None if before is None else before.ceiling.order).facts(),
        alert_at=proposal.alert_at if proposal.alert_at is not None or before is None else before.alert_at,
        overlaps=proposal.overlaps if proposal.overlaps is not None or before is None else before.overlaps,
        reason=proposal.reason,
        at=session.clock(),
    )
    return SignedCeiling(decision=decision)


def in_force(session: Session, key: AccountKey) -> InForce | None:
    """The last decision on an account that the log has. Raises Refused where the log's decisions on it are not by the rules."""
    trust, budgets, last = session.trust, Budgets(), None
    lists: dict[int, Trusted] = {}  # a list of many sites takes long to verify, and many decisions are by one
    for kept in trust.memory.of_subject("ceiling", key.words):
        try:
            last = _decided(trust, kept, lists)
            budgets.set_ceiling(last)
        except Refused as refused:
            raise Refused(
                f"entry {kept.seq} of the log decides about {key.words} not as the rules have it ({refused}). Sign nothing, and tell the other officers"
            ) from refused
    return None if last is None else decided_by(last.decision)


def _decided(trust: Trust, kept: Kept, lists: dict[int, Trusted]) -> DecidedCeiling:
    """A decision in the log, by the member list that is before it there; `lists` are those verified so far, by their entry. Raises Refused."""
    what, listed = kept.entry.what, trust.memory.last_before("members", kept.seq)
    if not isinstance(what, CeilingSet) or listed is None or not isinstance(listed.entry.what, MembersSigned):
        raise Refused("it is no decision on a ceiling, or no member list is before it")
    if listed.seq not in lists:
        lists[listed.seq] = listed.entry.what.members.read_as(Membership).verify(trust.pinned)
    return what.decision.read_as(SignedCeiling).require(lists[listed.seq], kept.entry.at)


def ceiling_at_desk(session: Session, looked: Looked, signed: SignedCeiling) -> CeilingAtDesk:
    """Look at a decision. Raises Unreachable."""
    view = CeilingAtDesk(signed, looked.checks)
    if looked.checks.hold_all:
        with stopping():
            _check(view, session, looked)
    looked.checks.open(CHECKS)
    return view


def _check(view: CeilingAtDesk, session: Session, looked: Looked) -> None:
    trusted, officer = looked.sound
    signed, decision, checks = view.signed, view.signed.decision, view.checks
    checks.hold(
        SIGNED_FOR,
        lambda: _require_sound(signed, trusted, session.clock()),
        lambda _: (
            f"{decision.words}, for this federation; signed by {', '.join(each.officer for each in signed.statements) or 'nobody yet'}"
        ),
    )
    view.before = checks.hold(
        BEFORE,
        lambda: _before(session, decision),
        lambda it: (
            "by the log, this account has none yet"
            if it is None
            else f"by the log, decision {it.seq}: {it.ceiling.words}"
        ),
    )
    view.told = checks.hold(
        HELD,
        lambda: _told(session, decision, view.before),
        lambda it: "nothing: the account is opened by this decision" if it is None else it.words,
    )
    if view.before is not None:
        view.loosens = loosened(view.before, decided_by(decision))
    view.officers = QUORUM if view.loosens else 1
    view.hinders = _hinders(signed, officer)


def _require_sound(signed: SignedCeiling, trusted: Trusted, now: datetime) -> None:
    """Raise Refused for a decision of another federation, one that is too old or dated ahead, and for any signature in it that does not count."""
    decision = signed.decision
    if signed.statements:
        signed.require(trusted, now)
    elif decision.federation != trusted.federation:
        raise Refused(f"{decision.words} is for another federation")
    else:
        decision.require_current(now)


def _before(session: Session, decision: CeilingDecision) -> InForce | None:
    found = in_force(session, key_of(decision))
    due = 1 if found is None else found.seq + 1
    if decision.number != due:
        raise Refused(
            f"this is decision {decision.number} on the account, and by the log decision {due} is next: another one was in between; draft it again"
        )
    if found is not None and found.ceiling.order != decision.terms.order:
        raise Refused(
            f"the filter's order is {found.ceiling.order} by the log, and this decision has {decision.terms.order}: an order never changes"
        )
    return found


def _told(session: Session, decision: CeilingDecision, before: InForce | None) -> Told | None:
    """What the account holds, held against the new ceiling. Raises BudgetRefused for one below what is spent, Refused where it is told otherwise than logged."""
    found = told_account(session.desk, key_of(decision))
    if (found is None) != (before is None):
        raise Refused(
            "the coordinator and its log differ in whether there is such an account; tell the other officers"
        )
    if found is None or before is None:
        return None
    if found.account.ceiling != before.ceiling:
        raise Refused(
            f"the coordinator says that the ceiling is {found.account.ceiling.words}, and its log has {before.ceiling.words}; tell the other officers"
        )
    replace(found.account, ceiling=decision.terms).require_held()
    return found


def _hinders(signed: SignedCeiling, officer: Officer) -> str | None:
    if Role.PRIVACY_OFFICER not in officer.roles:
        return f"You are {', '.join(officer.roles)}; ceilings are decided by privacy officers."
    if officer.name in {each.officer for each in signed.statements}:
        return "You have signed it. Send it to another privacy officer."
    return None


def sign(view: CeilingAtDesk, session: Session, looked: Looked) -> SignedCeiling:
    """The decision with the officer's signature. Raises Refused unless every check holds."""
    if not view.checks.hold_all:
        failed = view.checks.failed
        raise Refused(f"nothing was signed: {'a check is open' if failed is None else failed.words}")
    if view.hinders is not None:
        raise Refused(f"nothing was signed: {view.hinders}")
    _, officer = looked.sound
    return view.signed.signed_with(officer.name, session.trust.signer)
