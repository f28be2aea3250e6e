"""A registered champion with the run that it comes from, and plans that name it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from client.training.champion import Scorer
from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.schema import Checkpoint, Model, Run, RunState, Stage
from protos.documents import read_document
from protos.frames import ChampionModel, scaling_digest
from protos.plan import Plan
from protos.plan_evaluation import Champion
from strategies.encoding import Vector, vector_bytes, vector_digest
from strategies.features import Scaling
from tests.coordinator.private_for_tests import TEXT
from tests.coordinator.secure_for_tests import CONTRACT

OLD_RUN = "run-00000000000000aa"
OLD_PLAN = read_document(
    TEXT.replace("name: private", "name: older").replace("[amount, income, term]", "[amount, term]"),
    Plan,
    "old.yaml",
)
"""The plan of the champion: fewer features than the challenger's."""
FEATURES = CONTRACT.feature_spec(OLD_PLAN.features)
SHAPE = OLD_PLAN.dense_model(FEATURES.width)
SCALING = Scaling(mean=(0.45,), std=(0.3,))
WEIGHTS: Vector = np.linspace(-1.5, 1.5, SHAPE.size)
SENT = ChampionModel(WEIGHTS, SCALING)
SCORER = Scorer(features=FEATURES, shape=SHAPE, weights=WEIGHTS, scaling=SCALING)
PART = Champion(
    model="older@1",
    weights=vector_digest(WEIGHTS),
    scaling=scaling_digest(SCALING),
    contract=CONTRACT.digest,
    features=OLD_PLAN.features,
    shape=OLD_PLAN.model,
)


def with_champion(plan: Plan, part: Champion = PART) -> Plan:
    """`plan` with a champion, judged as if it had been read."""
    evaluation = plan.evaluation.model_copy(update={"champion": part})
    return Plan.from_canonical(plan.model_copy(update={"evaluation": evaluation}).canonical)


def register_champion(centre: Centre, then: Callable[[Run], None] = lambda _: None) -> None:
    """Put the champion, and the run that made it, in the centre's database; `then` changes that run first."""
    run = Run(
        id=OLD_RUN,
        plan_name=OLD_PLAN.name,
        plan_digest=OLD_PLAN.digest,
        plan=OLD_PLAN.canonical.decode(),
        contract=CONTRACT.canonical.decode(),
        members="{}",
        state=RunState.COMPLETED,
        scaling={"mean": list(SCALING.mean), "std": list(SCALING.std)},
        submitted_at=centre.clock(),
    )
    then(run)
    weights = centre.artifacts.put(vector_bytes(WEIGHTS))
    with writing(centre.engine, "registering a champion") as session:
        session.add(run)
        session.flush()
        session.add(Checkpoint(run_id=OLD_RUN, round=2, model_artifact=weights, optimizer_artifact="ab" * 32))
        session.add(
            Model(
                name="older", version=1, stage=Stage.CANDIDATE, run_id=OLD_RUN, digest="cd" * 32,
                artifacts={}, metrics=None, created_at=centre.clock(),
            )
        )  # fmt: skip
