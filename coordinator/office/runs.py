"""Runs as officers change them: launched, stopped, resumed, each request once."""

from __future__ import annotations

from coordinator import runs
from coordinator.bootstrap import Centre
from coordinator.office.actors import Actor
from coordinator.office.plans import ProposedPlan
from coordinator.office.requests import Asked, Remember, once
from strategies.ids import RunId, run_id


def launch(centre: Centre, actor: Actor, what: ProposedPlan, asked: Asked | None = None) -> RunId:
    """Launch an approved plan; a request that comes again gets the run that it launched. Raises `CovenantError`.

    Who launches needs no part in the plan: it is launched as its author and its approvers signed it.
    """
    del actor  # its role is all that is asked, and was checked at the door

    def act(remember: Remember) -> str:
        return runs.launch_read(centre, what.plan, what.contract, what.evidence, first=remember)

    return run_id(once(centre, asked, centre.clock(), act))


def stop(centre: Centre, actor: Actor, run: RunId, asked: Asked | None = None) -> None:
    """Stop a run; what it committed stays. A request that comes again stops nothing that was resumed since. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        runs.stop(centre, run, actor.name, first=lambda session, _run: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)


def resume(centre: Centre, actor: Actor, run: RunId, asked: Asked | None = None) -> None:
    """Go on with a failed or stopped run. Raises `CovenantError`."""
    del actor  # its role is all that is asked, and was checked at the door

    def act(remember: Remember) -> str:
        runs.resume(centre, run, first=lambda session, _run: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
