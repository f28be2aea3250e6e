"""Whether a halt stands in the way: the wall before which launches, resumptions and sums stop.

1. What makes an effect asks in the transaction of the effect, and under the log's lock where it writes an entry (`unless_halted`): so the
   log never has a launch, a resumption or a sum between a halt that covers it and its lift.
2. Who waits asks at most five times a second, and hears of an order within that time (`HaltWatch`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.halt_schema import HaltRow
from protos.halts import HaltOrder
from protos.log_entries import What
from strategies.errors import CovenantError, DiskError, Refused
from strategies.ids import RunId, SiteName

_ASK_EVERY_S: Final = 0.2
_log = structlog.get_logger(__name__)


class Halted(Refused):
    """A halt covers what was about to be done."""

    def __init__(self, doing: str, order: HaltOrder) -> None:
        super().__init__(f"{doing}: {order.words}. Two officers lift it with `covenant halt lift {order.id}`")
        self.order = order


class SitesHalted(Halted):
    """A halt covers sites, and not the run: it may go on without them."""


def standing(session: Session) -> list[HaltOrder]:
    """The orders that stand, in the order in which they were recorded."""
    query = select(HaltRow.order).where(HaltRow.lifted_at.is_(None)).order_by(HaltRow.halted_at, HaltRow.id)
    return [HaltOrder.from_canonical(text.encode()) for text in session.scalars(query)]


def halted_sites(orders: Iterable[HaltOrder]) -> frozenset[SiteName]:
    """The sites that no run asks."""
    return frozenset(SiteName(each.target) for each in orders if each.scope == "site" and each.target)


def require_free(session: Session, doing: str, run: RunId, sites: Collection[SiteName] = ()) -> None:
    """Raise `Halted` where an order covers `run`, and `SitesHalted` where one covers some of `sites` alone."""
    orders = standing(session)
    for order in orders:
        if order.covers(run):
            raise Halted(doing, order)
    for order in orders:
        if order.covers(run, frozenset(sites)):
            raise SitesHalted(doing, order)


def unless_halted(
    session: Session, doing: str, run: RunId, sites: Collection[SiteName], entries: Iterable[What]
) -> Iterator[What]:
    """`entries` for `append`, which looks at them under the log's lock. Raises as `require_free`, before the first of them."""
    require_free(session, doing, run, sites)
    yield from entries


def covering(engine: Engine, run: RunId) -> HaltOrder | None:
    """An order that covers `run` now."""
    with reading(engine, "looking for halts") as session:
        return next((order for order in standing(session) if order.covers(run)), None)


@dataclass
class HaltWatch:
    """Asked by whoever drives `run`, as often as they like: looks five times a second at most."""

    engine: Engine
    run: RunId
    monotonic: Callable[[], float]
    _sites: frozenset[SiteName] = frozenset()
    _asked_at: float | None = field(default=None)

    def __call__(self) -> frozenset[SiteName]:
        """The sites that are halted. Raises `Halted` where the run is."""
        now = self.monotonic()
        if self._asked_at is None or now - self._asked_at >= _ASK_EVERY_S:
            self._look()
            self._asked_at = now
        return self._sites

    def _look(self) -> None:
        """While the database does not answer, no order can be recorded and no sum settled: what was known goes on to hold."""
        try:
            with reading(self.engine, "looking for halts") as session:
                orders = standing(session)
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("cannot ask for halts", run=self.run, reason=str(error))
            return
        for order in orders:
            if order.covers(self.run):
                raise Halted(f"{self.run} stops", order)
        self._sites = halted_sites(orders)
