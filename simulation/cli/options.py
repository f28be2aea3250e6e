"""Options that several simulations share, the bar of their progress, and how they end when they are told to."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from strategies.errors import UsageError

PlanFile = Annotated[Path, typer.Argument(help="The plan, as production launches it.")]
ContractFile = Annotated[Path | None, typer.Option(help="Its data contract; else NAME.yaml beside the plan.")]
DataFile = Annotated[Path, typer.Option(help="The rows of all sites, Parquet or CSV.")]
SiteCount = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Number of sites; else those that the plan invites.")
]
Seed = Annotated[int, typer.Option(min=0, help="Decides everything that chance decides.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="With --engine ray: join the Ray cluster at HOST:PORT, or auto for the one that this machine is in; "
        "else Ray is started for this command."
    ),
]
PROGRESS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[note]}"),
)


def check_address(address: str | None, *, on_ray: bool) -> None:
    """Raise `UsageError` for an address that nothing would join."""
    if address is not None and not on_ray:
        raise UsageError("--ray-address names a Ray cluster; give --engine ray with it")


def interrupt_on_terminate() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that what was started is ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
