"""Giving up attempts and ending runs, within a transaction that has the run's row locked; each says what the log is to be told.

An attempt whose sum was above the plan's gate is told with the end of its run. It is closed in the tables and never told as voided: it was opened, and auditors
refuse a log that takes that back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.rounds import telling as told
from protos.log_entries import LogEntry, What
from protos.log_run_events import RunEnded, Tripped
from strategies.ids import RunId

FinalState = Literal["completed", "failed", "stopped"]
_ABOVE_GATE: Final = "its sum was above the plan's gate"


def void_open(
    session: Session, run: Run, reason: str, at: datetime, *, but_unopened: bool = False
) -> Iterator[What]:
    """Void the attempt that is open, if there is one; `but_unopened` leaves a sum that can still be opened."""
    query = select(Round).where(Round.run_id == run.id, Round.state == RoundState.OPEN)
    for row in session.scalars(query).all():
        if _is_tripped(session, row):
            _close(row, _ABOVE_GATE, at)
        elif not but_unopened or row.opening is None:
            yield void_row(row, reason, at)
    # Before the next attempt is inserted: at most one may be open, at any moment of the transaction.
    session.flush()


def void_row(row: Round, reason: str, at: datetime) -> What:
    """Give an open attempt up."""
    _close(row, reason, at)
    return told.voided(row, reason)


def close_tripped(session: Session, run: str, tripped: Tripped, at: datetime) -> None:
    """Close the attempt that the plan's gate ended `run` by."""
    row = session.get(Round, (run, tripped.round, tripped.attempt))
    if row is not None and row.state == RoundState.OPEN:
        _close(row, _ABOVE_GATE, at)


def tripped_in(session: Session, run: str) -> Tripped | None:
    """What the plan's gate ended `run` by, as the log has it; nothing of the run follows that."""
    settled = select(Round.number).where(
        Round.run_id == run, Round.survivors.is_not(None), Round.state != RoundState.COMMITTED
    )
    if session.scalar(settled.limit(1)) is None:
        return None  # most runs, so that no entry is read for them
    for body in session.scalars(select(LoggedEntry.body).where(LoggedEntry.kind == "ended")):
        what = LogEntry.from_canonical(bytes(body)).what
        if isinstance(what, RunEnded) and what.run == run and what.tripped is not None:
            return what.tripped
    return None


def _is_tripped(session: Session, row: Round) -> bool:
    found = None if row.survivors is None else tripped_in(session, row.run_id)
    return found is not None and (found.round, found.attempt) == (row.number, row.attempt)


def _close(row: Round, reason: str, at: datetime) -> None:
    row.state, row.reason, row.closed_at, row.opening = RoundState.VOIDED, reason, at, None


def end_run(
    session: Session,
    run: Run,
    state: FinalState,
    reason: str | None,
    at: datetime,
    tripped: Tripped | None = None,
) -> Iterator[What]:
    """End a run that is not over. A sum that can still be opened is all that its sites will ever give for that round, so it is kept."""
    if tripped is not None:
        close_tripped(session, run.id, tripped, at)
    yield from void_open(session, run, f"the run ended: {reason or state}", at, but_unopened=True)
    run.state, run.reason, run.finished_at = RunState(state), reason, at
    yield told.ended(RunId(run.id), state, reason, tripped)
