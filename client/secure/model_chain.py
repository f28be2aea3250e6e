"""The one sequence of models of a run, as a site computes it itself from the aggregates.

1. The first model and optimiser state follow from the plan. Each next one follows from the one before and the round's aggregate, by
   the plan's server optimiser: elementwise float64, the same at every site.
2. What a statement names must be what this site has computed. If it is not, the site takes no part: somebody was told another story.
3. From an aggregate above the plan's gate no model follows, whatever a statement names.
4. A site that has missed rounds is given the state before the last round, and believes it if a quorum of the peers that it recognises has
   signed, with their inputs to that round, that they were told of it.

This makes all sites follow one sequence. It does not prove an aggregate right.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.refusal import TaskRefused
from protos.frames import Checkpoint, RefusalCode, Stage, Statement, Testimony
from protos.plan import Plan
from strategies.encoding import Vector, vector_digest
from strategies.errors import CovenantError
from strategies.ids import Digest, SiteName
from strategies.models import DenseModel
from strategies.secagg.identities import Peers, Verify
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import UPLOAD, Bound, MaskedInput
from strategies.secagg.parameters import Parameters
from strategies.server_optimizers import OptimizerState
from strategies.update_gate import GateTripped


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who may vouch for a checkpoint to this site."""

    site: SiteName
    suite: str
    parameters: Parameters
    peers: Peers
    verify: Verify


@dataclass(frozen=True, slots=True)
class _Point:
    """`model`, (d,) float64, and the optimiser's state after round `number`."""

    number: int
    model: Vector
    optimizer: OptimizerState


@dataclass
class ModelChain:
    """Where a run stands at this site."""

    plan: Plan
    _point: _Point

    @classmethod
    def begin(cls, plan: Plan, shape: DenseModel) -> ModelChain:
        """Before the first round."""
        model = shape.initial(plan.training.seed)
        return cls(plan, _Point(0, model, plan.server_optimizer().initial(shape.size)))

    @property
    def number(self) -> int:
        """The round after which this site has the model; 0 before the first."""
        return self._point.number

    @property
    def model(self) -> Vector:
        """The model after that round, (d,) float64."""
        return self._point.model

    @property
    def digest(self) -> Digest:
        """The digest of the model."""
        return vector_digest(self._point.model)

    def follow(
        self,
        said: Statement,
        aggregate: Vector | None,
        checkpoint: Checkpoint | None,
        witnesses: Witnesses,
    ) -> Vector:
        """Step to the model that `said` names, and return it. Raises `TaskRefused` where it is not the one that follows.

        A refusal leaves the chain where it was, so that one wrong aggregate does not keep a site out of the run.
        """
        target = said.round - 1 if said.stage is Stage.TRAIN else said.round
        reached = self._point
        if reached.number < target - 1 and checkpoint is not None:
            reached = self._believed(said, target, checkpoint, witnesses)
        if reached.number == target - 1 and aggregate is not None:
            reached = self._stepped(reached, aggregate)
        if reached.number != target:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"this site has the model of round {self.number}, not that of {target}"
            )
        if (vector_digest(reached.model), reached.optimizer.digest) != (
            said.model_digest,
            said.optimizer_digest,
        ):
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"the model of round {target} is not the one that this site has computed",
            )
        self._point = reached
        return reached.model

    def _stepped(self, before: _Point, aggregate: Vector) -> _Point:
        if aggregate.shape != before.model.shape:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"an aggregate of {aggregate.size} values; the model has {before.model.size}",
            )
        try:
            self.plan.require_gate(aggregate, before.number + 1)
        except GateTripped as tripped:
            raise TaskRefused(RefusalCode.PROTOCOL, f"{tripped}; no model follows from it") from tripped
        try:
            model, optimizer = self.plan.server_optimizer().step(before.model, aggregate, before.optimizer)
        except CovenantError as error:
            raise TaskRefused(RefusalCode.PROTOCOL, f"the aggregate gives no next model: {error}") from error
        return _Point(before.number + 1, model, optimizer)

    def _believed(self, said: Statement, target: int, kept: Checkpoint, witnesses: Witnesses) -> _Point:
        """The point that a checkpoint holds, after every check."""
        told = kept.testimony.statement
        if (told.run, told.plan_digest, told.stage, told.round) != (
            said.run,
            said.plan_digest,
            Stage.TRAIN,
            target,
        ):
            raise TaskRefused(RefusalCode.PROTOCOL, "the checkpoint is of another run or round")
        if (vector_digest(kept.model), kept.optimizer.digest) != (told.model_digest, told.optimizer_digest):
            raise TaskRefused(
                RefusalCode.PROTOCOL, "the checkpoint is not the state that its statement names"
            )
        ours = self._point
        if kept.model.shape != ours.model.shape or len(kept.optimizer.slots) != len(ours.optimizer.slots):
            raise TaskRefused(RefusalCode.PROTOCOL, "the checkpoint does not fit the plan's model")
        found = _vouching(kept.testimony, witnesses)
        # Never fewer than the plan's minimum, however few the statement says were asked: colluding peers alone vouch for nothing.
        needed = witnesses.parameters.threshold(len(told.roster))
        if found < needed:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"{found} of the peers that this site recognises have signed the checkpoint of round {target - 1}; {needed} must have",
            )
        return _Point(target - 1, kept.model, kept.optimizer)


def _vouching(kept: Testimony, witnesses: Witnesses) -> int:
    """How many recognised sites, this one included, have signed an input under the checkpoint's statement."""
    told = kept.statement
    attempt = Attempt(
        suite=witnesses.suite,
        plan=told.plan_digest,
        run=told.run,
        stage=told.stage.name,
        round=told.round,
        attempt=told.attempt,
    )
    bound = Bound(attempt, kept.cohort, told.digest)
    believed = {*witnesses.peers.recognised, witnesses.site} & set(told.roster)
    return sum(
        site in believed
        and witnesses.verify(
            site, UPLOAD, MaskedInput.signed_digest(bound, site, upload.packed), upload.signature
        )
        for site, upload in kept.uploads.items()
    )
