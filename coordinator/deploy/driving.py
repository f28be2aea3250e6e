"""The driver of rollouts: gives targets their orders, confirms what is in force, and lets rollouts go on or takes them back by live figures.

1. It keeps nothing in memory. Each step asks the database what is to be done, does the one thing, and records it; killed between any two
   statements, the next one that comes does the same again, which changes nothing that was done.
2. Two drivers at once do no harm: orders are made one after the other under the log's lock, a target refuses an order that is older than the
   one it has, and a confirmation counts once.
3. An order that a target refuses is taken back: the rollout has failed, and what served before is released anew. If that was to carry out a
   recall, the model is out of service.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import OrderRow, RolloutRow, TargetRow
from coordinator.db.engine import reading, writing
from coordinator.deploy.confirming import confirm
from coordinator.deploy.effects import open_recalls
from coordinator.deploy.opening import open_target, order_of
from coordinator.deploy.ordering import Decided, Desk
from coordinator.deploy.orders import call_back, promote, roll_back
from coordinator.deploy.scoring.serving import ArmStatus, ServiceStatus
from coordinator.deploy.targets.base import Observed, Target
from coordinator.documents import read_listed
from coordinator.governance.log import require_not_waiting
from coordinator.keys import release_signer
from protos.keys import Signer
from protos.rollouts import (
    UNDER_WAY,
    Canary,
    Figures,
    GoOn,
    RolloutRules,
    Shadow,
    State,
    TakeBack,
    Wait,
    judge,
    standing_of,
)
from strategies.errors import CovenantError, DiskError, Refused

RULES: Final = "the rollout's rules"
_AWAKE_S: Final = 1.0
"""How long a new order is followed closely: until the target has had time to come to it."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Driver:
    """Drives all targets of a coordinator. `desk` has the key that releases are signed with."""

    desk: Desk

    @property
    def centre(self) -> Centre:
        """Its coordinator."""
        return self.desk.centre

    def drive_all(self) -> None:
        """One step at each target; what fails at one is told and left for the next time."""
        with reading(self.centre.engine, "looking for targets") as session:
            require_not_waiting(session)
            names = session.scalars(select(TargetRow.name).order_by(TargetRow.name)).all()
        for name in names:
            try:
                self.drive(name)
            except DiskError:
                raise
            except CovenantError as error:
                _log.warning("target not driven", target=name, reason=str(error))

    def drive(self, target: str) -> Observed | None:
        """Bring `target` as far as it is now: recall, give, confirm, judge. None where nothing was ever ordered. Raises `CovenantError`."""
        opened = open_target(self.centre, target)
        call_back(self.desk, target, self.centre.clock())
        waiting = self._newest(target)
        if waiting is None:
            return None
        if waiting.confirmed_at is None and waiting.refused is None:
            opened.give(order_of(self.centre, target, waiting.revision))
        seen = opened.observe()
        if waiting.confirmed_at is None:
            self._look(target, waiting, seen)
        elif seen.revision == waiting.revision and seen.status is not None:
            self._judge(target, opened, waiting, seen.status)
        return seen

    def _look(self, target: str, order: OrderRow, seen: Observed) -> None:
        """Confirm an order that is in force; take one back that the target refuses."""
        if seen.revision == order.revision:
            if confirm(self.centre, target, order.revision, _baseline(seen.status)):
                _log.info("order confirmed", target=target, revision=order.revision, state=order.state)
            return
        if seen.refused is None or seen.refused[0] != order.revision or order.refused is not None:
            return
        why = f"{target} refused order {order.revision}: {seen.refused[1]}"
        _log.error("order refused", target=target, revision=order.revision, reason=seen.refused[1])
        with writing(self.centre.engine, f"recording that {target} refused") as session:
            session.get_one(OrderRow, (target, order.revision)).refused = seen.refused[1]
        # A second refusal ends it, unless something that is being recalled would serve on.
        if order.state != State.FAILED or (order.stable is not None and self._recalls(target)):
            self._take_back(target, why, State.FAILED)

    def _judge(self, target: str, opened: Target, order: OrderRow, status: ServiceStatus) -> None:
        with reading(self.centre.engine, f"looking at the rollout of {target}") as session:
            row = session.get_one(RolloutRow, order.rollout)
        if row.state not in UNDER_WAY or status.stable is None or status.challenger is None:
            return
        rules, now = RolloutRules.from_canonical(row.rules.encode()), standing_of(State(row.state), row.share)
        if not rules.automatic or not isinstance(now, Shadow | Canary):
            return
        match judge(rules, now, *figures_since(order.baseline, status)):
            case Wait():
                pass
            case GoOn(step, why):
                decided = Decided(by=RULES, why=why, at=self.centre.clock())
                promote(self.desk, decided, target, step, supports=opened.states)
            case TakeBack(why):
                self._take_back(target, why, State.ROLLED_BACK)

    def _take_back(self, target: str, why: str, how: State) -> None:
        try:
            roll_back(self.desk, Decided(by=RULES, why=why, at=self.centre.clock()), target, how=how)
        except Refused as refused:
            _log.error("nothing to go back to", target=target, reason=str(refused))

    def _recalls(self, target: str) -> bool:
        with reading(self.centre.engine, f"looking for recalls from {target}") as session:
            return bool(open_recalls(session, target))

    def _newest(self, target: str) -> OrderRow | None:
        with reading(self.centre.engine, f"looking for orders of {target}") as session:
            return newest_order(session, target)


