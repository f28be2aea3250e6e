"""Halts as officers give and lift them at the centre, each request once. What they hand in is signed, and judged again by sites and auditors."""

from __future__ import annotations

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.governance import halts
from coordinator.governance.halts import HaltView
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder


def give(centre: Centre, actor: Actor, order: HaltOrder, asked: Asked | None = None) -> HaltView:
    """Record an order to halt, whoever signed it: to stop is safe. Raises `CovenantError`."""
    del actor  # an order says by whom it is

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        halts.halt(centre, order, listed, first=lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
    return halts.view(centre.engine, order.id)


def say_lift(
    centre: Centre, actor: Actor, halt_id: str, statement: LiftStatement, asked: Asked | None = None
) -> HaltView:
    """Record an officer's own word that a halt may be lifted. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        actor.require_own(statement.officer, "the word to lift a halt")
        listed = read_listed(centre.settings)
        halts.say_lift(centre, halt_id, statement, listed, first=lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
    return halts.view(centre.engine, halt_id)
