"""Orders to halt, and their lifts, as the coordinator records them: each with its entry in the log and all that it does, in one transaction.

1. An order and a lift are judged by the newest member list that the log has, under the log's lock, as the log's auditor will judge them.
2. With an order, every run that it covers and that is going is stopped. A run whose launch was committed while the order waited for its turn
   is stopped right after; until then the store refuses whatever its driver begins or settles.
3. An order is recorded once. One that was lifted does not come back; whoever wants to halt again gives another one.
4. A lift needs what `require_lift` asks for, at the time of the last statement.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Engine, Select, false, or_, select, true
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.halt_schema import HaltRow
from coordinator.db.schema import FINAL_STATES, Run
from coordinator.documents import read_root
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed, newest_members
from coordinator.rounds.ending import end_run
from coordinator.rounds.record import RoundConflict
from coordinator.rounds.store import RoundStore
from protos.halt_lifts import LIFT_RULE, HaltLift, LiftStatement, require_lift, require_statement
from protos.halts import HaltOrder, OrderedBy, require_halt
from protos.log_entries import Halted, HaltLifted, LoggedDocument, What
from protos.membership import MemberList
from strategies.errors import CovenantError, DiskError, Refused, UsageError
from strategies.ids import RunId, SiteName

First = Callable[[Session], None]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltView:
    """A recorded order, and what officers have said to lift it."""

    order: HaltOrder
    halted_at: datetime
    lift: HaltLift | None
    lifted_at: datetime | None

    @property
    def said(self) -> tuple[str, ...]:
        """The officers who have said that it may be lifted."""
        return () if self.lift is None else tuple(each.officer for each in self.lift.statements)

    @property
    def state(self) -> str:
        """`stands`, `stands (1 of 2 would lift it)` or `lifted`."""
        if self.lifted_at is not None:
            return "lifted"
        return f"stands ({len(self.said)} of {LIFT_RULE.officers} would lift it)" if self.said else "stands"


def halt(
    centre: Centre, order: HaltOrder, listed: Listed | None = None, first: First | None = None
) -> HaltView:
    """Record `order`, stop what it covers, and end what drives it.

    `listed` is the newest list, which the caller has verified; the log's own newest is taken without it. `first` is the first thing that the
    transaction does. Raises Refused for an order that does not count, and UsageError for a run that nobody knows; nothing is recorded then.
    """
    stopped = _record(centre, order, listed, first)
    for flower_run in (*stopped, *_stop_late(centre, order)):
        with suppress(CovenantError):  # its driver asks for halts by itself
            centre.transport.stop_run(flower_run)
    return view(centre.engine, order.id)


def take_order(centre: Centre, run: RunId, site: SiteName, evidence: bytes) -> None:
    """Record the order that `site` has put into its refusal to take part in `run`. One that does not count is told to the log and left.

    The driver of `run` hears of it as of any other order.
    """
    try:
        order = HaltOrder.from_canonical(evidence)
        if order.by != OrderedBy(kind="site", name=site) or not order.covers(run, frozenset([site])):
            raise Refused(f"{site} sent an order that is not its own, or not about {run}: {order.words}")
        if not _is_known(centre.engine, order):
            _record(centre, order, None)
            _stop_late(centre, order)
    except DiskError:
        raise
    except CovenantError as error:
        _log.warning("order not taken", site=site, run=run, reason=str(error))


def say_lift(
    centre: Centre, halt_id: str, statement: LiftStatement, listed: Listed, first: First | None = None
) -> HaltView:
    """Record one officer's word; with the last that it takes the halt is over. `first` as in `halt`. Raises Refused."""
    members, at = listed.trusted.members, centre.clock()
    with writing(centre.engine, f"lifting halt {halt_id}") as session:
        if first is not None:
            first(session)
        row = _find(session, halt_id, lock=True)
        if row.lifted_at is not None:
            raise Refused(f"halt {row.id} was lifted at {row.lifted_at:%Y-%m-%d %H:%M:%S} UTC")
        order = HaltOrder.from_canonical(row.order.encode())
        if statement.order != order.digest:
            raise Refused(f"the statement of {statement.officer} is about another order than halt {row.id}")
        require_statement(statement, members, at)
        before = None if row.lift is None else HaltLift.from_canonical(row.lift.encode()).fresh(members, at)
        lift = (
            HaltLift(order=order.digest, statements=(statement,))
            if before is None
            else before.adding(statement)
        )
        row.lift = lift.canonical.decode()
        if len(lift.statements) >= LIFT_RULE.officers:
            session.flush()
            append(session, at, _lifted(session, row, lift, listed, at))
    return view(centre.engine, row.id)


def view(engine: Engine, halt_id: str) -> HaltView:
    """The halt with this id, or with the one id that begins so. Raises UsageError."""
    with reading(engine, f"looking for halt {halt_id}") as session:
        return _view(_find(session, halt_id))


def views(engine: Engine, start: int = 0, limit: int | None = None) -> list[HaltView]:
    """All halts, the latest first; or at most `limit` of them from `start` on."""
    query = select(HaltRow).order_by(HaltRow.halted_at.desc(), HaltRow.id).offset(start).limit(limit)
    with reading(engine, "listing halts") as session:
        rows = session.scalars(query)
        return [_view(each) for each in rows]


