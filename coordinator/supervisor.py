"""Keeps runs going: a run whose driver died gets another one, in a new Flower run under the same Covenant run.

1. Only the database says whether a run is over. One that is not, and has no driver, goes on where its last commit left it.
2. A run that was stopped or that failed with a reason stays ended until a person resumes it.
3. Drivers are counted until one commits something. Too many in a row that do not end the run, because whatever kills them will
   kill the next one too.
4. Two drivers at once do no harm: the store lets the latest one write and refuses the other.
5. A run under a halt gets no driver: it is stopped.
6. Only the coordinator that leads decides, and it writes nothing once its term is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.schema import FINAL_STATES, Run
from coordinator.governance.halted import covering
from coordinator.leadership import Deposed, Term
from coordinator.runs import end
from strategies.errors import CovenantError, DiskError
from strategies.ids import RunId

MOST_IDLE_STARTS: Final = 5
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Decides what happens to the runs of a coordinator when a driver, or everything, has died."""

    centre: Centre
    term: Term | None = None
    """That this coordinator leads; None where no other one can, as in a simulation."""

    def resume_leftovers(self) -> None:
        """Give a driver to each run that an earlier coordinator or SuperLink left without one."""
        with reading(self.centre.engine, "looking for runs left behind") as session:
            query = (
                select(Run.id, Run.flower_run_id)
                .where(Run.state.not_in(FINAL_STATES))
                .order_by(Run.submitted_at)
            )
            left = session.execute(query).all()
        for run, flower_run in left:
            try:
                self._go_on(RunId(run), flower_run, "the coordinator or its SuperLink ended")
            except (DiskError, Deposed):
                raise
            except CovenantError as error:
                end(self.centre, RunId(run), "failed", f"it could not be resumed: {error}")

    def process_ended(self, flower_run: int, exit_code: int) -> None:
        """A server process has gone. If its run is not over, and is still its own, the run goes on in another.

        Raises `Unreachable` while no SuperLink takes it; say it again then.
        """
        with reading(self.centre.engine, "looking for the run of a server process") as session:
            row = session.scalar(select(Run).where(Run.flower_run_id == flower_run))
        if row is not None and row.state not in FINAL_STATES:
            self._go_on(RunId(row.id), flower_run, f"its server process ended with exit code {exit_code}")

    def _go_on(self, run: RunId, flower_run: int | None, why: str) -> None:
        with reading(self.centre.engine, f"reading {run}") as session:
            self._require_term(session)
            starts = session.get_one(Run, run).idle_starts
        if (order := covering(self.centre.engine, run)) is not None:
            end(self.centre, run, "stopped", order.words)
            return
        if starts >= MOST_IDLE_STARTS:
            end(
                self.centre,
                run,
                "failed",
                f"{why}, and {starts} times before that without a commit in between; logs/serverapp.log says more. "
                f"Mend the cause, then `covenant run resume {run}`",
            )
            return
        _log.warning("resuming", run=run, reason=why, idle_starts=starts)
        if flower_run is not None:
            self._stop_quietly(flower_run)
        carrying = self.centre.transport.start_run(run)
        try:
            with writing(self.centre.engine, f"resuming {run}") as session:
                self._require_term(session)
                row = session.get_one(Run, run, with_for_update=True)
                row.flower_run_id, row.idle_starts = carrying, starts + 1
        except Deposed:
            self._stop_quietly(carrying)
            raise

    def _require_term(self, session: Session) -> None:
        if self.term is not None:
            self.term.require(session)

    def _stop_quietly(self, flower_run: int) -> None:
        """End what may be left of the old Flower run, so that no site works for it any longer."""
        try:
            self.centre.transport.stop_run(flower_run)
        except CovenantError as error:
            _log.info("the old Flower run is gone already", flower_run=flower_run, reason=str(error))
