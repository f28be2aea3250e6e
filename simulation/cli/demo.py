"""`covenant demo` and `covenant up`: a real federation on this machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from coordinator.cli.options import Home, Json
from protos.shell import emit, people
from strategies.errors import UsageError

_DEMO_FOLDER = Path("covenant-demo")
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
            help="Then a second run, which officers propose, approve, halt, lift and resume from machines of their own, and both models deployed, tried, taken back; up to four minutes in all.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run a real federation on real loans: a SuperLink, four agents, a registered model, a score. Leaves nothing running."""
    if full and privacy == "none":
        raise UsageError(
            "--full shows what runs cost the accounts, and without privacy there are none; leave --privacy out"
        )
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
        bool, typer.Option("--demo", help="Bring the demo's federation up, agents included.")
    ] = False,
    folder: DemoFolder = _DEMO_FOLDER,
    privacy: DemoPrivacy = "distributed",
) -> None:
    """Bring a coordinator up and keep it running until Ctrl-C; with --demo, a whole federation."""
    if not demo:
        from coordinator.cli.centre import run_service

        run_service(home)
        return
    from simulation.demo.demonstration import Demonstration

    interrupt_on_terminate()
    with Demonstration(folder.resolve(), private=privacy == "distributed").federation() as deployment:
        people.print(
            f"The demo's federation is up. In another terminal:\n  export COVENANT_HOME={deployment.home}",
            highlight=False,
        )
        people.print(f"  covenant plan launch {deployment.folder / 'plan.yaml'}", highlight=False)
        people.print(
            f"  covenant run list\nA plan that you change needs its officers again; their keys are in {deployment.officers.folder}."
            "\nCtrl-C ends it.",
            highlight=False,
        )
        while True:
            deployment.check()
            time.sleep(1.0)


def interrupt_on_terminate() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that what was started is ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