def row_of(order: HaltOrder, at: datetime) -> HaltRow:
    """An order as it is kept, once it was recorded."""
    return HaltRow(
        digest=order.digest,
        id=order.id,
        scope=order.scope,
        target=order.target,
        order=order.canonical.decode(),
        halted_at=at,
    )


def _is_known(engine: Engine, order: HaltOrder) -> bool:
    with reading(engine, f"looking for halt {order.id}") as session:
        return session.get(HaltRow, order.digest) is not None


def _record(centre: Centre, order: HaltOrder, listed: Listed | None, first: First | None = None) -> list[int]:
    """One transaction; the Flower runs of what it has stopped."""
    at = centre.clock()
    with writing(centre.engine, f"recording halt {order.id}") as session:
        if first is not None:
            first(session)
        runs = session.scalars(_going(order).order_by(Run.id).with_for_update()).all()
        append(session, at, _halted(centre, session, order, listed, runs, at))
    return _flower_runs(runs)


def _halted(
    centre: Centre,
    session: Session,
    order: HaltOrder,
    listed: Listed | None,
    runs: Sequence[Run],
    at: datetime,
) -> Iterator[What]:
    """The entries of an order and of what it stops, under the log's lock; nothing for one that is recorded."""
    known = session.scalars(
        select(HaltRow).where(or_(HaltRow.id == order.id, HaltRow.digest == order.digest))
    ).first()
    if known is not None:
        _require_same(known, order)
        return
    members = yield from _newest(session, listed)
    require_halt(order, members, read_root(centre.settings).root.identity, at)
    if order.scope == "site":
        members.member(SiteName(order.target or ""))
    elif order.scope == "run" and session.get(Run, order.target) is None:
        raise UsageError(f"there is no run {order.target}; `covenant run list` shows those there are")
    session.add(row_of(order, at))
    session.flush()
    yield Halted(order=LoggedDocument.of(order))
    for run in runs:
        yield from end_run(session, run, "stopped", order.words, at)


def _lifted(session: Session, row: HaltRow, lift: HaltLift, listed: Listed, at: datetime) -> Iterator[What]:
    members = yield from _newest(session, listed)
    require_lift(lift, lift.order, members, at)
    row.lifted_at = at
    session.flush()
    yield HaltLifted(lift=LoggedDocument.of(lift))


def _newest(session: Session, listed: Listed | None) -> Generator[What, None, MemberList]:
    """The newest member list, with its entry if the log has it not yet."""
    if listed is not None:
        yield from members_signed(session, listed)
        return listed.trusted.members
    members = newest_members(session)
    if members is None:
        raise Refused("the transparency log has no member list yet, so nobody could give an order")
    return members


def _require_same(known: HaltRow, order: HaltOrder) -> None:
    if known.digest != order.digest:
        raise Refused(f"there is another halt with the id {order.id}; have the order given again")
    if known.lifted_at is not None:
        raise Refused(
            f"halt {order.id} was lifted at {known.lifted_at:%Y-%m-%d %H:%M:%S} UTC and does not come back; give another order"
        )


def _going(order: HaltOrder) -> Select[Run]:
    """The runs that an order stops: a halted site's go on without it."""
    covered = {"all": true(), "run": Run.id == order.target, "site": false()}[order.scope]
    return select(Run).where(Run.state.not_in(FINAL_STATES), covered)


def _stop_late(centre: Centre, order: HaltOrder) -> list[int]:
    """Stop what was launched while the order waited for its turn; the Flower runs of that."""
    with reading(centre.engine, "looking for runs under a halt") as session:
        late = session.scalars(_going(order)).all()
    for run in late:
        with suppress(RoundConflict):
            RoundStore(centre.engine, centre.artifacts, RunId(run.id), centre.clock).finish(
                "stopped", order.words
            )
    return _flower_runs(late)


def _flower_runs(runs: Iterable[Run]) -> list[int]:
    return [each.flower_run_id for each in runs if each.flower_run_id is not None]


def _find(session: Session, halt_id: str, *, lock: bool = False) -> HaltRow:
    """The one halt whose id begins so. Raises UsageError."""
    if not halt_id or set(halt_id) - set("0123456789abcdef"):
        raise UsageError(f"{halt_id!r} is no id of a halt; `covenant halt list` shows them")
    query = select(HaltRow).where(HaltRow.id.startswith(halt_id))
    found = session.scalars(query.with_for_update() if lock else query).all()
    if len(found) != 1:
        many = "several halts begin" if found else "no halt begins"
        raise UsageError(f"{many} with {halt_id}; `covenant halt list` shows them")
    return found[0]


def _view(row: HaltRow) -> HaltView:
    return HaltView(
        order=HaltOrder.from_canonical(row.order.encode()),
        halted_at=row.halted_at,
        lift=None if row.lift is None else HaltLift.from_canonical(row.lift.encode()),
        lifted_at=row.lifted_at,
    )
