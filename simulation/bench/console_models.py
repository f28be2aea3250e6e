"""Models of a long year, for `covenant bench console`: versions with weights, as the registry keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import insert

from coordinator.db.engine import writing
from coordinator.db.schema import Model
from coordinator.governance.log import append
from coordinator.registry.export import Exportable, safetensors_bytes
from coordinator.registry.versions import WEIGHTS_FILE
from protos.log_entries import ModelRegistered, What
from simulation.bench.console_rows import METRICS
from simulation.bench.console_year import Launch, LongYear
from strategies.encoding import digest_of
from strategies.features import Scaling

DEPLOYED: Final = 8
"""Versions that serve somewhere, the newest."""


def register(year: LongYear) -> None:
    """Versions of the plans' models, from their newest runs that are over, and one of the run with many sites."""
    rows: list[dict[str, Any]] = []
    told: list[What] = []
    for number, (launch, version) in enumerate(_made(year)):
        weights = year.centre.artifacts.put(_weights(year, launch, number))
        artifacts = {WEIGHTS_FILE: weights}
        row = {
            "name": launch.plan.name,
            "version": version,
            "digest": digest_of(artifacts),
            "artifacts": artifacts,
        }
        rows.append(
            row
            | {
                "stage": "deployed" if number < DEPLOYED else "candidate",
                "run_id": launch.run,
                "metrics": METRICS,
                "created_at": launch.at + timedelta(minutes=30),
                "signature": None,
            }
        )
        told.append(ModelRegistered(**row, run=launch.run, weights=weights))
    with writing(year.centre.engine, "registering models") as session:
        session.execute(insert(Model), rows)
        append(session, year.at(year.scale.runs), told)


def _made(year: LongYear) -> Iterator[tuple[Launch, int]]:
    """Runs with the number of the version that came of each, the newest first."""
    yield year.wide, 1
    for number in range(min(year.scale.models, year.scale.runs - 1)):
        place = year.scale.runs - 2 - number
        version = (year.scale.models - number - 1) // len(year.plans) + 1
        plan, at = year.plan_of(place), year.at(place)
        yield Launch(run=year.run(place), plan=plan, at=at, going=False), version


def _weights(year: LongYear, launch: Launch, seed: int) -> bytes:
    """Of a model of the plan's shape that nobody has trained."""
    features = year.contract.feature_spec(launch.plan.features)
    model, numbers = launch.plan.dense_model(features.width), len(features.numeric)
    return safetensors_bytes(
        Exportable(
            features=features,
            scaling=Scaling(mean=(0.5,) * numbers, std=(0.2,) * numbers),
            model=model,
            vector=np.random.default_rng(seed).normal(0.0, 0.6, model.size),
            plan_digest=launch.plan.digest,
            contract=year.contract.ref,
        )
    )
