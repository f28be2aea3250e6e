"""`covenant-agent doctor`: what is wrong here, and what to do."""

from __future__ import annotations

from typing import Final

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from protos.shell import as_written, emit, people, tell

_WRONG: Final = 1
_MARKS: Final = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "wrong": "[bold red]wrong[/]"}


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("doctor")(doctor)


def doctor(config: ConfigFile = HERE, json: Json = False) -> None:
    """Check clock, TLS, disk, keys, membership, records, data, policy, memory and versions, and say what to do. Leaves with 1 if something is wrong."""
    from client.bootstrap import utc_now
    from client.doctor.examination import examine

    found = list(examine(config, clock=utc_now))
    healthy = all(each.level != "wrong" for each in found)
    if json:
        emit({"healthy": healthy, "findings": [each.facts() for each in found]})
    else:
        table = Table("check", "", "what", "evidence")
        for each in found:
            table.add_row(each.check, _MARKS[each.level], as_written(each.what), as_written(each.evidence))
        people.print(table, highlight=False)
        for each in found:
            if each.next:
                tell(f"{each.check}: {each.next}")
    if not healthy:
        raise typer.Exit(_WRONG)
