"""Small populations over the loans of the tests."""

from __future__ import annotations

from protos.plan import Plan
from simulation.cohorts.file_population import FilePopulation
from simulation.cohorts.synthetic_population import SyntheticPopulation
from simulation.partition import Even, Partition
from tests.client.loans_for_tests import CONTRACT, loans, plan

MLP = "{kind: mlp, hidden: [5]}"


def generated(
    *, size: int = 1000, rows: int = 20, seed: int = 3, chosen: Plan | None = None
) -> SyntheticPopulation:
    return SyntheticPopulation(CONTRACT, chosen or plan(model=MLP), size, rows, seed)


def filed(
    partition: Partition | None = None, *, size: int = 1000, rows: int = 20, of: int = 400, seed: int = 3
) -> FilePopulation:
    return FilePopulation.of(
        loans(of), plan(model=MLP), CONTRACT, partition or Even(), size=size, rows_per_client=rows, seed=seed
    )
