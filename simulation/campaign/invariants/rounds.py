"""What the rounds promise: nothing committed is lost, and nothing but the survivors' answers is in a model."""

from __future__ import annotations

import json
import sqlite3
from functools import cached_property

import numpy as np

from coordinator.db.schema import RunState
from coordinator.registry.artifacts import ArtifactStore
from coordinator.runs import RunView
from protos.codec_fields import CodecError
from protos.frames import SecureAnswer, Update
from protos.plan_aggregation import PlainAggregation
from protos.secure_codec import decode_answer, decode_testimony
from simulation.campaign.invariants.base import Invariant, register
from strategies.aggregation import Contribution, total
from strategies.analytics.moments import scaling_from
from strategies.encoding import Vector, vector_digest, vector_from_bytes
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, SiteName, site_name
from strategies.secagg.messages import MaskedInput
from strategies.secagg.payloads import Moments, WeightedUpdates, dither_seed
from strategies.server_optimizers import OptimizerState

_COMMITTED = "SELECT * FROM rounds WHERE state = 'committed' ORDER BY number"
_CHECKPOINTS = "SELECT * FROM checkpoints ORDER BY round"


@register
class CommittedRoundsStay(Invariant):
    """Reads the database after each commit and compares with what it has read before."""

    name = "committed-rounds-stay"
    part = "rounds"
    says = "A committed round is never lost, changed or committed again, and its model and optimiser state can be read."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._seen: list[tuple[int, str, str, str]] = []
        self._artifacts = ArtifactStore(self.scene.federation.layout.home / "artifacts")

    def committed(self) -> None:
        """See `Invariant.committed`."""
        rows = self.scene.rows(_COMMITTED)
        now = [(r["number"], r["model_digest"], r["optimizer_digest"], r["survivors"]) for r in rows]
        self.require(
            now[: len(self._seen)] == self._seen,
            f"{len(self._seen)} rounds were committed, now rounds {[each[0] for each in now]} are, or others of the same numbers",
        )
        self.require(
            [each[0] for each in now] == list(range(1, len(now) + 1)),
            "a round was left out or committed twice",
        )
        checkpoints = {r["round"]: r for r in self.scene.rows(_CHECKPOINTS)}
        for number, model, *_ in now[len(self._seen) :]:
            self.require(number in checkpoints, f"round {number} is committed without a checkpoint")
            self._require_artifacts(number, model, checkpoints[number])
        self._seen = now

    def _require_artifacts(self, number: int, model: str, checkpoint: sqlite3.Row) -> None:
        try:
            kept = self._artifacts.get(Digest(checkpoint["model_artifact"]))
            self._artifacts.get(Digest(checkpoint["optimizer_artifact"]))
        except CovenantError as error:
            self.require(False, f"round {number} is committed, but {error}")  # noqa: FBT003
        vector = vector_from_bytes(kept, len(kept) // 8)
        self.require(
            vector_digest(vector) == model, f"round {number} has another model on disk than in its row"
        )

    def ended(self, run: RunView) -> None:
        """See `Invariant.ended`."""
        del run
        self.committed()


@register
class ModelFollowsFromSurvivors(Invariant):
    """Computes every committed model again, by the training itself, from the model before and the recorded survivors."""

    name = "model-follows-from-survivors"
    part = "rounds"
    says = (
        "Every committed model is, to the bit, what its recorded survivors' honest updates give; so the model after any recovery "
        "is the model without the fault."
    )

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._checked = 0
        self._model: Vector | None = None
        self._optimizer: OptimizerState | None = None

    def committed(self) -> None:
        """See `Invariant.committed`."""
        for row in self.scene.rows(_COMMITTED)[self._checked :]:
            if self._checked == 0:
                self._begin()
            self._follow(row["number"], [site_name(site) for site in json.loads(row["survivors"])], row)
            self._checked += 1

    @cached_property
    def _scaling(self) -> Scaling:
        """What the sites that answered the prepare stage give."""
        (attempt, *_) = self.scene.rows(
            "SELECT survivors FROM attempts WHERE stage = 'prepare' AND survivors IS NOT NULL ORDER BY attempt DESC"
        )
        sessions = self.scene.stage.sessions
        survivors = [site_name(site) for site in json.loads(attempt["survivors"])]
        moments = {site: sessions[site].moments() for site in survivors}
        if isinstance(self.scene.stage.plan.aggregation, PlainAggregation):
            return scaling_from(total([Contribution(site, each) for site, each in moments.items()]))
        fixed = Moments(len(survivors))
        return scaling_from(fixed.value(np.sum([fixed.embed(each) for each in moments.values()], axis=0)))

    def _begin(self) -> None:
        plan = self.scene.stage.plan
        shape = plan.dense_model(self.scene.stage.contract.feature_spec(plan.features).width)
        self._model = shape.initial(plan.training.seed)
        self._optimizer = plan.server_optimizer().initial(shape.size)
        (run,) = self.scene.rows("SELECT scaling FROM runs")
        kept = json.loads(run["scaling"])
        self.require(
            (tuple(kept["mean"]), tuple(kept["std"])) == (self._scaling.mean, self._scaling.std),
            "the scaling is not what the moments of the recorded survivors give",
        )

    def _mean(self, number: int, updates: dict[SiteName, Vector], row: sqlite3.Row) -> Vector:
        """What the plan's aggregation gives for these updates, computed without any masks."""
        plan = self.scene.stage.plan
        if isinstance(plan.aggregation, PlainAggregation):
            sent = [Contribution(s, each, plan.weight_of(s)) for s, each in updates.items()]
            return plan.aggregation.update_rule.aggregate(sent)
        roster = decode_testimony(row["testimony"]).statement.roster
        rule = WeightedUpdates(plan.aggregation.update_range, {s: plan.weight_of(s) for s in roster})
        names = (plan.training.component, str(plan.training.seed))
        inputs = [rule.embed(s, each, dither_seed(*names, s, str(number))) for s, each in updates.items()]
        return rule.mean(np.sum(inputs, axis=0), tuple(updates))

    def _follow(self, number: int, survivors: list[SiteName], row: sqlite3.Row) -> None:
        if self._model is None or self._optimizer is None:
            return
        stage, model = self.scene.stage, self._model
        updates = {s: stage.update(s, number, model, self._scaling) for s in survivors}
        aggregate = self._mean(number, updates, row)
        self._model, self._optimizer = stage.plan.server_optimizer().step(model, aggregate, self._optimizer)
        self.require(
            (row["model_digest"], row["optimizer_digest"])
            == (vector_digest(self._model), self._optimizer.digest),
            f"round {number} is not what the updates of {', '.join(survivors)} give",
        )
        self.require(np.isfinite(self._model).all(), f"round {number} has a model that is not finite")


@register
class SurvivorsHaveAnswered(Invariant):
    """Keeps what arrived, and looks whether each survivor is among those who sent it."""

    name = "survivors-have-answered"
    part = "rounds"
    says = "Who is recorded as a survivor has sent, in its own name, an update for the very statement of the round."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._arrived: set[tuple[str, str]] = set()
        self._checked = 0

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """See `Invariant.frame`."""
        if direction != "arrival":
            return
        try:
            reply = decode_answer(frame)
        except CodecError:
            return
        if reply.site == site and isinstance(reply.body, Update):
            self._arrived.add((site, reply.statement_digest))
        elif isinstance(reply.body, SecureAnswer):
            inputs = [each.body for each in reply.body.frames if isinstance(each.body, MaskedInput)]
            self._arrived |= {(site, each.statement) for each in inputs if each.site == site}

    def committed(self) -> None:
        """See `Invariant.committed`."""
        for row in self.scene.rows(_COMMITTED)[self._checked :]:
            missing = [
                s for s in json.loads(row["survivors"]) if (s, row["statement_digest"]) not in self._arrived
            ]
            self.require(
                not missing, f"round {row['number']} counts {', '.join(missing)}, whose answer never came"
            )
            minimum = self.scene.stage.plan.sites.minimum
            self.require(
                len(json.loads(row["survivors"])) >= minimum, f"round {row['number']} has too few survivors"
            )
            self._checked += 1


@register
class RunsEnd(Invariant):
    """Looks at the end."""

    name = "runs-end"
    part = "rounds"
    says = (
        "When the network is well again, every run completes: by itself after a crash, resumed by a person after a failure. A sum may "
        "stay closed only if a site has lost what it had promised, because its machine was set back or its disk rotted."
    )

    def ended(self, run: RunView) -> None:
        """See `Invariant.ended`."""
        if run.state == RunState.FAILED and "cannot be opened" in (run.reason or ""):
            steps = [line.what for line in self.scene.federation.world.lines]
            if any("snapshot" in what or "rots" in what for what in steps):
                return
        self.require(run.state == RunState.COMPLETED, f"the run is {run.state}: {run.reason}")
        self.require(run.committed == run.rounds, f"{run.committed} of {run.rounds} rounds are committed")
        (models,) = self.scene.rows("SELECT count(*) AS count FROM models")
        self.require(models["count"] == 1, f"the run has registered {models['count']} models")
