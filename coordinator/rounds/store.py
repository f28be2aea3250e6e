"""What a run's driver must never forget, kept in the database before the driver goes on.

1. Every method is one transaction that first locks the run's row, so two drivers of one run take turns.
2. A driver is fenced: once another one has called `start`, whatever the first still tries is refused.
3. Sites are asked under an attempt that was recorded first, so no two questions ever carry the same one.
   A round is opened, then settled (T1: who survived), then committed (T2: what came of it). Rounds are committed in order,
   each number once; an attempt left open by a crash is voided when the next one opens.
4. Artifacts are on disk, flushed, before a row names them. One that no row names is harmless.
5. Round 0 is the initial model; its scaling is fixed with it, because every later model depends on both.
6. Under a halt nothing is begun and nothing settled, whatever the driver knows of it, nor while the log is known to be forked. What was settled
   before is opened once the run goes on.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.schema import FINAL_STATES, Attempt, Round, RoundState, RunState
from coordinator.governance.halted import require_free
from coordinator.governance.witnesses import require_no_fork
from coordinator.rounds import telling as told
from coordinator.rounds.ending import FinalState, end_run, void_row
from coordinator.rounds.question import Receipt
from coordinator.rounds.record import Committed, RoundConflict, committed_round
from coordinator.rounds.steps import RunSteps, checkpoint, last_number, require_next
from protos.frames import Stage
from protos.log_entries import What
from protos.log_run_events import Tripped
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import Panels
from strategies.encoding import Vector, vector_digest
from strategies.features import Scaling
from strategies.ids import Digest, SiteName
from strategies.server_optimizers import OptimizerState

_INITIAL: Final = 0


class RoundStore(RunSteps):
    """The rounds of one run, written step by step. Methods raise RoundConflict, Halted, and CovenantError when the database or disk fails."""

    def start(self, flower_run_id: int) -> None:
        """Take the run over as its one driver. One that has ended stays ended: a person resumes it first."""
        with self._step("starting") as (session, run):
            require_free(session, f"starting {run.id}", self._run_id)
            require_no_fork(session)
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
            self._require_going(session, run, "recording the initial model of")
            if (last_number(session, run) or _INITIAL) > _INITIAL:
                raise RoundConflict(f"{run.id} has committed rounds; its scaling and initial model are fixed")
            self._void_open(session, run, "the run began anew with another initial model")
            self._answered(session, Stage.PREPARE, _INITIAL, attempt, survivors)
            run.scaling = {"mean": list(scaling.mean), "std": list(scaling.std)}
            run.idle_starts = 0
            session.merge(checkpoint(run, _INITIAL, names))
            self._untold.append(told.prepared(self._run_id, attempt, survivors, scaling, names[0]))
        return Committed(number=_INITIAL, model=model, optimizer=optimizer)

    def next_attempt(self, stage: Stage, number: int, roster: Collection[str]) -> int:
        """Take the next attempt, from 1, at preparing or at evaluating round `number`; no other driver gets the same one."""
        doing = f"asking to {stage.name.lower()} round {number} of"
        with self._step(doing) as (session, run):
            self._require_going(session, run, doing, _sites(roster))
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
        doing = f"opening round {number} of"
        with self._step(doing) as (session, run):
            self._require_going(session, run, doing, _sites(roster))
            require_next(session, run, number)
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
            row = self._require_open(session, run, number, attempt)
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
        doing = f"settling the {stage.name.lower()} stage of round {number} of"
        with self._step(doing) as (session, run):
            self._require_going(session, run, doing)
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
        aggregate: Digest,
        model: Vector,
        optimizer: OptimizerState,
        exchange_s: float,
        seconds: float,
    ) -> Committed:
        """T2: keep what came of a settled round: `aggregate`, as `keep_aggregate` has kept it, `model`, (d,) float64, and the optimiser's state, under its checkpoint."""
        names = self._keep(model, optimizer)
        with self._step(f"committing round {number} of") as (session, run):
            row = self._require_open(session, run, number, attempt)
            require_next(session, run, number)
            if row.survivors is None:
                raise RoundConflict(
                    f"round {number} of {run.id} is not settled; settle it before it is committed"
                )
            row.state, row.opening = RoundState.COMMITTED, None
            row.aggregate_digest = aggregate
            row.model_digest, row.optimizer_digest = vector_digest(model), optimizer.digest
            row.exchange_s, row.seconds = exchange_s, seconds
            row.closed_at = self._clock()
            session.add(checkpoint(run, number, names))
            run.idle_starts = 0
            self._untold.append(told.committed(row))
        return Committed(number=number, model=model, optimizer=optimizer)

    def record_metrics(
        self, number: int, metrics: ScoreMetrics, *, attempt: int, survivors: Collection[str]
    ) -> None:
        """Keep the evaluation of the model after committed round `number` by `survivors` of an attempt; the latest one counts."""
        doing = f"recording the metrics of round {number} of"
        with self._step(doing) as (session, run):
            self._require_going(session, run, doing)
            row = committed_round(session, run.id, number)
            if row is None:
                raise RoundConflict(
                    f"round {number} of {run.id} is not committed, so there is nothing to evaluate"
                )
            self._answered(session, Stage.EVALUATE, number, attempt, survivors)
            row.metrics = asdict(metrics)
            run.idle_starts = 0
            self._untold.append(told.evaluated(self._run_id, number, attempt, survivors, row.metrics))

    def record_no_metrics(
        self, number: int, *, attempt: int, survivors: Collection[str], panels: Panels | None = None
    ) -> None:
        """Keep that an attempt at evaluating round `number` was opened and gave no metrics, and the `panels` that it gave nevertheless."""
        doing = f"recording that round {number} has no metrics of"
        with self._step(doing) as (session, run):
            self._require_going(session, run, doing)
            self._answered(session, Stage.EVALUATE, number, attempt, survivors)
            facts = None if panels is None else asdict(panels)
            row = committed_round(session, run.id, number)
            if row is not None:
                row.panels = facts
            run.idle_starts = 0
            self._untold.append(told.evaluated(self._run_id, number, attempt, survivors, None, facts))

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
                self._untold.append(void_row(row, reason, self._clock()))

    def finish(self, state: FinalState, reason: str | None = None, tripped: Tripped | None = None) -> None:
        """End the run, if the plan's gate did so by what `tripped` it; an attempt still open is voided unless its sum can be opened. Ending it the same way twice changes nothing."""
        final = RunState(state)
        with self._step("finishing") as (session, run):
            if run.state == final:
                return
            if run.state not in {RunState.SUBMITTED, RunState.RUNNING}:
                raise RoundConflict(f"{run.id} has already {run.state}; it cannot become {final}")
            ended = list(end_run(session, run, state, reason, self._clock(), tripped))
            if final == RunState.COMPLETED and self._ledger is not None:
                self._ledger.close_run(session, self._run_id, "the run completed without it")
            self._untold.extend(ended)

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


def _sites(roster: Collection[str]) -> tuple[SiteName, ...]:
    return tuple(SiteName(each) for each in roster)
