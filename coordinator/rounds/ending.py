"""Giving up attempts and ending runs, within a transaction that has the run's row locked; each says what the log is to be told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.rounds import telling as told
from protos.log_entries import What
from protos.log_run_events import Tripped
from strategies.ids import RunId

FinalState = Literal["completed", "failed", "stopped"]


def void_open(
    session: Session, run: Run, reason: str, at: datetime, *, but_unopened: bool = False
) -> Iterator[What]:
    """Void the attempt that is open, if there is one; `but_unopened` leaves a sum that can still be opened."""
    query = select(Round).where(Round.run_id == run.id, Round.state == RoundState.OPEN)
    for row in session.scalars(query).all():
        if not but_unopened or row.opening is None:
            yield void_row(row, reason, at)
    # Before the next attempt is inserted: at most one may be open, at any moment of the transaction.
    session.flush()


def void_row(row: Round, reason: str, at: datetime) -> What:
    """Give an open attempt up."""
    row.state, row.reason, row.closed_at, row.opening = RoundState.VOIDED, reason, at, None
    return told.voided(row, reason)


def end_run(
    session: Session,
    run: Run,
    state: FinalState,
    reason: str | None,
    at: datetime,
    tripped: Tripped | None = None,
) -> Iterator[What]:
    """End a run that is not over. A sum that can still be opened is all that its sites will ever give for that round, so it is kept."""
    yield from void_open(session, run, f"the run ended: {reason or state}", at, but_unopened=True)
    run.state, run.reason, run.finished_at = RunState(state), reason, at
    yield told.ended(RunId(run.id), state, reason, tripped)
