"""`covenant-agent run`: the agent, until it is stopped."""

from __future__ import annotations

import os
import signal
from typing import Annotated, NoReturn

import typer

from client.cli.options import HERE, ConfigFile
from client.journal.entries import JournalBroken
from protos.egress import keep_quiet
from protos.shell import people
from protos.site import load_site


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("run")(run)


def run(
    config: ConfigFile = HERE,
    give_up_after: Annotated[
        float | None,
        typer.Option(
            help="Leave with exit code 4 if the SuperLink cannot be reached for so many seconds at the start."
        ),
    ] = None,
) -> None:
    """Take part in the federation's rounds until stopped."""
    site = load_site(config)
    proxy = None if site.federation.proxy == "none" else site.federation.proxy
    keep_quiet(flower_home=config.resolve().parent / "flower", proxy=proxy)
    # After the environment is quiet: flwr reads its switches at import.
    from client.process import open_agent

    agent = open_agent(config.resolve(), give_up_after_s=give_up_after)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        agent.serve()
    except JournalBroken as broken:
        _end_at_once(broken)


def _end_at_once(broken: JournalBroken) -> NoReturn:
    """Leave without the interpreter's own tidying up, which would close the journal, and that flushes it a second time."""
    people.print(f"error: {broken}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    os._exit(broken.exit_code)
