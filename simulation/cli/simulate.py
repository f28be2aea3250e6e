"""`covenant simulate PLAN`: try a plan on rows of your own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.progress import Progress
from rich.table import Table
from typer.core import TyperGroup

from coordinator.cli.options import Json
from protos.shell import emit, people
from simulation.cli.options import (
    PROGRESS,
    ContractFile,
    DataFile,
    PlanFile,
    RayAddress,
    Seed,
    SiteCount,
    check_address,
    interrupt_on_terminate,
)
from simulation.cli.report_files import require_writable, write_report
from simulation.report.gates import METRICS, Verdict, judge, parse_gate
from simulation.result import SimulationResult
from strategies.errors import CovenantError

if TYPE_CHECKING:
    from simulation.experiment import Experiment

_PLAN = "plan"


class FederationEngine(StrEnum):
    """What carries a simulated federation."""

    MEMORY = "memory"
    RAY = "ray"


PartitionOption = Annotated[
    str, typer.Option(help="How rows are dealt: by:COLUMN, dirichlet:ALPHA, quantity:ALPHA or even.")
]
Dropout = Annotated[
    float,
    typer.Option(help="Least share of the roster that takes a request and never answers, each round."),
]
Asserted = Annotated[
    list[str] | None,
    typer.Option(
        "--assert", help=f"A gate, such as 'auc >= 0.70'; repeatable. Metrics: {', '.join(METRICS)}."
    ),
]
Twice = Annotated[bool, typer.Option("--twice", help="Run it twice, and fail if the results differ.")]
JUnit = Annotated[Path | None, typer.Option(help="Write JUnit XML for CI here.")]
Markdown = Annotated[Path | None, typer.Option(help="Write a Markdown report here.")]
Html = Annotated[Path | None, typer.Option(help="Write a report with plots here, one self-contained page.")]
EngineOption = Annotated[
    FederationEngine,
    typer.Option(
        help="memory: this process, in virtual time. ray: Flower's simulation engine, a process for each site."
    ),
]


class PlanFirst(TyperGroup):
    """`covenant simulate PLAN` means `covenant simulate plan PLAN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Group.parse_args`."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = [_PLAN, *args]
        return super().parse_args(ctx, args)


simulate = typer.Typer(
    cls=PlanFirst,
    no_args_is_help=True,
    help="Try a plan before it goes out: on simulated sites, on cohorts of many clients, under faults, against sites that lie; or make up payments. `covenant simulate PLAN` is short for `simulate plan PLAN`.",
)


@simulate.command(_PLAN)
def simulate_plan(  # noqa: PLR0917 (each is an option of the command)
    plan: PlanFile,
    data: DataFile,
    contract: ContractFile = None,
    partition: PartitionOption = "even",
    sites: SiteCount = None,
    seed: Seed = 0,
    dropout: Dropout = 0.0,
    asserted: Asserted = None,
    twice: Twice = False,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    engine: EngineOption = FederationEngine.MEMORY,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Run a plan on simulated sites: the real rounds, without a network. Leaves with 1 if the run or a gate fails."""
    from coordinator.documents import read_plan
    from simulation.experiment import Experiment
    from simulation.invitation import invited
    from simulation.partition import deal, describe, parse_partition, read_rows
    from simulation.quiet import silence_logs

    silence_logs()
    check_address(ray_address, on_ray=engine is FederationEngine.RAY)
    interrupt_on_terminate()
    gates = [parse_gate(text) for text in asserted or ()]
    chosen = parse_partition(partition)
    parsed, agreed = read_plan(plan, contract)
    simulated, names = invited(parsed, sites)
    if simulated is not parsed:
        people.print(
            f"the plan invites {len(parsed.sites.invite)} sites; simulating {len(names)} of equal weight instead",
            highlight=False,
        )
    rows = read_rows(data)
    tables = deal(rows, names, chosen, target=agreed.target.column, seed=seed)
    experiment = Experiment(
        plan=simulated, contract=agreed, tables=tables, partition=describe(chosen), seed=seed, dropout=dropout
    )
    reports = {"--junit": junit, "--markdown": markdown, "--html": html}
    for option, path in reports.items():
        require_writable(path, "report", option)
    result = _run(experiment, engine, ray_address, twice=twice)
    verdicts = judge(result, gates)
    if json:
        emit(
            {
                **result.facts(),
                "gates": [{"gate": str(v.gate), "passed": v.passed, "says": v.sentence} for v in verdicts],
            }
        )
    else:
        _show(result, verdicts)
    _write_reports(result, verdicts, reports)
    _leave_unless_good(result, verdicts)


def _run(
    experiment: Experiment, engine: FederationEngine, ray_address: str | None, *, twice: bool
) -> SimulationResult:
    """The run on an engine, with a bar of its rounds."""
    from simulation.experiment import MEASURED, run_once_or_twice, simulate

    on, measured = simulate, MEASURED
    if engine is FederationEngine.RAY:
        from simulation.ray.engine import MEASURED_IN_REAL_TIME, RayEngine

        on, measured = RayEngine(ray_address).simulate, MEASURED_IN_REAL_TIME

    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("rounds", total=experiment.plan.training.rounds, note="")
        return run_once_or_twice(
            experiment,
            twice=twice,
            progress=lambda now: progress.update(bar, completed=now.committed),
            engine=on,
            measured=measured,
        )


def _write_reports(
    result: SimulationResult, verdicts: tuple[Verdict, ...], reports: Mapping[str, Path | None]
) -> None:
    from simulation.report.html import html
    from simulation.report.junit import junit_xml
    from simulation.report.markdown import markdown

    makers = {"--junit": junit_xml, "--markdown": markdown, "--html": html}
    for option, path in reports.items():
        if path is not None:
            write_report(path, makers[option](result, verdicts), "report", option)


def _show(result: SimulationResult, verdicts: tuple[Verdict, ...]) -> None:
    table = Table(
        "site",
        "rows",
        "positives",
        "rounds",
        "AUC on its own held-out rows",
        title=f"{result.plan}, {result.partition}",
    )
    for each in result.sites:
        auc = "" if each.auc is None else f"{each.auc:.4f}"
        rows = f"{each.training_rows + each.held_out_rows}"
        table.add_row(each.site, rows, f"{each.positives:.1%}", f"{each.answered}", auc)
    people.print(table)
    if result.metrics is not None:
        people.print(
            f"AUC {result.metrics.auc:.4f}, log loss {result.metrics.log_loss:.4f} after {len(result.rounds)} rounds; model "
            f"{str(result.model_digest)[:16]}; {result.elapsed_s:.1f} s",
            highlight=False,
        )
    if result.guarantee is not None:
        people.print(f"privacy {result.privacy}: {result.guarantee.words}", highlight=False)
    for verdict in verdicts:
        mark = "[green]passed[/]" if verdict.passed else "[red]FAILED[/]"
        people.print(mark, end=" ")
        people.print(verdict.sentence, highlight=False, markup=False, soft_wrap=True)


def _leave_unless_good(result: SimulationResult, verdicts: tuple[Verdict, ...]) -> None:
    if not result.completed:
        raise CovenantError(f"the run did not complete: {result.reason}")
    failed = [str(verdict.gate) for verdict in verdicts if not verdict.passed]
    if failed:
        raise CovenantError(f"{len(failed)} of {len(verdicts)} gates failed: {', '.join(failed)}")
