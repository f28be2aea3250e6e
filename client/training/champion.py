"""The plan's champion as it scores held-out rows beside the model that the plan trains.

What a site is sent is scored only if it is, to the bit, what the approved plan names: weights and scaling by digest, of the plan's own contract, with
as many weights as the plan's shape has. Features and shape stand in the plan itself, so nobody chooses them later. All of this is public, so to refuse
because of it tells nothing of rows; it comes before anything is charged or computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.refusal import TaskRefused
from protos.contract import Contract
from protos.frames import ChampionModel, RefusalCode, Stage, scaling_digest
from protos.plan import Plan
from strategies.encoding import Vector, vector_digest
from strategies.features import FeatureSpec, Scaling
from strategies.models import DenseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A model with all that it takes to score rows: `weights`, (d,) float64, of `shape` over `features` under `scaling`."""

    features: FeatureSpec
    shape: DenseModel
    weights: Vector
    scaling: Scaling


def champion_of(plan: Plan, contract: Contract, stage: Stage, sent: ChampionModel | None) -> Scorer | None:
    """The champion that is to be scored in `stage`; None where the plan has none then. Raises `TaskRefused` for any other than the plan names."""
    named = plan.evaluation.champion if stage is Stage.EVALUATE else None
    if named is None or sent is None:
        if named is not None:
            raise _refused(f"the plan names champion {named.model}, and the request has none")
        if sent is not None:
            raise _refused(f"the request to {stage.name.lower()} has a champion that the plan does not name")
        return None
    features = contract.feature_spec(named.features)
    shape = named.dense_model(features.width)
    for what, found, approved in (
        ("contract", contract.digest, named.contract),
        ("weights", vector_digest(sent.model), named.weights),
        ("scaling", scaling_digest(sent.scaling), named.scaling),
    ):
        if found != approved:
            raise _refused(
                f"the {what} of champion {named.model} has digest {found[:12]}; the approved plan names {approved[:12]}"
            )
    if sent.model.size != shape.size or len(sent.scaling.mean) != len(features.numeric):
        raise _refused(
            f"champion {named.model} has {sent.model.size} weights and a scaling of {len(sent.scaling.mean)} features; by the plan's shape and"
            f" features it has {shape.size} and {len(features.numeric)}"
        )
    return Scorer(features=features, shape=shape, weights=sent.model, scaling=sent.scaling)


def _refused(sentence: str) -> TaskRefused:
    return TaskRefused(RefusalCode.PROTOCOL, sentence)
