"""`covenant simulate robustness PLAN`: what sites that lie can do to a plan, and what each defence costs and saves."""

from __future__ import annotations

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
    DataFile,
    PlanFile,
    SiteCount,
    interrupt_on_terminate,
)
from simulation.cli.report_files import require_writable, write_report
from strategies.errors import UsageError

if TYPE_CHECKING:
    from simulation.attacks.behaviours import Attack
    from simulation.attacks.study import Setting, StudyResult

_ALL = "all"

AttackNames = Annotated[
    list[str] | None,
    typer.Option(
        help="label-flipping, scaling, below-the-gate, backdoor or free-riding; repeatable. All of them unless it is given."
    ),
]
AttackerShare = Annotated[
    float, typer.Option(help="The share of sites that lie: above 0 and below 0.5, rounded up to sites.")
]
Partitions = Annotated[
    list[str] | None,
    typer.Option(
        help="How rows are dealt, as in `covenant simulate`; repeatable. Evenly and by dirichlet:2 unless it is given."
    ),
]
SeedCount = Annotated[int, typer.Option(min=1, max=100, help="How many seeds: 0, 1, and so on.")]
GateNorm = Annotated[
    float | None,
    typer.Option(help="The gate's norm; else the plan's, or twice the longest mean update of honest runs."),
]
Markdown = Annotated[Path | None, typer.Option(help="Write the tables here, as Markdown.")]


def robustness(  # noqa: PLR0917 (each is an option of the command)
    plan: PlanFile,
    data: DataFile,
    contract: ContractFile = None,
    attack: AttackNames = None,
    attackers: AttackerShare = 0.2,
    partition: Partitions = None,
    sites: SiteCount = None,
    seeds: SeedCount = 1,
    gate: GateNorm = None,
    markdown: Markdown = None,
    json: Json = False,
) -> None:
    """Play lying sites against a plan: under each defence that its privacy mode allows, how good is the model, and does a backdoor open?"""
    from coordinator.documents import read_plan
    from simulation.attacks.study import Setting
    from simulation.attacks.tables import facts
    from simulation.invitation import invited
    from simulation.partition import parse_partition, read_rows
    from simulation.quiet import silence_logs

    silence_logs()
    interrupt_on_terminate()
    parsed, agreed = read_plan(plan, contract)
    simulated, _ = invited(parsed, sites)
    setting = Setting(
        plan=simulated,
        contract=agreed,
        rows=read_rows(data),
        partitions=tuple(map(parse_partition, partition or ("even", "dirichlet:2"))),
        attacks=_chosen(attack or [_ALL]),
        share=attackers,
        seeds=seeds,
        gate=gate,
    )
    require_writable(markdown, "report", "--markdown")
    result = _run(setting)
    if json:
        emit(facts(result))
    else:
        _show(result)
    if markdown is not None:
        write_report(markdown, _markdown(result), "report", "--markdown")


def _chosen(words: list[str]) -> tuple[Attack, ...]:
    from simulation.attacks.behaviours import Attack

    known = [each.value for each in Attack]
    for word in words:
        if word not in {*known, _ALL}:
            raise UsageError(f"--attack {word} is no attack; use {', '.join(known)} or {_ALL}")
    return tuple(each for each in Attack if _ALL in words or each.value in words)


def _run(setting: Setting) -> StudyResult:
    """The study, with a bar of its runs."""
    from simulation.attacks.study import study

    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("runs", total=None, note="")
        return study(setting, progress=lambda done, total: progress.update(bar, completed=done, total=total))


def _show(result: StudyResult) -> None:
    from simulation.attacks.tables import legend, table_of

    for partition in result.partitions:
        made = table_of(result, partition)
        shown = Table(*(each.name for each in made.columns), title=f"rows dealt {partition}")
        for row in made.rows:
            shown.add_row(*row)
        people.print(shown)
    for sentence in legend(result):
        tell(sentence)


def _markdown(result: StudyResult) -> str:
    from simulation.attacks.tables import legend, table_of
    from simulation.report.markdown import escape, markdown_table

    parts = [
        f"### Rows dealt {escape(partition)}\n\n{markdown_table(table_of(result, partition))}"
        for partition in result.partitions
    ]
    parts.append("\n".join(f"- {escape(sentence)}" for sentence in legend(result)))
    return "\n\n".join(parts) + "\n"
