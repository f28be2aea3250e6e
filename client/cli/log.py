"""`covenant-agent log`: this site's copy of the transparency log, for whoever must restore the coordinator, or audits it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, ConfigFile, Json
from protos.shell import emit, people
from protos.site import load_site

app = typer.Typer(no_args_is_help=True, help="This site's copy of the transparency log.")


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.add_typer(app, name="log")


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    *,
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Write the copy up to the newest signed head that it reaches, as `covenant log verify` and `covenant restore --copy` take it."""
    from client.transparency.export import export_copy

    facts = export_copy(load_site(config), file)
    if json:
        emit(facts)
        return
    people.print(
        f"wrote {facts['entries']} entries of the log of {facts['federation']} to {file}; their head is {facts['root']}",
        highlight=False,
        markup=False,
    )
