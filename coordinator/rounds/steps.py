"""What the steps of a run's store have in common: one transaction with the run's row locked, its guards, and what the log is told at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import writing
from coordinator.db.schema import Attempt, Checkpoint, Round, RoundState, Run, RunState
from coordinator.governance.halted import require_free, unless_halted
from coordinator.governance.log import append
from coordinator.governance.witnesses import require_no_fork
from coordinator.ledger import Ledger
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.ending import void_open
from coordinator.rounds.record import RoundConflict, RoundRecord, the_run
from protos.frames import Stage
from protos.log_entries import What
from protos.log_run_events import SumSettled
from strategies.encoding import Vector, vector_pieces
from strategies.ids import Digest, RunId, SiteName
from strategies.server_optimizers import OptimizerState


class RunSteps(RoundRecord):
    """The steps of one driver of one run. They raise RoundConflict, Halted, and CovenantError when the database or disk fails."""

    def __init__(
        self,
        engine: Engine,
        artifacts: ArtifactStore,
        run_id: RunId,
        clock: Callable[[], datetime],
        ledger: Ledger | None = None,
    ) -> None:
        """`ledger` charges the releases of a private plan; a plan without privacy has none."""
        super().__init__(engine, artifacts, run_id)
        self._clock = clock
        self._ledger = ledger
        self._flower_run_id: int | None = None
        self._untold: list[What] = []

    @contextmanager
    def _step(self, doing: str) -> Iterator[tuple[Session, Run]]:
        """One transaction with the run's row locked, refused to a driver that was replaced. What it has done is logged with it."""
        with writing(self._engine, f"{doing} {self._run_id}") as session:
            found = session.scalar(select(Run).where(Run.id == self._run_id).with_for_update())
            run = the_run(found, self._run_id)
            if self._flower_run_id not in {None, run.flower_run_id}:
                raise RoundConflict(
                    f"{doing} {run.id}: another driver (Flower run {run.flower_run_id}) has taken it over; "
                    "this one must stop"
                )
            self._untold = []
            yield session, run
            if self._untold:
                # Last, because whoever appends holds up everybody else who would.
                session.flush()
                append(session, self._clock(), self._told(session, doing))

    def _told(self, session: Session, doing: str) -> Iterator[What]:
        """What the log is told. No sum is settled under a halt: that is asked where no order can come between the question and the entry."""
        settled = [each for each in self._untold if isinstance(each, SumSettled)]
        if not settled:
            yield from self._untold
            return
        sites = {site for each in settled for site in each.sites}
        yield from unless_halted(session, f"{doing} {self._run_id}", self._run_id, sites, self._untold)

    def _require_going(
        self, session: Session, run: Run, doing: str, sites: Collection[SiteName] = ()
    ) -> None:
        """Raise `Halted` where an order covers the run or some of `sites`, Refused where the log was forked and nobody has dealt with it, and
        RoundConflict where the run is not running."""
        require_free(session, f"{doing} {run.id}", self._run_id, sites)
        require_no_fork(session)
        if run.state != RunState.RUNNING:
            raise RoundConflict(f"{run.id} is {run.state}, not running; its rounds stand still")

    def _require_open(self, session: Session, run: Run, number: int, attempt: int) -> Round:
        self._require_going(session, run, f"going on with round {number} of")
        row = session.get(Round, (run.id, number, attempt))
        if row is None or row.state != RoundState.OPEN:
            raise RoundConflict(
                f"attempt {attempt} at round {number} of {run.id} is {'unknown' if row is None else row.state}, not open"
            )
        return row

    def _charge(
        self, session: Session, stage: Stage, number: int, attempt: int, sites: Collection[SiteName]
    ) -> tuple[Digest, ...]:
        """Settle with the ledger, in this transaction, what an attempt is about to release of `sites`; what each is charged, by digest."""
        if self._ledger is None:
            return ()
        return self._ledger.settle(
            session, self._run_id, stage.name.lower(), number, attempt, sorted(set(sites))
        )

    def _keep(self, model: Vector, optimizer: OptimizerState) -> tuple[Digest, Digest]:
        """Put both artifacts on disk, flushed, before any row names them."""
        return self._artifacts.put(vector_pieces(model)), self._artifacts.put(optimizer.to_pieces())

    def keep_aggregate(self, aggregate: Vector) -> Digest:
        """Put the mean update of a round, (d,) float64, on disk, flushed, before `commit` names it: its memory may become the next model's."""
        return self._artifacts.put(vector_pieces(aggregate))

    def _answered(
        self, session: Session, stage: Stage, number: int, attempt: int, survivors: Collection[str]
    ) -> None:
        row = session.get(Attempt, (self._run_id, stage.name.lower(), number, attempt))
        if row is None or not survivors or not set(survivors) <= set(row.roster):
            raise RoundConflict(
                f"attempt {attempt} to {stage.name.lower()} round {number} of {self._run_id} was not asked of {sorted(survivors)}"
            )
        row.survivors, row.opening = sorted(survivors), None

    def _void_open(self, session: Session, run: Run, reason: str) -> None:
        self._untold.extend(void_open(session, run, reason, self._clock()))


def last_number(session: Session, run: Run) -> int | None:
    """The last committed round; None without an initial model, which is round 0."""
    return session.scalar(select(func.max(Checkpoint.round)).where(Checkpoint.run_id == run.id))


def require_next(session: Session, run: Run, number: int) -> None:
    """Check that round `number` follows the last one. Raises RoundConflict."""
    last = last_number(session, run)
    if last is None:
        raise RoundConflict(f"{run.id} has no initial model yet; begin it before round {number}")
    if number != last + 1:
        raise RoundConflict(f"{run.id} has committed round {last}; the next is {last + 1}, not {number}")


def checkpoint(run: Run, number: int, names: tuple[Digest, Digest]) -> Checkpoint:
    """The row of a state whose artifacts are on disk."""
    return Checkpoint(run_id=run.id, round=number, model_artifact=names[0], optimizer_artifact=names[1])
