"""The command `covenant-agent`: what IT at a site runs. Commands import what opens a site when they are called: it takes half a second."""

from __future__ import annotations

import typer

from client.cli import (
    budget,
    data,
    doctor,
    enroll,
    halts,
    init,
    log,
    personal,
    plans,
    reenrol,
    rehearse,
    run,
    standing,
    status,
    witness,
)
from protos.egress import keep_quiet
from protos.logs import configure
from protos.shell import run_command

app = typer.Typer(
    name="covenant-agent",
    help="The agent of a site: takes part in rounds next to its own data, on its own terms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for each in (
    init,
    enroll,
    doctor,
    data,
    plans,
    rehearse,
    run,
    status,
    budget,
    standing,
    reenrol,
    witness,
    halts,
    log,
    personal,
):
    each.register(app)


def main() -> None:
    """Run `covenant-agent`."""
    keep_quiet()
    configure()
    run_command(lambda: app(standalone_mode=False))
