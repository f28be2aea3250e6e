"""What becomes of runs that were going when the restored state was: a person decides, and nobody asks a site the same thing twice.

1. A run that was not over is ended as failed, and what its log said of it last is what it has.
2. It may be resumed if its newest model is there, and if nothing is lost of what it did since it was launched: not after a gap. One that its plan's gate
   ended goes on nowhere, restored or not.
3. Attempts that were asked after the backup are in no log. So those of a run that may be resumed are numbered on far beyond them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import FINAL_STATES, Attempt, Checkpoint, Round, RoundState, Run, RunState
from coordinator.ledger.adoption import newest_gap
from coordinator.rounds.ending import end_run, tripped_in
from protos.log_entries import LogEntry, RunLaunched, What
from protos.log_run_events import AttemptVoided
from protos.plan import Plan
from protos.plan_releases import EVALUATE, PREPARE
from strategies.errors import Refused
from strategies.ids import RunId

SKIPPED: Final = 1000
"""How many attempts are left out: more than any run asks while a backup is young."""


def end_open_runs(session: Session, now: datetime, why: str) -> Iterator[What]:
    """End every run that is not over, for the reason `why`; the entries that tell so. A gap has to be in the log before."""
    query = select(Run).where(Run.state.not_in(FINAL_STATES)).order_by(Run.submitted_at, Run.id)
    for run in session.scalars(query).all():
        yield from end_run(session, run, "failed", why, now)
    for run in session.scalars(
        select(Run)
        .where(Run.state.in_([RunState.FAILED, RunState.STOPPED]))
        .order_by(Run.submitted_at, Run.id)
    ).all():
        with suppress(Refused):
            require_resumable(session, run)
            yield from _skip_attempts(session, run, now)
    session.flush()


def require_resumable(session: Session, run: Run) -> None:
    """Check that a run may go on after whatever ended it or was restored. Raises Refused."""
    if (tripped := tripped_in(session, run.id)) is not None:
        raise Refused(
            f"{run.id} was ended by its plan's gate at round {tripped.round}, and sites open one sum a round: it cannot go on. Look into the sites, halt"
            " what you do not trust, and launch a new run"
        )
    gap = newest_gap(session)
    if gap is not None and not _launched_after(session, gap, run.id):
        raise Refused(
            f"{run.id} was launched before entries of the log were lost (the gap at entry {gap}): it may have gone on, and nobody knows how. Launch a new run"
        )
    newest = session.scalar(
        select(func.max(Round.number)).where(Round.run_id == run.id, Round.state == RoundState.COMMITTED)
    )
    was_prepared = session.scalar(
        select(Attempt.attempt)
        .where(Attempt.run_id == run.id, Attempt.stage == PREPARE, Attempt.survivors.is_not(None))
        .limit(1)
    )
    if newest is None and was_prepared is None:
        return
    if session.get(Checkpoint, (run.id, newest or 0)) is None:
        raise Refused(
            f"{run.id} was restored from a copy of the log, and its model after round {newest or 0} is lost: it cannot go on. Launch a new run"
        )


def _launched_after(session: Session, gap: int, run: str) -> bool:
    query = select(LoggedEntry.body).where(LoggedEntry.kind == "launch", LoggedEntry.seq > gap)
    found = (LogEntry.from_canonical(bytes(body)).what for body in session.scalars(query))
    return any(isinstance(each, RunLaunched) and each.run == run for each in found)


def _skip_attempts(session: Session, run: Run, now: datetime) -> Iterator[What]:
    """Take the numbers of attempts that may have been asked since: of the round that is next, and of what can still be asked besides."""
    why = "attempts after the backup are not known"
    committed = select(func.max(Round.number)).where(
        Round.run_id == run.id, Round.state == RoundState.COMMITTED
    )
    done = session.scalar(committed) or 0
    plan = Plan.from_canonical(run.plan.encode())
    if done < plan.training.rounds:
        mine = (Round.run_id == run.id, Round.number == done + 1)
        attempt = (session.scalar(select(func.max(Round.attempt)).where(*mine)) or 0) + SKIPPED
        session.add(
            Round(
                run_id=run.id,
                number=done + 1,
                attempt=attempt,
                state=RoundState.VOIDED,
                roster=[],
                reason=why,
                opened_at=now,
                closed_at=now,
            )
        )
        yield AttemptVoided(run=RunId(run.id), round=done + 1, attempt=attempt, reason=why)
    stages = [(PREPARE, 0)] if done == 0 else [(EVALUATE, done)] if plan.evaluates(done) else []
    for stage, number in stages:
        asked = (Attempt.run_id == run.id, Attempt.stage == stage, Attempt.round == number)
        attempt = (session.scalar(select(func.max(Attempt.attempt)).where(*asked)) or 0) + SKIPPED
        session.add(
            Attempt(run_id=run.id, stage=stage, round=number, attempt=attempt, roster=[], asked_at=now)
        )
