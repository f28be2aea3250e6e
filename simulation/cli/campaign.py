"""`covenant simulate campaign`: play schedules of faults, and replay one that found something."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from coordinator.cli.options import Json
from protos.shell import emit, people
from simulation.cli.options import PROGRESS
from strategies.errors import CovenantError, UsageError

if TYPE_CHECKING:
    from simulation.campaign.runner import Played

_TOLD_EVERY = 500
"""Seeds between two lines where no terminal shows a bar."""


def campaign(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to play.")] = 200,
    first: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; else one a core.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Play this seed alone, twice, and show its trace.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="With --seed: keep these places of its schedule, such as 0,2 (or none)."),
    ] = None,
    json: Json = False,
) -> None:
    """Play schedules of faults on small federations, and check after every step what must always hold."""
    from simulation.campaign.campaign import campaign as play_all
    from simulation.campaign.invariants import registered
    from simulation.quiet import silence_logs

    silence_logs()
    if seed is not None:
        _replay(seed, only, json=json)
        return
    if only is not None:
        raise UsageError("--only belongs to one seed; name it with --seed")
    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("seeds", total=seeds, note="")

        def told(played: Played) -> None:
            progress.update(bar, advance=1, note=f"seed {played.seed}")
            done = int(progress.tasks[bar].completed)
            if not people.is_terminal and done % _TOLD_EVERY == 0:
                people.print(f"{done} of {seeds} seeds", highlight=False)

        failure = play_all(range(first, first + seeds), jobs=jobs or os.cpu_count() or 1, progress=told)
    if failure is not None:
        _show_played(failure.shrunk, json=json)
        raise CovenantError(
            f"seed {failure.played.seed} breaks {failure.shrunk.invariant}: {failure.shrunk.sentence}"
        )
    names = [each.name for each in registered()]
    if json:
        emit({"seeds": seeds, "first": first, "held": names})
        return
    table = Table(
        "part",
        "invariant",
        "what must always hold",
        title=f"{seeds} seeds, and all of this held after every step",
    )
    for each in registered():
        table.add_row(each.part, each.name, each.says)
    people.print(table)


def _replay(seed: int, only: str | None, *, json: bool) -> None:
    from simulation.campaign.campaign import play_twice
    from simulation.campaign.runner import play

    places = None if only is None else _places(only)
    played = play_twice(seed, again=lambda each: play(each, places))
    _show_played(played, json=json)
    if played.invariant is not None:
        raise CovenantError(f"seed {seed} breaks {played.invariant}: {played.sentence}")


def _places(only: str) -> list[int]:
    try:
        return [] if only == "none" else [int(each) for each in only.split(",")]
    except ValueError as error:
        raise UsageError(f"--only {only}: use places of the schedule, such as 0,2, or none") from error


def _show_played(played: Played, *, json: bool) -> None:
    from simulation.campaign.campaign import last_steps
    from simulation.campaign.schedule import words

    kept = [
        (place, words(each))
        for place, each in enumerate(played.misfortunes)
        if played.only is None or place in played.only
    ]
    if json:
        emit(
            {
                "seed": played.seed,
                "schedule": [{"place": place, "misfortune": text} for place, text in kept],
                "invariant": played.invariant,
                "says": played.sentence,
                "replay": played.command,
                "trace": [str(line) for line in played.lines],
            }
        )
        return
    for place, text in kept:
        people.print(f"{place:>3}  {text}", highlight=False, markup=False)
    for line in last_steps(played):
        people.print(line, highlight=False, markup=False, soft_wrap=True)
    people.print(f"Replay with: [bold]{played.command}[/]", highlight=False)
