"""`covenant-agent run`: the agent, until it is stopped."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from client.cli.options import HERE, ConfigFile
from client.journal.entries import JournalBroken
from protos.egress import keep_quiet
from protos.shell import people
from protos.site import load_site

if TYPE_CHECKING:
    from client.agent import Agent


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
    drain_within: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Once told to leave, wait so many seconds at most for the next message of an attempt in hand.",
        ),
    ] = 60.0,
) -> None:
    """Take part in the federation's rounds until told to leave (SIGTERM, Ctrl-C, `drain`); told again, leave at once."""
    site = load_site(config)
    keep_quiet(flower_home=config.resolve().parent / "flower", proxy=site.federation.proxy_url)
    # After the environment is quiet: flwr reads its switches at import.
    from client.process import open_agent

    try:
        with open_agent(
            config.resolve(), give_up_after_s=give_up_after, drain_within_s=drain_within
        ) as agent:
            _drain_on_signals(agent)
            agent.serve()
    except JournalBroken as broken:
        _end_at_once(broken)


def _drain_on_signals(agent: Agent) -> None:
    """The first signal drains; the next one ends the process as if nobody had asked for it: the journal is always ahead of what left."""

    def leave(number: int, _frame: object) -> None:
        agent.drain()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _end_at_once(broken: JournalBroken) -> NoReturn:
    """Leave without the interpreter's own tidying up, which would close the journal, and that flushes it a second time."""
    people.print(f"error: {broken}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    os._exit(broken.exit_code)
