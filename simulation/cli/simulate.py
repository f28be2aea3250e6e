"""`covenant simulate PLAN`: try a plan on rows of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperGroup

from coordinator.cli.options import Json
from protos.shell import emit, people
from simulation.report.gates import METRICS, Verdict, judge, parse_gate
from simulation.result import SimulationResult
from strategies.errors import CovenantError, UsageError

_PLAN = "plan"
PROGRESS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[note]}"),
)


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
    help="Try a plan in this process, or play campaigns of faults. `covenant simulate PLAN` is short for `simulate plan PLAN`.",
)


@simulate.command(_PLAN)
def simulate_plan(  # noqa: PLR0917 (each is an option of the command)
    plan: Annotated[Path, typer.Argument(help="The plan, as production launches it.")],
    data: Annotated[Path, typer.Option(help="The rows of all sites, Parquet or CSV.")],
    contract: Annotated[
        Path | None, typer.Option(help="Its data contract; else NAME.yaml beside the plan.")
    ] = None,
    partition: Annotated[
        str, typer.Option(help="How rows are dealt: by:COLUMN, dirichlet:ALPHA, quantity:ALPHA or even.")
    ] = "even",
    sites: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Number of sites; else those that the plan invites.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that chance decides.")] = 0,
    dropout: Annotated[
        float,
        typer.Option(help="Least share of the roster that takes a request and never answers, each round."),
    ] = 0.0,
    asserted: Annotated[
        list[str] | None,
        typer.Option(
            "--assert", help=f"A gate, such as 'auc >= 0.70'; repeatable. Metrics: {', '.join(METRICS)}."
        ),
    ] = None,
    twice: Annotated[
        bool, typer.Option("--twice", help="Run it twice, and fail if the results differ.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML for CI here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown report here.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with plots here, one self-contained page.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a plan on simulated sites: the real rounds, without processes. Leaves with 1 if the run or a gate fails."""
    from coordinator.documents import read_plan
    from simulation.campaign.campaign import be_quiet
    from simulation.experiment import Experiment, invited, run_once_or_twice
    from simulation.partition import deal, describe, parse_partition, read_rows

    be_quiet()
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
    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("rounds", total=simulated.training.rounds, note="")
        result = run_once_or_twice(
            experiment, twice=twice, progress=lambda now: progress.update(bar, completed=now.committed)
        )
    verdicts = judge(result, gates)
    _write_reports(result, verdicts, junit, markdown, html)
    if json:
        emit(
            {
                **result.facts(),
                "gates": [{"gate": str(v.gate), "passed": v.passed, "says": v.sentence} for v in verdicts],
            }
        )
    else:
        _show(result, verdicts)
    _leave_unless_good(result, verdicts)


def _write_reports(
    result: SimulationResult,
    verdicts: tuple[Verdict, ...],
    junit: Path | None,
    markdown: Path | None,
    html: Path | None,
) -> None:
    from simulation.report.html import html as html_report
    from simulation.report.junit import junit_xml
    from simulation.report.markdown import markdown as markdown_report

    for path, make in ((junit, junit_xml), (markdown, markdown_report), (html, html_report)):
        if path is not None:
            text = make(result, verdicts)
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise UsageError(f"the report cannot be written to {path} ({error.strerror})") from error
            people.print(f"wrote {path}", highlight=False)


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
