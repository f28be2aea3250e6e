"""`covenant simulate cohorts PLAN`: a plan's rounds over cohorts of up to a million virtual clients."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from coordinator.cli.options import Json
from protos.shell import emit, people, tell
from simulation.cli.options import (
    PROGRESS,
    ContractFile,
    PlanFile,
    RayAddress,
    Seed,
    check_address,
    interrupt_on_terminate,
)
from strategies.errors import UsageError

if TYPE_CHECKING:
    from protos.plan import Plan
    from simulation.cohorts.run import CohortRound, CohortRun, CohortsResult
    from simulation.cohorts.sources import Source

_SHOWN = 12
"""Evaluated rounds in the table; of more of them, every so many."""


class CohortEngine(StrEnum):
    """What computes the slices of a cohort."""

    THREADS = "threads"
    RAY = "ray"


# Bounds are the library's own: it says them in sentences.
ClientsFile = Annotated[
    Path | None,
    typer.Option(
        help="Rows that clients draw from, Parquet or CSV; else made up within the contract's ranges."
    ),
]
PopulationSize = Annotated[int, typer.Option(help="Virtual clients, up to 1000000.")]
CohortSize = Annotated[int, typer.Option(help="Clients that train in a round.")]
RowCount = Annotated[int, typer.Option(help="Rows of a client, on average.")]
ClientsPartition = Annotated[
    str | None,
    typer.Option(help="How clients of --data differ: by:COLUMN, dirichlet:ALPHA, quantity:ALPHA or even."),
]
RoundCount = Annotated[int | None, typer.Option(help="Rounds; else those of the plan, up to 10000.")]
EvaluatedCount = Annotated[int, typer.Option(help="Clients on whose held-out rows the model is scored.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Threads; else one a core. The model is the same to the bit with any number."),
]
EngineOption = Annotated[
    CohortEngine,
    typer.Option(help="threads: this process. ray: a process on each of Ray's processors trains slices."),
]


def simulate_cohorts(  # noqa: PLR0917 (each is an option of the command)
    plan: PlanFile,
    data: ClientsFile = None,
    contract: ContractFile = None,
    population: PopulationSize = 10_000,
    cohort: CohortSize = 100,
    rows: RowCount = 100,
    partition: ClientsPartition = None,
    rounds: RoundCount = None,
    evaluated: EvaluatedCount = 500,
    workers: Workers = None,
    engine: EngineOption = CohortEngine.THREADS,
    ray_address: RayAddress = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train a plan on cohorts of up to a million virtual clients: the arithmetic of the sites, without protocol, processes or files of theirs."""
    from coordinator.documents import read_plan
    from simulation.cohorts.run import CohortRun, Sizes
    from simulation.quiet import silence_logs

    silence_logs()
    check_address(ray_address, on_ray=engine is CohortEngine.RAY)
    interrupt_on_terminate()
    parsed, agreed = read_plan(plan, contract)
    chosen = parsed if rounds is None else _with_rounds(parsed, rounds)
    source = _source(data, partition, size=population, rows=rows, seed=seed)
    if engine is CohortEngine.RAY:
        source = source.pinned()
    sizes = Sizes(cohort=cohort, evaluated=evaluated, workers=_cores() if workers is None else workers)
    run = CohortRun(chosen, agreed, source.population(chosen, agreed), sizes, seed)
    result = _run_on_ray(run, source, ray_address) if engine is CohortEngine.RAY else _run(run)
    if json:
        emit(result.facts())
    else:
        _show(result)


def _with_rounds(plan: Plan, rounds: int) -> Plan:
    """The plan with another number of rounds. Raises `UsageError`."""
    from protos.plan_training import MAX_ROUNDS

    if not 1 <= rounds <= MAX_ROUNDS:
        raise UsageError(f"--rounds {rounds} cannot be simulated; use 1 to {MAX_ROUNDS}")
    return plan.model_copy(update={"training": plan.training.model_copy(update={"rounds": rounds})})


def _source(data: Path | None, partition: str | None, *, size: int, rows: int, seed: int) -> Source:
    from simulation.cohorts.sources import FileSource, SyntheticSource
    from simulation.partition import Even, parse_partition

    if data is None:
        if partition is not None:
            raise UsageError("--partition says how clients draw from --data; give the file, or leave it out")
        return SyntheticSource(size, rows, seed)
    return FileSource(data, Even() if partition is None else parse_partition(partition), size, rows, seed)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _run(run: CohortRun) -> CohortsResult:
    """The run, with a bar of its rounds."""
    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("rounds", total=run.plan.training.rounds, note="")

        def heard(done: CohortRound) -> None:
            progress.update(bar, completed=done.number, note=f"{done.clients_per_s:,.0f} clients/s")

        return run.run(progress=heard, warn=_warn)


def _run_on_ray(run: CohortRun, source: Source, address: str | None) -> CohortsResult:
    from simulation.ray.slices import ray_slices

    with ray_slices(address, run, source, _warn) as engine:
        return _run(replace(run, engine=engine))


def _warn(said: str) -> None:
    tell(f"warning: {said}")


def _show(result: CohortsResult) -> None:
    table = Table(
        "round", "clients", "clients/s", "AUC", "log loss",
        title=f"{result.plan}: cohorts of {result.rounds[0].clients} of {result.population:,} clients",
    )  # fmt: skip
    scored = [each for each in result.rounds if each.auc is not None]
    every = -(-len(scored) // _SHOWN)
    for place, each in enumerate(scored, start=1):
        if place % every == 0 or each is scored[-1]:
            table.add_row(
                f"{each.number}", f"{each.clients}", f"{each.clients_per_s:,.0f}", f"{each.auc:.4f}", f"{each.log_loss:.4f}",
            )  # fmt: skip
    people.print(table)
    facts = result.facts()
    people.print(
        f"rows {result.description}; computed {result.computed}; {result.clients_per_s:,.0f} clients/s over all rounds; model {str(facts['model_digest'])[:16]}",
        highlight=False,
    )
