"""`covenant demo` and `covenant up`: a real federation on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from coordinator.cli.options import Home, Json
from protos.shell import emit
from simulation.cli.options import interrupt_on_terminate
from strategies.errors import UsageError

_DEMO_FOLDER = Path("covenant-demo")
_CONSOLE_PORT = 9095
DemoFolder = Annotated[
    Path, typer.Option(help="Where the demo keeps its keys, data, model and logs; made anew each time.")
]

DemoPrivacy = Annotated[
    Literal["distributed", "none"],
    typer.Option(help="distributed: noise on all that is released. none: the same federation without."),
]


def demo(
    folder: DemoFolder = _DEMO_FOLDER,
    privacy: DemoPrivacy = "distributed",
    *,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Then a second run, which officers propose, approve, halt, lift and resume from machines of their own, both models deployed, tried, taken back, drift found and a plan drafted; up to five minutes in all.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run a real federation on real loans: a SuperLink, four agents, a registered model, a score. Leaves nothing running."""
    _require_private(privacy, full=full)
    from simulation.demo.demonstration import Demonstration

    interrupt_on_terminate()
    report = Demonstration(folder.resolve(), private=privacy == "distributed", full=full).run()
    if json:
        emit(report.facts())
    else:
        report.show()


def up(
    home: Home = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="Bring the demo's federation up, agents and web console included, with a run."
        ),
    ] = False,
    folder: DemoFolder = _DEMO_FOLDER,
    privacy: DemoPrivacy = "distributed",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the demo's web console; 0 for any that is free."),
    ] = _CONSOLE_PORT,
    *,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="First two runs to their end, their models approved, and both deployed to one target, where other applicants come, an alarm names them and a plan is drafted: every page has something to show; three to four minutes more.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Keep a coordinator running until Ctrl-C, as `covenant serve` does; with --demo, a whole federation with its web console, and links to sign in there."""
    if not demo:
        if full or json:
            raise UsageError("--full and --json are about the demo's federation; add --demo")
        from coordinator.cli.centre import run_service

        run_service(home)
        return
    _require_private(privacy, full=full)
    from simulation.demo.demonstration import Demonstration
    from simulation.demo.kept_up import kept_up

    interrupt_on_terminate()
    shown = Demonstration(folder.resolve(), private=privacy == "distributed", full=full)
    with kept_up(shown, port) as (deployment, welcome):
        if json:
            emit(welcome.facts())
        else:
            welcome.show()
        while True:
            deployment.check()
            time.sleep(1.0)


def _require_private(privacy: str, *, full: bool) -> None:
    """Raise UsageError for a full demo without privacy."""
    if full and privacy == "none":
        raise UsageError(
            "--full shows what runs cost the accounts, and without privacy there are none; leave --privacy out"
        )
