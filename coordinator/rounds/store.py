"""What a run's driver must never forget, kept in the database before the driver goes on.

1. Every method is one transaction that first locks the run's row, so two drivers of one run take turns.
2. A driver is fenced: once another one has called `start`, whatever the first still tries is refused.
3. Sites are asked under an attempt that was recorded first, so no two questions ever carry the same one.
   A round is opened, then settled (T1: who survived), then committed (T2: what came of it). Rounds are committed in order,
   each number once; an attempt left open by a crash is voided when the next one opens.
4. Artifacts are on disk, flushed, before a row names them. One that no row names is harmless.
5. Round 0 is the initial model; its scaling is fixed with it, because every later model depends on both.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import writing
from coordinator.db.schema import FINAL_STATES, Attempt, Checkpoint, Round, RoundState, Run, RunState
from coordinator.governance.log import append
from coordinator.ledger import Ledger
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds import telling as told
from coordinator.rounds.question import Receipt
from coordinator.rounds.record import Committed, RoundConflict, RoundRecord, committed_round, the_run
from protos.frames import Stage
from protos.log_entries import What
from strategies.analytics.histograms import ScoreMetrics
from strategies.encoding import Vector, vector_bytes, vector_digest
from strategies.features import Scaling
from strategies.ids import Digest, RunId, SiteName
from strategies.server_optimizers import OptimizerState

FinalState = Literal["completed", "failed", "stopped"]

_FLOAT64_BYTES: Final = 8
_INITIAL: Final = 0


class RoundStore(RoundRecord):
    """The rounds of one run, written step by step. Methods raise RoundConflict, and CovenantError when the database or disk fails."""

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

    def start(self, flower_run_id: int) -> None:
        """Take the run over as its one driver. One that has ended stays ended: a person resumes it first."""
        with self._step("starting") as (_, run):
            if run.state in FINAL_STATES:
                raise RoundConflict(
                    f"starting {run.id}: it has {run.state}; `covenant run resume` opens it again"
                )
            run.state = RunState.RUNNING
            run.flower_run_id = flower_run_id
            run.started_at = run.started_at or self._clock()
        self._flower_run_id = flower_run_id

    def begin(
        self,
        scaling: Scaling,
        model: Vector,
        optimizer: OptimizerState,
        *,
        attempt: int,
        survivors: Collection[str],
    ) -> Committed:
        """Fix the scaling, which `survivors` of an attempt gave, and the initial model together, as round 0.

        Both may be replaced until round 1 is committed.
        """
        names = self._keep(model, optimizer)
        with self._step("recording the initial model of") as (session, run):
            _require_running(run)
            if (_last_number(session, run) or _INITIAL) > _INITIAL:
                raise RoundConflict(f"{run.id} has committed rounds; its scaling and initial model are fixed")
            self._void_open(session, run, "the run began anew with another initial model")
            self._answered(session, Stage.PREPARE, _INITIAL, attempt, survivors)
            run.scaling = {"mean": list(scaling.mean), "std": list(scaling.std)}
            run.idle_starts = 0
            session.merge(_checkpoint(run, _INITIAL, names))
            self._untold.append(told.prepared(self._run_id, attempt, survivors, scaling, names[0]))
        return Committed(number=_INITIAL, model=model, optimizer=optimizer)

    def next_attempt(self, stage: Stage, number: int, roster: Collection[str]) -> int:
        """Take the next attempt, from 1, at preparing or at evaluating round `number`; no other driver gets the same one."""
        with self._step(f"asking to {stage.name.lower()} round {number} of") as (session, run):
            _require_running(run)
            mine = (Attempt.run_id == run.id, Attempt.stage == stage.name.lower(), Attempt.round == number)
            attempt = (session.scalar(select(func.max(Attempt.attempt)).where(*mine)) or 0) + 1
            session.add(
                Attempt(
                    run_id=run.id,
                    stage=stage.name.lower(),
                    round=number,
                    attempt=attempt,
                    roster=sorted(roster),
                    asked_at=self._clock(),
                )
            )
        return attempt

    def open_round(self, number: int, roster: Collection[str]) -> int:
        """Open the next attempt at round `number` and return it, from 1; an attempt still open is voided."""
        if not roster or len(set(roster)) < len(roster):
            raise RoundConflict(
                f"round {number} needs a roster of distinct sites; this one is {list(roster)}"
            )
        with self._step(f"opening round {number} of") as (session, run):
            _require_running(run)
            _require_next(session, run, number)
            self._void_open(session, run, "a later attempt was opened before this one was committed")
            highest = session.scalar(
                select(func.max(Round.attempt)).where(Round.run_id == run.id, Round.number == number)
            )
            attempt = (highest or 0) + 1
            session.add(
                Round(
                    run_id=run.id,
                    number=number,
                    attempt=attempt,
                    state=RoundState.OPEN,
                    roster=sorted(roster),
                    opened_at=self._clock(),
                )
            )
        return attempt

    def settle(
        self,
        number: int,
        attempt: int,
        survivors: Collection[SiteName],
        statement_digest: Digest,
        *,
        testimony: bytes | None = None,
        opening: bytes | None = None,
    ) -> Receipt:
        """T1: fix who survived, the statement they answered and signed, and what it takes to open their sum.

        Saying the same again changes nothing.
        """
        with self._step(f"settling round {number} of") as (session, run):
            row = _require_open(session, run, number, attempt)
            strangers = set(survivors) - set(row.roster)
            if strangers or not survivors:
                raise RoundConflict(
                    f"round {number} of {run.id} cannot settle on {sorted(survivors)}: "
                    f"name at least one site, all from its roster {row.roster}"
                )
            settled: tuple[list[str], Digest] = (sorted(survivors), statement_digest)
            before = (row.survivors, row.statement_digest, row.opening)
            if row.survivors is not None and before != (*settled, opening):
                raise RoundConflict(
                    f"round {number} of {run.id} is settled on {row.survivors}; void it to try others"
                )
            repeated = row.survivors is not None
            row.survivors, row.statement_digest = settled
            row.testimony, row.opening = testimony, opening
            charged = self._charge(session, Stage.TRAIN, number, attempt, survivors)
            if not repeated:
                at = (Stage.TRAIN, number, attempt)
                self._untold.append(told.settled(self._run_id, at, survivors, charged, statement_digest))
        return Receipt(Stage.TRAIN, number, attempt)

    def settle_attempt(
        self, stage: Stage, number: int, attempt: int, survivors: Collection[SiteName], opening: bytes | None
    ) -> Receipt:
        """T1 of an attempt at preparing or evaluating: charge what is released, and keep what it takes to open the sum.

        Saying the same again changes nothing.
        """
        with self._step(f"settling the {stage.name.lower()} stage of round {number} of") as (session, run):
            _require_running(run)
            row = session.get(Attempt, (run.id, stage.name.lower(), number, attempt))
            if row is None or row.survivors is not None or row.opening not in {None, opening}:
                raise RoundConflict(
                    f"attempt {attempt} to {stage.name.lower()} round {number} of {run.id} is not open"
                )
            repeated = row.opening is not None
            row.opening = opening
            charged = self._charge(session, stage, number, attempt, survivors)
            if not repeated:
                at = (stage, number, attempt)
                self._untold.append(told.settled(self._run_id, at, survivors, charged))
        return Receipt(stage, number, attempt)

    def commit(
        self,
        number: int,
        attempt: int,
        *,
        aggregate: Vector,
        model: Vector,
        optimizer: OptimizerState,
        exchange_s: float,
        seconds: float,
    ) -> Committed:
        """T2: keep what came of a settled round: `aggregate` and `model`, (d,) float64, and the optimiser's state, under its checkpoint."""
        names = self._keep(model, optimizer)
        pooled = self._artifacts.put(vector_bytes(aggregate))
        with self._step(f"committing round {number} of") as (session, run):
            row = _require_open(session, run, number, attempt)
            _require_next(session, run, number)
            if row.survivors is None:
                raise RoundConflict(
                    f"round {number} of {run.id} is not settled; settle it before it is committed"
                )
            row.state, row.opening = RoundState.COMMITTED, None
            row.aggregate_digest = pooled
            row.model_digest, row.optimizer_digest = vector_digest(model), optimizer.digest
            row.exchange_s, row.seconds = exchange_s, seconds
            row.closed_at = self._clock()
            session.add(_checkpoint(run, number, names))
            run.idle_starts = 0
            self._untold.append(told.committed(row))
        return Committed(number=number, model=model, optimizer=optimizer)

    def record_metrics(
        self, number: int, metrics: ScoreMetrics, *, attempt: int, survivors: Collection[str]
    ) -> None:
        """Keep the evaluation of the model after committed round `number` by `survivors` of an attempt; the latest one counts."""
        with self._step(f"recording the metrics of round {number} of") as (session, run):
            _require_running(run)
            row = committed_round(session, run.id, number)
            if row is None:
                raise RoundConflict(
                    f"round {number} of {run.id} is not committed, so there is nothing to evaluate"
                )
            self._answered(session, Stage.EVALUATE, number, attempt, survivors)
            row.metrics = asdict(metrics)
            run.idle_starts = 0
            self._untold.append(told.evaluated(self._run_id, number, attempt, survivors, row.metrics))

    def record_no_metrics(self, number: int, *, attempt: int, survivors: Collection[str]) -> None:
        """Keep that an attempt at evaluating round `number` was opened, and gave no metrics."""
        with self._step(f"recording that round {number} has no metrics of") as (session, run):
            _require_running(run)
            self._answered(session, Stage.EVALUATE, number, attempt, survivors)
            run.idle_starts = 0
            self._untold.append(told.evaluated(self._run_id, number, attempt, survivors, None))

    def void(self, number: int, attempt: int, reason: str) -> None:
        """Give an open attempt up, for `reason`; one that is voided already stays as it is."""
        with self._step(f"voiding round {number} of") as (session, run):
            row = session.get(Round, (run.id, number, attempt))
            if row is None or row.state == RoundState.COMMITTED:
                raise RoundConflict(
                    f"attempt {attempt} at round {number} of {run.id} is "
                    f"{'unknown' if row is None else row.state}; only an open attempt can be voided"
                )
            if row.state == RoundState.OPEN:
                self._void_row(row, reason)

    def finish(self, state: FinalState, reason: str | None = None) -> None:
        """End the run; an attempt still open is voided unless its sum can be opened. Ending it the same way twice changes nothing."""
        final = RunState(state)
        with self._step("finishing") as (session, run):
            if run.state == final:
                return
            if run.state not in {RunState.SUBMITTED, RunState.RUNNING}:
                raise RoundConflict(f"{run.id} has already {run.state}; it cannot become {final}")
            # A sum that can still be opened is all that its sites will ever give for that round.
            self._void_open(session, run, f"the run ended: {reason or final}", but_unopened=True)
            run.state, run.reason, run.finished_at = final, reason, self._clock()
            if final == RunState.COMPLETED and self._ledger is not None:
                self._ledger.close_run(session, self._run_id, "the run completed without it")
            self._untold.append(told.ended(self._run_id, state, reason))

    def tell(
        self,
        doing: str,
        what: Collection[What],
        also: Callable[[Session, datetime], None] = lambda *_: None,
    ) -> None:
        """Append entries about this run to the log, and do what belongs to them in the same transaction."""
        with self._step(doing) as (session, _):
            also(session, self._clock())
            self._untold += what

    def _charge(
        self, session: Session, stage: Stage, number: int, attempt: int, sites: Collection[SiteName]
    ) -> tuple[Digest, ...]:
        """Settle with the ledger, in this transaction, what an attempt is about to release of `sites`; what each is charged, by digest."""
        if self._ledger is None:
            return ()
        return self._ledger.settle(
            session, self._run_id, stage.name.lower(), number, attempt, sorted(set(sites))
        )

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
                append(session, self._clock(), self._untold)

    def _keep(self, model: Vector, optimizer: OptimizerState) -> tuple[Digest, Digest]:
        """Put both artifacts on disk, flushed, before any row names them."""
        return self._artifacts.put(vector_bytes(model)), self._artifacts.put(optimizer.to_bytes())

    def _answered(
        self, session: Session, stage: Stage, number: int, attempt: int, survivors: Collection[str]
    ) -> None:
        row = session.get(Attempt, (self._run_id, stage.name.lower(), number, attempt))
        if row is None or not survivors or not set(survivors) <= set(row.roster):
            raise RoundConflict(
                f"attempt {attempt} to {stage.name.lower()} round {number} of {self._run_id} was not asked of {sorted(survivors)}"
            )
        row.survivors, row.opening = sorted(survivors), None

    def _void_open(self, session: Session, run: Run, reason: str, *, but_unopened: bool = False) -> None:
        for row in session.scalars(
            select(Round).where(Round.run_id == run.id, Round.state == RoundState.OPEN)
        ):
            if not but_unopened or row.opening is None:
                self._void_row(row, reason)
        # Before the next attempt is inserted: at most one may be open, at any moment of the transaction.
        session.flush()

    def _void_row(self, row: Round, reason: str) -> None:
        row.state, row.reason, row.closed_at, row.opening = RoundState.VOIDED, reason, self._clock(), None
        self._untold.append(told.voided(row, reason))


def _require_running(run: Run) -> None:
    if run.state != RunState.RUNNING:
        raise RoundConflict(f"{run.id} is {run.state}, not running; its rounds stand still")


def _last_number(session: Session, run: Run) -> int | None:
    return session.scalar(select(func.max(Checkpoint.round)).where(Checkpoint.run_id == run.id))


def _require_next(session: Session, run: Run, number: int) -> None:
    last = _last_number(session, run)
    if last is None:
        raise RoundConflict(f"{run.id} has no initial model yet; begin it before round {number}")
    if number != last + 1:
        raise RoundConflict(f"{run.id} has committed round {last}; the next is {last + 1}, not {number}")


def _require_open(session: Session, run: Run, number: int, attempt: int) -> Round:
    _require_running(run)
    row = session.get(Round, (run.id, number, attempt))
    if row is None or row.state != RoundState.OPEN:
        raise RoundConflict(
            f"attempt {attempt} at round {number} of {run.id} is {'unknown' if row is None else row.state}, not open"
        )
    return row


def _checkpoint(run: Run, number: int, names: tuple[Digest, Digest]) -> Checkpoint:
    return Checkpoint(run_id=run.id, round=number, model_artifact=names[0], optimizer_artifact=names[1])
