"""Halts that stand, forks of the log, and accounts that a gap left unsettled: what keeps everything from going on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.console.attention.matter import FEW, Looking, Matter, Urgency, cut
from coordinator.db.engine import reading
from coordinator.db.halt_schema import HaltRow
from coordinator.db.ledger_schema import LedgerAccount
from coordinator.db.recovery_schema import AdoptedSite
from coordinator.db.witness_schema import ForkRow
from coordinator.governance.witnesses import SET_BACK
from coordinator.ledger.adoption import newest_gap
from protos.halt_lifts import LIFT_RULE, HaltLift
from protos.halts import HaltOrder

_LIST: Final = "covenant.governance.v1.Halts/ListHalts"
_ACCOUNTS: Final = "covenant.governance.v1.Ledger/ListAccounts"


def find(looking: Looking) -> Iterator[Matter]:
    """What stands in the way."""
    with reading(looking.visit.centre.engine, "looking what stands in the way") as session:
        if looking.visit.may(_LIST):
            yield from _halts(looking, session)
        yield from _forks(session)
        if looking.visit.may(_ACCOUNTS):
            yield from _unsettled(session)


def _halts(looking: Looking, session: Session) -> Iterator[Matter]:
    query = select(HaltRow).where(HaltRow.lifted_at.is_(None)).order_by(HaltRow.halted_at.desc())
    for row in session.scalars(query.limit(FEW)):
        order = HaltOrder.from_canonical(row.order.encode())
        lift = None if row.lift is None else HaltLift.from_canonical(row.lift.encode())
        said = () if lift is None else tuple(each.officer for each in lift.statements)
        mine = looking.is_any(*LIFT_RULE.roles) and looking.name not in said
        waits = f"; {', '.join(said)} would lift it" if said else ""
        yield Matter(
            urgency=Urgency.NOW,
            what=f"{order.what} is halted by {order.by.words}: {cut(order.reason)}{waits}",
            todo=_lifting(said=bool(said), mine=mine),
            path="/halt" if not mine else "/",
            label="See the halts" if not mine else "Open your desk",
            at=row.halted_at,
            desk=mine,
        )


def _lifting(*, said: bool, mine: bool) -> str:
    if not mine:
        return f"It stays until {LIFT_RULE.words} have signed that it may be lifted."
    if said:
        return "Your signature would lift it: look at the cause, then sign at your desk."
    return f"Find the cause. {LIFT_RULE.officers} officers sign at their desks that it may be lifted; you may be one."


def _forks(session: Session) -> Iterator[Matter]:
    query = select(ForkRow).where(ForkRow.settled_at.is_(None)).order_by(ForkRow.id.desc())
    for row in session.scalars(query.limit(FEW)):
        stands = row.shows != SET_BACK
        yield Matter(
            urgency=Urgency.NOW if stands else Urgency.SOON,
            what=f"{row.site} has shown evidence {row.id} about the log ({row.shows}), and nobody has dealt with it",
            todo="Nothing is launched before: have the log verified with the officers' own root, and follow the runbook."
            if stands
            else "The site's journal was set back: ask its operator, and say what was done with `covenant log settle-evidence`.",
            path="/log/head",
            label="See the evidence",
            at=row.found_at,
        )


def _unsettled(session: Session) -> Iterator[Matter]:
    gap = newest_gap(session)
    if gap is None:
        return
    adopted = select(AdoptedSite.site).where(AdoptedSite.gap_entry == gap)
    query = select(LedgerAccount.site).where(LedgerAccount.site.not_in(adopted)).distinct()
    sites = session.scalars(query.order_by(LedgerAccount.site).limit(FEW + 1)).all()
    if sites:
        named = ", ".join(sites[:FEW]) + (" and others" if len(sites) > FEW else "")
        yield Matter(
            urgency=Urgency.SOON,
            what=f"Since the gap in the log the accounts of {named} are unsettled: nothing is reserved there",
            todo="Each site exports its statement with `covenant-agent budget --export`; read it with `covenant ledger reconcile`.",
            path="/budgets",
            label="See the budgets",
        )
