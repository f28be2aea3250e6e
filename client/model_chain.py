"""The one sequence of models of a run, as a site computes it itself from the aggregates.

1. The first model and optimiser state follow from the plan. Each next one follows from the one before and the round's aggregate, by
   the plan's server optimiser: elementwise float64, the same at every site.
2. What a statement names must be what this site has computed. If it is not, the site takes no part: somebody was told another story.
3. A site that has missed rounds is given the state before the last round, and believes it if a quorum of the peers that it recognises has
   signed, with their inputs to that round, that they were told of it.

This makes all sites follow one sequence. It does not prove an aggregate right.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.plan_check import TaskRefused
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


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who may vouch for a checkpoint to this site."""

    site: SiteName
    suite: str
    parameters: Parameters
    peers: Peers
    verify: Verify


@dataclass
class ModelChain:
    """Where a run stands: `model`, (d,) float64, and the optimiser's state after round `number`."""

    plan: Plan
    number: int
    model: Vector
    optimizer: OptimizerState

    @classmethod
    def begin(cls, plan: Plan, shape: DenseModel) -> ModelChain:
        """Before the first round."""
        return cls(plan, 0, shape.initial(plan.training.seed), plan.server_optimizer().initial(shape.size))

    @property
    def digest(self) -> Digest:
        """The digest of the model."""
        return vector_digest(self.model)

    def follow(
        self,
        said: Statement,
        aggregate: Vector | None,
        checkpoint: Checkpoint | None,
        witnesses: Witnesses,
    ) -> Vector:
        """Step to the model that `said` names, and return it. Raises `TaskRefused` where it is not the one that follows."""
        target = said.round - 1 if said.stage is Stage.TRAIN else said.round
        if self.number < target - 1 and checkpoint is not None:
            self._believe(said, target, checkpoint, witnesses)
        if self.number == target - 1 and aggregate is not None:
            self._step(aggregate)
        if self.number != target:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"this site has the model of round {self.number}, not that of {target}"
            )
        if (self.digest, self.optimizer.digest) != (said.model_digest, said.optimizer_digest):
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"the model of round {target} is not the one that this site has computed",
            )
        return self.model

    def _step(self, aggregate: Vector) -> None:
        if aggregate.shape != self.model.shape:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"an aggregate of {aggregate.size} values; the model has {self.model.size}",
            )
        try:
            following = self.plan.server_optimizer().step(self.model, aggregate, self.optimizer)
        except CovenantError as error:
            raise TaskRefused(RefusalCode.PROTOCOL, f"the aggregate gives no next model: {error}") from error
        self.model, self.optimizer = following
        self.number += 1

    def _believe(self, said: Statement, target: int, kept: Checkpoint, witnesses: Witnesses) -> None:
        """Take a checkpoint over after every check."""
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
        if kept.model.shape != self.model.shape or len(kept.optimizer.slots) != len(self.optimizer.slots):
            raise TaskRefused(RefusalCode.PROTOCOL, "the checkpoint does not fit the plan's model")
        found = _vouching(kept.testimony, witnesses)
        needed = min(witnesses.parameters.threshold(len(told.roster)), len(told.roster))
        if found < needed:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"{found} of the peers that this site recognises have signed the checkpoint of round {target - 1}; {needed} must have",
            )
        self.number, self.model, self.optimizer = target - 1, kept.model, kept.optimizer


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