@dataclass
class Driving:
    """Drives every target again and again while a coordinator leads, and at once for a second when an order is new. Use as a context manager.

    A coordinator without targets needs no key that signs releases; one whose key cannot be used tells its log and asks again. The key is opened once
    and again when its file is another, because opening an encrypted one is hard work by design.
    """

    centre: Centre
    every_s: float = 2.0
    look_s: float = 0.1
    """How soon a new order is seen, whoever decided it: a rollback takes effect well within a second."""
    failed: DiskError | None = None
    _opened: tuple[int, Signer] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="deployments", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; what is under way at a target is ended first."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        told, ordered, due, awake = "", 0, 0.0, 0.0
        while not self._stopping.wait(self.look_s):
            try:
                newest, now = orders_made(self.centre), time.monotonic()
                if newest != ordered:
                    ordered, awake, due = newest, now + _AWAKE_S, now
                if awake <= now < due:
                    continue
                due = now + self.every_s
                if has_targets(self.centre):
                    Driver(self._desk()).drive_all()
                told = ""
            except DiskError as error:
                self.failed = error
                return
            except CovenantError as error:
                if str(error) != told:
                    told = str(error)
                    _log.error("nothing is deployed", reason=told)

    def _desk(self) -> Desk:
        path = self.centre.settings.release_key_file
        written = path.stat().st_mtime_ns if path.exists() else 0
        if self._opened is None or self._opened[0] != written:
            self._opened = written, release_signer(self.centre.settings)
        return desk_of(self.centre, self._opened[1])


def orders_made(centre: Centre) -> int:
    """How many orders there are: another number when one is new."""
    with reading(centre.engine, "looking for orders") as session:
        return int(session.scalar(select(func.sum(TargetRow.revision))) or 0)


def has_targets(centre: Centre) -> bool:
    """Whether there is anything to deploy to."""
    with reading(centre.engine, "looking for targets") as session:
        return session.scalar(select(TargetRow.name).limit(1)) is not None


def desk_of(centre: Centre, opened: Signer | None = None) -> Desk:
    """With what this coordinator makes orders; `opened` is its key, if it was opened before.

    Raises UsageError where it has no key to sign releases with, Refused where that is not certified.
    """
    signer, listed = opened or release_signer(centre.settings), read_listed(centre.settings)
    service = listed.trusted.members.service("artifacts")
    if service.key != signer.public:
        raise Refused(
            f"{centre.settings.release_key_file} is not the key of {service.name}, the artifacts service on member list"
            f" {listed.trusted.members.ref}; have the officers certify it"
        )
    return Desk(centre=centre, signer=signer, listed=listed)


def newest_order(session: Session, target: str) -> OrderRow | None:
    """The newest order of a target."""
    query = select(OrderRow).where(OrderRow.target == target).order_by(OrderRow.revision.desc())
    return session.scalar(query.limit(1))


def figures_since(baseline: Mapping[str, Any] | None, status: ServiceStatus) -> tuple[Figures, Figures]:
    """What both arms have done since the order was confirmed. After a restart of the service counts begin again, and so does this."""
    same = baseline is not None and baseline["started_at"] == status.started_at.isoformat()
    before = baseline if same and baseline is not None else {}
    return _since(before.get("stable"), status.stable), _since(before.get("challenger"), status.challenger)


def _since(before: Mapping[str, Any] | None, arm: ArmStatus | None) -> Figures:
    if arm is None:
        return Figures(requests=0, rows=0, errors=0, latency_sum_ms=0.0, scores=())
    if before is None or before["since"] != arm.since.isoformat():
        before = {
            "requests": 0,
            "rows": 0,
            "errors": 0,
            "latency_sum_ms": 0.0,
            "scores": [0] * len(arm.scores),
        }
    return Figures(
        requests=arm.requests - before["requests"],
        rows=arm.rows - before["rows"],
        errors=arm.errors - before["errors"],
        latency_sum_ms=arm.latency_sum_ms - before["latency_sum_ms"],
        scores=tuple(now - then for now, then in zip(arm.scores, before["scores"], strict=True)),
    )


def _baseline(status: ServiceStatus | None) -> dict[str, Any] | None:
    if status is None:
        return None
    return {
        "started_at": status.started_at.isoformat(),
        "stable": _counted(status.stable),
        "challenger": _counted(status.challenger),
    }


def _counted(arm: ArmStatus | None) -> dict[str, Any] | None:
    if arm is None:
        return None
    return {
        "since": arm.since.isoformat(),
        "requests": arm.requests,
        "rows": arm.rows,
        "errors": arm.errors,
        "latency_sum_ms": arm.latency_sum_ms,
        "scores": list(arm.scores),
    }
