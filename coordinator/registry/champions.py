"""Registered models as champions of later plans: what a plan says about one, and what sites are sent of it.

1. All that a plan says about its champion is in the database, so the registry writes that part of a plan, and a plan that says anything else is refused
   before its run is recorded.
2. The weights that travel are the float64 ones of the model's own run, by the digest that the log knows: rounded ones would be another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.schema import Checkpoint, Run
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.versions import ModelVersion, find_version, locked_row
from protos.contract import Contract
from protos.frames import ChampionModel, scaling_digest
from protos.log_entries import What
from protos.log_gate import require_in_service
from protos.model_stages import Stage
from protos.plan import Plan
from protos.plan_evaluation import Champion
from strategies.encoding import vector_from_bytes
from strategies.errors import Refused
from strategies.features import Scaling
from strategies.ids import Digest

_FLOAT_BYTES = 8


def as_champion(engine: Engine, version: ModelVersion) -> Champion:
    """What a plan says whose champion is `version`. Raises Refused where its run is not in the database in full."""
    run, weights = _source(engine, version)
    plan, contract = Plan.from_canonical(run.plan.encode()), Contract.from_canonical(run.contract.encode())
    return Champion(
        model=version.ref,
        weights=weights,
        scaling=scaling_digest(_scaling(run, version)),
        contract=contract.digest,
        features=plan.features,
        shape=plan.model,
    )


def champion_of(engine: Engine, artifacts: ArtifactStore, plan: Plan) -> ChampionModel | None:
    """The champion that `plan` names, as sites are sent it; None where it names none.

    Raises UsageError for a model that is not registered, Refused where the plan says anything else about it than the registry.
    """
    named = plan.evaluation.champion
    if named is None:
        return None
    version = find_version(engine, named.model)
    known = as_champion(engine, version)
    if differing := [
        field for field in Champion.model_fields if getattr(known, field) != getattr(named, field)
    ]:
        raise Refused(
            f"plan {plan.name} says of its champion {named.model} another {differing[0]} than the registry; write evaluation.champion as"
            f" `covenant model champion {named.model}` prints it"
        )
    run, weights = _source(engine, version)
    data = artifacts.get(weights)
    return ChampionModel(
        model=vector_from_bytes(data, len(data) // _FLOAT_BYTES), scaling=_scaling(run, version)
    )


def unless_taken_back(session: Session, plan: Plan, entries: Iterable[What]) -> Iterator[What]:
    """`entries` of a launch of `plan`. Raises Refused for a champion that was taken back, as the log has it once `append` has locked it: no move of the
    champion comes in between."""
    named = plan.evaluation.champion
    if named is not None:
        name, _, version = named.model.partition("@")
        require_in_service(plan, Stage(locked_row(session, name, int(version)).stage))
    yield from entries


def _source(engine: Engine, version: ModelVersion) -> tuple[Run, Digest]:
    """The run that a version comes from, and the digest of its last model."""
    with reading(engine, f"looking up where {version.ref} comes from") as session:
        run = session.get(Run, version.run_id)
        last = session.scalar(
            select(Checkpoint.model_artifact)
            .where(Checkpoint.run_id == version.run_id)
            .order_by(Checkpoint.round.desc())
            .limit(1)
        )
    if run is None or last is None:
        raise Refused(
            f"the run of {version.ref} is not in this database with its model; name another champion"
        )
    return run, Digest(last)


def _scaling(run: Run, version: ModelVersion) -> Scaling:
    if run.scaling is None:
        raise Refused(f"the scaling of {version.ref} is not in this database; name another champion")
    return Scaling(mean=tuple(run.scaling["mean"]), std=tuple(run.scaling["std"]))
