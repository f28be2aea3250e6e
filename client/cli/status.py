"""`covenant-agent status`, `history` and `drain`: how the agent is, what it has done, and that it shall leave."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.table import Table

from client.bootstrap import open_accounts, utc_now
from client.cli.options import HERE, ConfigFile, Json
from client.journal.reading import read_journal
from client.operation.history import RunHistory, history
from client.operation.state import StateFolder
from client.operation.status import Status, status_of
from protos.shell import emit, people, tell
from protos.site import SiteConfig, load_site
from strategies.errors import CovenantError, Unreachable


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.command("status")(status)
    agent.command("history")(show_history)
    agent.command("drain")(drain)


def status(
    config: ConfigFile = HERE,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="For monitoring: leave with 1 if the agent is down, 4 if it does not reach the centre.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Whether the agent runs and reaches the centre, what it did last, and what is not as it should be. Works while it is down, too."""
    found = status_of(load_site(config), utc_now)
    if json:
        emit(found.facts())
    else:
        _show_status(found)
    if check and not found.well:
        if found.word == "down":
            raise CovenantError("the agent is down")
        raise Unreachable("the agent runs and does not reach the centre")


def _show_status(found: Status) -> None:
    table = Table("site", "agent", "version", "since", "last heard", "last request", "answered", "refused")
    now = found.state
    if now is None:
        table.add_row(found.site, found.word, "", "", "", "", "", "")
    else:
        table.add_row(
            found.site,
            found.word,
            now.version,
            now.started_at[:19],
            (now.contact_at or "never")[:19],
            now.last_request or "none yet",
            str(now.answered),
            str(now.refused),
        )
    people.print(table)
    for each in found.warnings:
        tell(f"! {each}")


def show_history(
    config: ConfigFile = HERE,
    run: Annotated[str | None, typer.Option("--run", help="One run only.")] = None,
    json: Json = False,
) -> None:
    """The runs that this site answered or refused, as its journal has them, with what was charged for each."""
    site = load_site(config)
    found = [each for each in _history_of(site) if run is None or each.run == run]
    if json:
        emit({"site": site.site, "runs": [each.facts() for each in found]})
        return
    table = Table(
        "run", "first", "last", "rounds", "evaluations", "charges", "refused", title=f"runs at {site.site}"
    )
    for each in found:
        refused = ", ".join(refusal["code"] for refusal in each.refusals)
        table.add_row(
            each.run, each.first_at[:19], each.last_at[:19], str(each.trained), str(each.evaluated), str(each.charges), refused
        )  # fmt: skip
    people.print(table)
    for each in found:
        for refusal in each.refusals:
            tell(f"{each.run} was refused ({refusal['code']}): {refusal['reason']}")


def _history_of(site: SiteConfig) -> list[RunHistory]:
    entries = read_journal(site.journal)
    with closing(open_accounts(site)) as book:
        charges = [
            charge
            for source in {site.population_of(each): each for each in site.data.values()}.values()
            if source.account is not None
            for charge in book.charges(site.population_of(source), source.account.unit.unit)
        ]
    return history(entries, charges)


def drain(
    config: ConfigFile = HERE,
    within: Annotated[float, typer.Option(min=0.0, help="Wait so many seconds until it has gone.")] = 90.0,
) -> None:
    """Have the agent finish what others count on, begin nothing new, and leave. A service manager that restarts it must be told first."""
    site = load_site(config)
    if not StateFolder(site.journal.parent).drain(within):
        raise CovenantError(
            f"the agent of {site.site} is told to leave and is still there after {within:g} s; `covenant-agent status` shows what it does. To"
            " end it at once is safe too: the others then miss one site in that round"
        )
    people.print(f"the agent of {site.site} has left", highlight=False)
