"""What a run has left behind, read back: its newest checkpoint, its scaling, its metrics. Nothing here writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, undefer

from coordinator.db.engine import reading
from coordinator.db.schema import Attempt, Checkpoint, Round, RoundState, Run
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.question import Receipt
from protos.frames import Stage
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import Panels, released_panels
from strategies.encoding import Vector
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, RunId
from strategies.server_optimizers import OptimizerState


class RoundConflict(CovenantError):  # noqa: N818  (a conflict is an outcome, not a defect)
    """The run or the round is not in the state that this step needs: usually, another driver has moved it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The newest state of a run: `model` is (d,) float64 after round `number`, 0 being the initial model."""

    number: int
    model: Vector
    optimizer: OptimizerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A committed round: its `aggregate`, the survivors' testimony as bytes, and the state before, of which `model` is the digest.

    Aggregate and state are read when they are asked for: mostly every site has the state, and both are as large as a model.
    """

    number: int
    model: Digest
    testimony: bytes | None
    read: Callable[[], Vector]
    restore: Callable[[], Committed]

    @property
    def aggregate(self) -> Vector:
        """What the round's sum gave, (d,) float64."""
        return self.read()

    @property
    def before(self) -> Committed:
        """The state before the round, after round `number` - 1."""
        return self.restore()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """An attempt whose survivors are known, as its `receipt` says. `opening` is what it takes to ask for their shares again."""

    receipt: Receipt
    opening: bytes


class RoundRecord:
    """The record of one run. Methods raise RoundConflict, and CovenantError when the database or disk fails."""

    def __init__(self, engine: Engine, artifacts: ArtifactStore, run_id: RunId) -> None:
        self._engine = engine
        self._artifacts = artifacts
        self._run_id = run_id
        self._held: WeakValueDictionary[Digest, Vector] = WeakValueDictionary()

    def scaling(self) -> Scaling | None:
        """The scaling that `begin` fixed, to the bit, or None before."""
        with self._look("scaling") as session:
            kept = the_run(session.get(Run, self._run_id), self._run_id).scaling
        return None if kept is None else Scaling(mean=tuple(kept["mean"]), std=tuple(kept["std"]))

    def metrics(self, number: int) -> ScoreMetrics | None:
        """The evaluation kept for round `number`, or None."""
        with self._look(f"metrics of round {number}") as session:
            row = committed_round(session, self._run_id, number)
            kept: dict[str, Any] | None = None if row is None else row.metrics
        if kept is None:
            return None
        return ScoreMetrics.from_facts(kept)

    def panels(self, number: int) -> Panels | None:
        """What the evaluation of round `number` told without metrics, or None."""
        with self._look(f"panels of round {number}") as session:
            row = committed_round(session, self._run_id, number)
            return None if row is None else released_panels(None, row.panels)

    def last_committed(self) -> Committed | None:
        """The newest checkpoint, verified against its digests; None before `begin`."""
        with self._look("last checkpoint") as session:
            newest = session.scalar(
                select(Checkpoint)
                .where(Checkpoint.run_id == self._run_id)
                .order_by(Checkpoint.round.desc())
                .limit(1)
            )
        return None if newest is None else self._restored(newest, self._artifacts.vector)

    def step(self, number: int) -> Step:
        """How the model after committed round `number` came about from the one before it."""
        with self._look(f"round {number}") as session:
            row = committed_round(session, self._run_id, number)
            before = session.get(Checkpoint, (self._run_id, number - 1))
        if row is None or before is None or row.aggregate_digest is None:
            raise RoundConflict(
                f"round {number} of {self._run_id} is not committed, so it cannot be told to anybody"
            )
        return Step(
            number=number,
            model=Digest(before.model_artifact),
            testimony=row.testimony,
            read=partial(self._shared, Digest(row.aggregate_digest)),
            restore=partial(self._restored, before, self._shared),
        )

    def unopened(self, stage: Stage, number: int) -> Unopened | None:
        """The attempt whose survivors are recorded and whose sum is not, if there is one."""
        with self._look(f"{stage.name.lower()} stage of round {number}") as session:
            if stage is Stage.TRAIN:
                open_round = select(Round).where(
                    Round.run_id == self._run_id, Round.number == number, Round.state == RoundState.OPEN
                )
                kept_rounds = open_round.where(Round.opening.is_not(None)).options(undefer(Round.opening))
                row: Round | Attempt | None = session.scalar(kept_rounds)
            else:
                asked = select(Attempt).where(
                    Attempt.run_id == self._run_id,
                    Attempt.stage == stage.name.lower(),
                    Attempt.round == number,
                )
                kept = asked.where(Attempt.opening.is_not(None), Attempt.survivors.is_(None))
                row = session.scalar(
                    kept.order_by(Attempt.attempt.desc()).limit(1).options(undefer(Attempt.opening))
                )
        if row is None or row.opening is None:
            return None
        return Unopened(receipt=Receipt(stage, number, row.attempt), opening=row.opening)

    def has_answered(self, stage: Stage, number: int) -> bool:
        """Whether an attempt at preparing, or at evaluating round `number`, was opened."""
        with self._look(f"{stage.name.lower()} stage of round {number}") as session:
            opened = select(Attempt.attempt).where(
                Attempt.run_id == self._run_id,
                Attempt.stage == stage.name.lower(),
                Attempt.round == number,
                Attempt.survivors.is_not(None),
            )
            return session.scalar(opened.limit(1)) is not None

    def _restored(self, kept: Checkpoint, read: Callable[[Digest], Vector]) -> Committed:
        model = read(Digest(kept.model_artifact))
        state = self._artifacts.get(Digest(kept.optimizer_artifact))
        return Committed(
            number=kept.round, model=model, optimizer=OptimizerState.from_bytes(state, model.size)
        )

    def _shared(self, name: Digest) -> Vector:
        """A vector that nobody changes: read once for all who hold it at the same time, and given back when the last of them is done."""
        vector = self._held.get(name)
        if vector is None:
            vector = self._held[name] = self._artifacts.vector(name)
        return vector

    @contextmanager
    def _look(self, at: str) -> Iterator[Session]:
        with reading(self._engine, f"reading the {at} of {self._run_id}") as session:
            yield session


def the_run(found: Run | None, run_id: RunId) -> Run:
    """The run that was looked up. Raises RoundConflict where there is none."""
    if found is None:
        raise RoundConflict(f"{run_id} is not in this database; covenant run list names those that are")
    return found


def committed_round(session: Session, run_id: str, number: int) -> Round | None:
    """The committed attempt at round `number`, or None."""
    return session.scalar(
        select(Round).where(
            Round.run_id == run_id, Round.number == number, Round.state == RoundState.COMMITTED
        )
    )
