"""What officers did in a long year beside plans and runs, for `covenant bench console`: a policy pack, halts, and deployments.

Packs, halts and their lifts are signed and go through the coordinator's own functions. Deployments are entries of the log with the effects that it gives
them (`coordinator.deploy.effects`); the places themselves do not exist, and none has confirmed anything.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select

from coordinator.console.seals import seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading, writing
from coordinator.db.schema import Model
from coordinator.deploy.effects import carried_out
from coordinator.deploy.monitoring.retraining import effects as retraining
from coordinator.deploy.targets.settings import EdgeSettings, LocalSettings
from coordinator.governance import halts
from coordinator.governance.log import append, open_log
from coordinator.governance.policies import packs
from coordinator.governance.policies.shipped import baseline
from coordinator.governance.witnesses import WitnessBook
from protos.halt_lifts import state_lift
from protos.halts import OrderedBy, order_halt
from protos.log_deploy_events import (
    Deployed,
    DeployEvent,
    RecallConfirmed,
    RecallOrdered,
    RolloutMoved,
    RolloutStarted,
    TargetAdded,
)
from protos.log_loop import RetrainingDrafted
from protos.model_release import ModelRelease, Released, sign_release
from protos.policy_pack import QUORUM, SignedPack, state_pack
from protos.rollouts import RolloutRules, State
from protos.witness import Evidence
from simulation.bench.console_year import OFFICER, SECOND, LongYear
from simulation.deployment import free_port
from strategies.ids import Digest

TARGETS: Final = 40
ROLLOUTS: Final = 60
"""Of each target: more than a page has."""
_HALTS: Final = 40
_STANDING: Final = 10
DRAFT: Final = str(uuid.UUID(int=9))
RETRAINING: Final = "draft-0000000000000009"
_WHY: Final = "as the committee decided"


def happen(year: LongYear) -> None:
    """Do all of it, now: after the year."""
    _publish(year)
    for number in range(_HALTS):
        _halt(year, number)
    _deploy(year)
    _type(year)
    _draft(year)
    _find(year)


def target(number: int) -> str:
    """What a place is called. The first one is a service on this machine, which does not answer; the others are branches without a connection."""
    return f"place-{number:02}"


def _publish(year: LongYear) -> None:
    """The pack that comes with the program, signed by two officers in the roles that it takes."""
    pack, federation = baseline(), year.listed.trusted.federation
    said = [
        state_pack(pack, name, role, key, federation=federation, at=year.centre.clock())
        for role, (name, key) in zip(QUORUM, ((OFFICER, year.officer), (SECOND, year.second)), strict=True)
    ]
    packs.publish(year.centre, SignedPack(pack=pack, statements=tuple(said)), year.listed)


def _halt(year: LongYear, number: int) -> None:
    """A run that was over already is halted; two officers lift it again, or it stands."""
    by = OrderedBy(kind="officer", name=OFFICER)
    order = order_halt(
        year.listed.trusted.federation,
        "run",
        year.run(number % max(1, year.scale.runs - 1)),
        _WHY,
        by,
        year.officer,
        at=year.centre.clock(),
        entropy=hashlib.sha256(f"halt {number}".encode()).digest()[:16],
    )
    halts.halt(year.centre, order, year.listed)
    if number < _HALTS - _STANDING:
        for name, key in ((OFFICER, year.officer), (SECOND, year.second)):
            said = state_lift(order.digest, name, _WHY, key, at=year.centre.clock())
            halts.say_lift(year.centre, order.id, said, year.listed)


def _deploy(year: LongYear) -> None:
    with reading(year.centre.engine, "looking for what is deployed") as session:
        rows = session.scalars(
            select(Model).where(Model.stage == "deployed").order_by(Model.created_at, Model.name)
        )
        models = [
            Released(
                model=each.name, version=each.version, digest=Digest(each.digest), artifacts=each.artifacts
            )
            for each in rows
        ]
    for number in range(TARGETS):
        at = year.centre.clock()
        with writing(year.centre.engine, "deploying") as session:
            append(session, at, carried_out(session, at, _at_target(year, number, models, at)))


def _at_target(year: LongYear, number: int, models: list[Released], at: datetime) -> Iterator[DeployEvent]:
    """Rollouts one after another; at the first target another one is under way, and every second one has recalled a version."""
    name, before = target(number), None
    yield _added(year, number)
    for place in range(1, ROLLOUTS + 1):
        rollout, last = _id(name, place), place == ROLLOUTS
        trial = number == 0 and last
        started = models[(number + place) % len(models)]
        yield Deployed(
            target=name,
            revision=place,
            rollout=rollout,
            started=RolloutStarted(
                model=started.model,
                version=started.version,
                digest=started.digest,
                rules=RolloutRules(automatic=False),
                before=before,
            ),
            state=State.CANARY if trial else State.FULL,
            share=0.1 if trial else 1.0,
            mode="canary" if trial else "none",
            stable=place - 1 if trial else place,
            challenger=place if trial else None,
            releases=(_release(year, name, place, started, at),),
            why=_WHY,
            by=f"officer {OFFICER}",
        )
        if before is not None and not trial:
            yield RolloutMoved(target=name, revision=place, rollout=before, state=State.SUPERSEDED, share=0.0)
        state, share = (State.CANARY, 0.1) if trial else (State.FULL, 1.0)
        yield RolloutMoved(target=name, revision=place, rollout=rollout, state=state, share=share)
        before = rollout
    if number % 2:
        gone = models[(number + ROLLOUTS - 1) % len(models)]
        what = {"target": name, "model": gone.model, "version": gone.version}
        yield RecallOrdered(**what, why=_WHY, by=f"officer {OFFICER}")
        yield RecallConfirmed(**what, revision=ROLLOUTS)


def _added(year: LongYear, number: int) -> TargetAdded:
    folder = year.centre.settings.home
    settings: LocalSettings | EdgeSettings = (
        EdgeSettings(outbox=f"{folder}/out", inbox=f"{folder}/in", key=year.artifacts.public)
        if number
        else LocalSettings(state=f"{folder}/state", url=f"http://127.0.0.1:{free_port()}")
    )
    return TargetAdded(
        name=target(number),
        target_kind=settings.kind,
        settings=settings.model_dump(mode="json"),
        by=f"officer {OFFICER}",
    )


def _release(year: LongYear, name: str, sequence: int, released: Released, at: datetime) -> ModelRelease:
    return sign_release(
        year.artifacts,
        federation=year.listed.trusted.federation,
        members=year.listed.membership.digest,
        target=name,
        sequence=sequence,
        floor=1,
        mode="serve",
        released=released,
        at=at,
        expires=at + timedelta(days=30),
    )


def _id(name: str, place: int) -> str:
    return f"rollout-{hashlib.sha256(f'{name} {place}'.encode()).hexdigest()[:16]}"


def _type(year: LongYear) -> None:
    """What the officer had typed when a session ended."""
    row = ConsoleDraft(
        id=DRAFT,
        officer=OFFICER,
        path=f"/plans/{year.plans[0].digest}/comments",
        fields=json.dumps({"text": _WHY}),
        kept_at=year.centre.clock(),
    )
    seal(Vault(year.centre.settings.console_key_file), row)
    with writing(year.centre.engine, "keeping a draft") as session:
        session.add(row)


def _draft(year: LongYear) -> None:
    """A plan that somebody had drafted for a model."""
    plan, at = year.plan_of(year.scale.runs - 2), year.centre.clock()
    drafted = RetrainingDrafted(
        draft=RETRAINING,
        model=plan.name,
        version=1,
        author=OFFICER,
        text=plan.canonical.decode(),
        plan=plan.digest,
        contract=year.contract.digest,
        says=("as the plan before",),
        gain={"said": "no outcomes have arrived, so no gain is known"},
        by=f"officer {OFFICER}",
    )
    with writing(year.centre.engine, "drafting a plan") as session:
        append(session, at, retraining.carried_out(session, at, [drafted]))


def _find(year: LongYear) -> None:
    """Evidence of a history that does not fit, which somebody has dealt with."""
    centre, book = year.centre, WitnessBook(year.centre.engine, year.centre.clock)
    note = open_log(centre.engine, centre.settings, centre.clock).checkpoint().encoded
    book.add(year.run(0), Evidence(shows="split", site=year.plan_of(0).sites.invite[0], notes=(note,)))
    (found,) = book.newest_found(1)
    book.settle(found.number, _WHY)
