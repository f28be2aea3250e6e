"""Deployments as officers decide them, each request once.

Who decides does not carry out: privacy officers and model risk approve a version (`covenant model approve`), and an engineer then brings it to where
it runs. Whoever approves, and whoever engineers, may take a version back or recall it: to stop is safe. Targets are an admin's, as machines are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import TargetRow
from coordinator.db.engine import writing
from coordinator.deploy import orders
from coordinator.deploy.driver import Driver
from coordinator.deploy.effects import carried_out
from coordinator.deploy.inventory import recalls
from coordinator.deploy.issuing import Decided, issuer_of
from coordinator.deploy.opening import open_target, target_of
from coordinator.deploy.recalls import recall_everywhere
from coordinator.deploy.targets.settings import TargetSettings
from coordinator.governance.log import append
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from protos.documents import make_document
from protos.log_deploy_events import TargetAdded
from protos.rollouts import RolloutRules, Step
from strategies.errors import Refused, UsageError

First = Callable[[Session], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is to be brought where, and how it begins. `seen` as in `promote`."""

    name: str
    version: int
    target: str
    step: Step
    rules: RolloutRules
    why: str
    seen: int | None = None


def add_target(
    centre: Centre, actor: Actor, name: str, settings: TargetSettings, asked: Asked | None = None
) -> None:
    """Record a place where models may run. Raises UsageError for a name that is taken."""
    what = make_document(
        TargetAdded,
        "the target",
        name=name,
        target_kind=settings.kind,
        settings=settings.model_dump(mode="json", exclude_none=True),
        by=actor.name,
    )
    target_of(centre, name, settings)  # whatever is wrong with it is said before it is recorded

    def act(remember: Remember) -> str:
        at = centre.clock()
        with writing(centre.engine, f"adding the target {name}") as session:
            remember(session, "")
            if session.get(TargetRow, name) is not None:
                raise UsageError(f"there is a target {name} already; call this one otherwise")
            append(session, at, carried_out(session, at, [what]))
        return ""

    once(centre, asked, centre.clock(), act)


def start(centre: Centre, actor: Actor, what: Start, asked: Asked | None = None) -> str:
    """Begin a rollout; its id. Raises `CovenantError`."""
    issuer, opened = issuer_of(centre), open_target(centre, what.target)

    def act(remember: Remember) -> str:
        rollout = f"rollout-{secrets.token_hex(8)}"
        orders.start(
            issuer,
            _decided(centre, actor, what.why, what.seen),
            rollout=rollout,
            name=what.name,
            version=what.version,
            target=what.target,
            step=what.step,
            rules=what.rules,
            supports=opened.states,
            first=lambda session: remember(session, rollout),
        )
        return rollout

    return once(centre, asked, centre.clock(), act)


def promote(
    centre: Centre,
    actor: Actor,
    target: str,
    step: Step | None,
    why: str,
    asked: Asked | None = None,
    seen: int | None = None,
) -> None:
    """Let what is on trial at `target` go on. `seen` is the newest order that the officer had in sight: another one refuses. Raises `CovenantError`."""
    issuer, opened = issuer_of(centre), open_target(centre, target)
    _change(
        centre,
        asked,
        lambda first: orders.promote(
            issuer, _decided(centre, actor, why, seen), target, step, supports=opened.states, first=first
        ),
    )


def roll_back(
    centre: Centre, actor: Actor, target: str, why: str, asked: Asked | None = None, seen: int | None = None
) -> None:
    """Take the newest rollout of `target` back. `seen` as in `promote`. Raises `CovenantError`."""
    issuer = issuer_of(centre)
    _change(
        centre,
        asked,
        lambda first: orders.roll_back(issuer, _decided(centre, actor, why, seen), target, first=first),
    )


def renew(
    centre: Centre, actor: Actor, target: str, why: str, asked: Asked | None = None, seen: int | None = None
) -> None:
    """Release what serves at `target` anew. `seen` as in `promote`. Raises `CovenantError`."""
    issuer = issuer_of(centre)
    _change(
        centre,
        asked,
        lambda first: orders.renew(issuer, _decided(centre, actor, why, seen), target, first=first),
    )


def recall(
    centre: Centre,
    actor: Actor,
    name: str,
    version: int,
    target: str | None,
    why: str,
    asked: Asked | None = None,
) -> tuple[str, ...]:
    """Order a version off every target, or off one; the targets. Raises Refused where it runs nowhere."""

    def act(remember: Remember) -> str:
        decided = _decided(centre, actor, why)
        with writing(centre.engine, f"recalling {name}@{version}") as session:
            remember(session, "")
            if not recall_everywhere(
                session, name, version, why=why, by=decided.by, at=decided.at, only=target
            ):
                where = "nowhere" if target is None else f"not on {target}"
                raise Refused(
                    f"{name}@{version} runs {where}, or is being recalled already; `covenant deploy inventory` shows what runs where"
                )
        return ""

    once(centre, asked, centre.clock(), act)
    found = [each for each in recalls(centre.engine) if (each.model, each.version) == (name, version)]
    return tuple(sorted(each.target for each in found if each.confirmed_at is None))


def drive(centre: Centre, target: str) -> None:
    """Carry out what was decided about `target`, as far as it is now. Raises `CovenantError`."""
    Driver(issuer_of(centre)).drive(target)


def _change(centre: Centre, asked: Asked | None, change: Callable[[First], None]) -> None:
    def act(remember: Remember) -> str:
        change(lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)


def _decided(centre: Centre, actor: Actor, why: str, seen: int | None = None) -> Decided:
    if not why or len(why) > 500:  # noqa: PLR2004  (as the log takes it)
        raise UsageError("say why in 1 to 500 characters; everybody who reads the log reads it")
    at: datetime = centre.clock()
    return Decided(by=actor.name, why=why, at=at, seen=seen)
