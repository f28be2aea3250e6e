"""The driver of rollouts: gives targets their orders, confirms what is in force, and lets rollouts go on or takes them back by live figures.

1. It keeps nothing in memory. Each step asks the database what is to be done, does the one thing, and records it; killed between any two
   statements, the next one that comes does the same again, which changes nothing that was done.
2. Two drivers at once do no harm: orders are made one after the other under the log's lock, a target refuses an order that is older than the
   one it has, and a confirmation counts once.
3. Whatever one target says or does costs the others nothing: all are given their orders before anybody is waited for, and what fails at one is told.
4. What a target says is in force counts only where it also runs what was ordered.
5. An order that a target refuses is taken back: the rollout has failed, and what served before is released anew. If that was to carry out a
   recall, the model is out of service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import OrderRow, RolloutRow, TargetRow
from coordinator.db.engine import reading, writing
from coordinator.deploy.confirming import confirm
from coordinator.deploy.effects import open_recalls, release_of
from coordinator.deploy.figures import counted, figures_since
from coordinator.deploy.issuing import Decided, Issuer
from coordinator.deploy.opening import open_target, order_of
from coordinator.deploy.orders import call_back, promote, roll_back
from coordinator.deploy.scoring.serving import ServiceStatus
from coordinator.deploy.targets.base import Observed, Target
from coordinator.governance.log import require_not_waiting
from protos.rollouts import (
    UNDER_WAY,
    Canary,
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
_LONGEST: Final = 500
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Given:
    """A target that has its newest order, confirmed or not."""

    name: str
    opened: Target
    order: OrderRow


@dataclass(frozen=True, slots=True)
class Driver:
    """Drives all targets of a coordinator. `issuer` has the key that releases are signed with."""

    issuer: Issuer

    @property
    def centre(self) -> Centre:
        """Its coordinator."""
        return self.issuer.centre

    def drive_all(self) -> None:
        """One step at each target; what fails at one is told and left for the next time."""
        with reading(self.centre.engine, "looking for targets") as session:
            require_not_waiting(session)
            names = session.scalars(select(TargetRow.name).order_by(TargetRow.name)).all()
        given = {name: self._attempted(name, partial(self._give, name)) for name in names}
        for name, found in given.items():
            if found is not None:
                self._attempted(name, partial(self._follow, found))

    def drive(self, target: str) -> Observed | None:
        """Bring `target` as far as it is now: recall, give, confirm, judge. None where nothing was ever ordered. Raises `CovenantError`."""
        given = self._give(target)
        return None if given is None else self._follow(given)

    @staticmethod
    def _attempted(target: str, step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("target not driven", target=target, reason=str(error))
        except Exception as error:  # noqa: BLE001  (a defect that one target brings out must not keep recalls from the others)
            _log.error("target not driven", target=target, trouble=type(error).__name__)
        return None

    def _give(self, target: str) -> _Given | None:
        """Make the order that recalls need, and give the newest one. None where nothing was ever ordered, or what was cannot be given."""
        opened = open_target(self.centre, target)
        call_back(self.issuer, target, self.centre.clock())
        waiting = self._newest(target)
        if waiting is None:
            return None
        if waiting.confirmed_at is None and waiting.refused is None:
            try:
                order = order_of(self.centre, target, waiting.revision)
            except DiskError:
                raise
            except CovenantError as error:
                # Nobody can be given what was lost; and what is being recalled does not serve on for that.
                if waiting.stable is None or not self._recalls(target):
                    raise
                self._failed(target, waiting, str(error))
                return None
            opened.give(order)
        return _Given(target, opened, waiting)

    def _follow(self, given: _Given) -> Observed:
        """Confirm what is in force, or judge what is on trial."""
        target, order, seen = given.name, given.order, given.opened.observe()
        if seen.revision == order.revision and seen.status is not None:
            self._require_runs(target, order, seen.status)
        if order.confirmed_at is None:
            self._look(target, order, seen)
        elif seen.revision == order.revision and seen.status is not None:
            self._judge(target, given.opened, order, seen.status)
        return seen

    def _require_runs(self, target: str, order: OrderRow, status: ServiceStatus) -> None:
        """Check that the service runs what was ordered, and not only its number. Raises Refused."""
        with reading(self.centre.engine, f"looking at order {order.revision} of {target}") as session:
            releases = [release_of(session, target, each) for each in (order.stable, order.challenger)]
        arms = (status.stable, status.challenger)
        wanted = [None if each is None else each.released.digest for each in releases]
        if [None if each is None else each.digest for each in arms] != wanted:
            runs = ", ".join(f"{each.name}@{each.version}" for each in arms if each is not None) or "no model"
            raise Refused(
                f"the service at {target} says that order {order.revision} is in force and runs {runs}, which that order does not say: another service"
                " answers there, so nothing is confirmed; stop it"
            )

    def _look(self, target: str, order: OrderRow, seen: Observed) -> None:
        """Confirm an order that is in force; take one back that the target refuses."""
        if seen.revision == order.revision:
            if confirm(self.centre, target, order.revision, counted(seen.status)):
                _log.info("order confirmed", target=target, revision=order.revision, state=order.state)
            return
        if seen.refused is not None and seen.refused[0] == order.revision and order.refused is None:
            self._failed(target, order, seen.refused[1])

    def _failed(self, target: str, order: OrderRow, words: str) -> None:
        """Record that an order cannot be carried out, and take it back."""
        said = _readable(words)
        _log.error("order refused", target=target, revision=order.revision, reason=said)
        with writing(self.centre.engine, f"recording that {target} refused") as session:
            session.get_one(OrderRow, (target, order.revision)).refused = said
        # A second refusal ends it, unless something that is being recalled would serve on.
        if order.state != State.FAILED or (order.stable is not None and self._recalls(target)):
            why = f"{target} refused order {order.revision}: {said}"
            self._take_back(target, order.revision, why, State.FAILED)

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
                promote(self.issuer, decided, target, step, supports=opened.states, seen=order.revision)
            case TakeBack(why):
                self._take_back(target, order.revision, why, State.ROLLED_BACK)

    def _take_back(self, target: str, seen: int, why: str, how: State) -> None:
        decided = Decided(by=RULES, why=why, at=self.centre.clock())
        try:
            roll_back(self.issuer, decided, target, how=how, seen=seen)
        except Refused as refused:
            _log.error("nothing to go back to", target=target, reason=str(refused))

    def _recalls(self, target: str) -> bool:
        with reading(self.centre.engine, f"looking for recalls from {target}") as session:
            return bool(open_recalls(session, target))

    def _newest(self, target: str) -> OrderRow | None:
        with reading(self.centre.engine, f"looking for orders of {target}") as session:
            return newest_order(session, target)


def _readable(words: str) -> str:
    """What a target wrote, as a log and a database take it: printable, and of bounded length."""
    return "".join(each if each.isprintable() else " " for each in words[:_LONGEST]).strip() or "no reason"


def newest_order(session: Session, target: str) -> OrderRow | None:
    """The newest order of a target."""
    query = select(OrderRow).where(OrderRow.target == target).order_by(OrderRow.revision.desc())
    return session.scalar(query.limit(1))
