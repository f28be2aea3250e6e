"""`covenant-agent witness`: what this site has signed of the transparency log, and any split of it that was found."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from protos.shell import emit, people
from protos.site import load_site


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("witness")(witness)


def witness(
    config: ConfigFile = HERE,
    begin_anew: Annotated[
        str | None,
        typer.Option(
            help="Forget what this site has seen of the log, for this reason: only when the officers have said that the log begins anew."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """What this site has signed of the transparency log, where its journal stood, and any split of the log that it was shown."""
    from client.transparency import report

    site = load_site(config)
    if begin_anew is not None:
        report.begin_anew(site, begin_anew)
    facts = report.report(site)
    if json:
        emit(facts)
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    """The same for people."""
    table = Table("witnessed", "root", "run", "journal", title=f"{facts['site']} as a witness")
    if facts["entries"]:
        place = f"entry {facts['position']['sequence']} of {facts['position']['epoch']}"
        table.add_row(f"{facts['entries']} entries", facts["root"], facts["run"], place)
    people.print(table)
    for gap in facts["gaps"]:
        people.print(
            f"GAP, followed {gap['at']}: the officers have signed that the log goes on after its first {gap['kept']} entries, and that what came after is lost:"
            f" {gap['reason']}. The head that this site had signed before:\n{gap['before']}",
            markup=False,
            highlight=False,
        )
    for fork in facts["forks"]:
        people.print(
            f"SPLIT, found {fork['at']}: the log's key has signed two different heads of one size. This site takes part in nothing until you have dealt"
            " with it; see the runbook. Both notes:",
            markup=False,
            highlight=False,
        )
        for note in fork["notes"]:
            people.print(note, markup=False, highlight=False)
