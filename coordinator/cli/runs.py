"""`covenant run`: list, watch, stop and resume runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from statistics import median
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coordinator.bootstrap import Centre
from coordinator.cli.options import Access, Home, Json, desk_at
from coordinator.db.schema import FINAL_STATES
from coordinator.following import follow
from coordinator.office.desk import LocalDesk
from coordinator.runs import RunView
from protos.shell import as_written, emit, people
from strategies.ids import RunId, run_id

app = typer.Typer(no_args_is_help=True, help="Runs: plans that were launched.")
RunArgument = Annotated[str, typer.Argument(help="A run's id, such as run-0123456789abcdef.")]


@app.command("list")
def list_runs(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All runs, the latest first."""
    found = list(desk_at(home, access).runs())
    if json:
        emit({"runs": [asdict(each) for each in found]})
        return
    table = Table("run", "plan", "state", "rounds", "AUC", "reason")
    for each in found:
        auc = f"{list(each.aucs.values())[-1]:.4f}" if each.aucs else ""
        table.add_row(
            each.run,
            each.plan,
            each.state,
            f"{each.committed}/{each.rounds}",
            auc,
            as_written(each.reason or ""),
        )
    people.print(table)


@app.command("watch")
def watch_run(run: RunArgument, home: Home = None, access: Access = None, json: Json = False) -> None:
    """Follow a run to its end; leaves with an error if it fails."""
    finished = _follow(desk_at(home, access).watch(run_id(run)))
    if json:
        emit(asdict(finished))
        return
    seconds = f", median round {median(finished.round_s):.2f} s" if finished.round_s else ""
    people.print(f"{finished.run} {finished.state}: {finished.committed} rounds{seconds}", highlight=False)


@app.command("stop")
def stop_run(run: RunArgument, home: Home = None, access: Access = None) -> None:
    """Stop a run; what it committed stays."""
    desk_at(home, access).stop(run_id(run))
    people.print(f"stopped {run}", highlight=False)


@app.command("resume")
def resume_run(run: RunArgument, home: Home = None, access: Access = None) -> None:
    """Go on with a failed or stopped run after its last committed round. One whose process merely died resumes by itself."""
    desk_at(home, access).resume(run_id(run))
    people.print(f"resumed {run}; follow it with `covenant run watch {run}`", highlight=False)


def watch(centre: Centre, run: RunId, still_fine: Callable[[], None] = lambda: None) -> RunView:
    """Follow a run on the coordinator's own machine, and show how far it is; raises what `still_fine` raises."""
    return _follow(LocalDesk(centre).watch(run), still_fine)


def _follow(views: Iterable[RunView], still_fine: Callable[[], None] = lambda: None) -> RunView:
    """`follow` a run, and show how far it is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[auc]}"),
    )
    shown = -1
    with Progress(*columns, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("rounds", total=None, auc="")

        def show(now: RunView) -> None:
            nonlocal shown
            still_fine()
            auc = f"AUC {list(now.aucs.values())[-1]:.4f}" if now.aucs else ""
            progress.update(bar, total=now.rounds, completed=now.committed, auc=auc)
            if not people.is_terminal and now.committed // 5 > shown and now.state not in FINAL_STATES:
                shown = now.committed // 5
                people.print(f"round {now.committed} of {now.rounds} {auc}".rstrip(), highlight=False)

        return follow(views, show)
