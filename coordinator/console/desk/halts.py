"""Halts at the desk: given with the officer's own key, whatever the checks say, because to stop is safe; lifted only where every check holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, cast

from coordinator.console.desk.checks import Check, stopping
from coordinator.console.desk.looking import Looked
from coordinator.console.desk.memory import require_kept
from coordinator.console.desk.session import Session
from coordinator.governance.halts import HaltView
from protos.halt_lifts import LIFT_RULE, LiftStatement, state_lift
from protos.halts import HaltOrder, HaltScope, OrderedBy, order_halt
from protos.log_entries import Halted
from protos.membership import Officer
from strategies.errors import Refused, UsageError

ORDERED: Final = "The order"
_MOST: Final = 200


def standing(session: Session) -> Sequence[HaltView]:
    """Halts that stand, by the coordinator's word."""
    return [each for each in islice(session.desk.halts(), _MOST) if each.lifted_at is None]


def give(session: Session, officer: Officer | None, scope: str, target: str, reason: str) -> HaltView:
    """Order a halt. Raises CovenantError."""
    if officer is None:
        raise Refused(
            "the member list could not be checked, so nobody knows who you are; halt with `covenant halt`, or at the console"
        )
    if scope not in {"all", "run", "site"}:
        raise UsageError("choose what to halt: everything, a run, or a site")
    order = order_halt(
        session.trust.pinned.root.identity,
        cast("HaltScope", scope),
        target.strip() or None,
        reason.strip(),
        OrderedBy(kind="officer", name=officer.name),
        session.trust.signer,
        at=session.clock(),
        entropy=os.urandom(16),
    )
    return session.desk.give_halt(order)


def halt_at_desk(session: Session, looked: Looked, halt: str) -> HaltView | None:
    """The halt with this id, if every check holds and the log has its order; the list of checks has what does not. Raises Unreachable."""
    found: list[HaltView] = []
    if looked.checks.hold_all:
        with stopping():
            found.append(
                looked.checks.hold(
                    ORDERED,
                    lambda: _logged(session, halt),
                    lambda it: f"the log has this order: {it.order.words}",
                )
            )
    looked.checks.open((ORDERED,))
    return found[0] if found else None


def shown(view: HaltView) -> dict[str, Any]:
    """All that a signature rests on. An id is whoever ordered's choice: two orders may have one, and the lift is of one of them."""
    return {"the order": view.order.digest}


def _logged(session: Session, halt: str) -> HaltView:
    found = session.desk.halt(halt)
    memory, digest = session.trust.memory, found.order.digest
    what = require_kept(memory.of_subject("halted", digest), f"halt {halt[:12]}").entry.what
    if not isinstance(what, Halted) or what.order.read_as(HaltOrder) != found.order:
        raise Refused(f"halt {halt[:12]} is another order in the log than was sent")
    if memory.of_subject("halt-lifted", digest):
        raise Refused(f"halt {halt[:12]} is lifted already, by the log")
    return found


def lift(session: Session, view: HaltView | None, looked: Looked, reason: str) -> LiftStatement:
    """The officer's word that the halt may be lifted. Raises Refused unless every check holds."""
    if view is None or not looked.checks.hold_all:
        failed: Check | None = looked.checks.failed
        raise Refused(f"nothing was signed: {'a check is open' if failed is None else failed.words}")
    _, officer = looked.sound
    if not set(officer.roles) & set(LIFT_RULE.roles):
        raise Refused(f"nothing was signed: a halt is lifted by {LIFT_RULE.words}")
    return state_lift(
        view.order.digest, officer.name, reason.strip(), session.trust.signer, at=session.clock()
    )
