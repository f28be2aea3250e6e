"""`covenant console`: who may sign in to the web console. On the coordinator's machine."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.options import Home, Json, centre_at
from coordinator.console.links import GOOD_FOR, PATH, make_link
from coordinator.documents import read_members
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The web console: who may sign in.")


@app.command("link")
def link(
    officer: Annotated[str, typer.Argument(help="An officer of the member list.")],
    home: Home = None,
    json: Json = False,
) -> None:
    """Make a link that signs an officer in once, within an hour: for a first sign-in, or a forgotten password."""
    centre = centre_at(home)
    section = centre.settings.config.console
    if section is None:
        raise UsageError(
            "covenant.yaml has no section `console`, so nobody can sign in; add one, and start the coordinator"
        )
    now = centre.clock()
    read_members(centre.settings)[1].members.officer(officer).require_current(now)
    address = f"https://{section.host}:{section.port}{PATH}?key={make_link(centre.engine, officer, now)}"
    if json:
        emit({"officer": officer, "link": address, "good_until": (now + GOOD_FOR).isoformat()})
        return
    people.print(
        f"signs {officer} in once, until {now + GOOD_FOR:%Y-%m-%d %H:%M} UTC; give it to nobody else:"
    )
    people.print(f"  {address}", highlight=False, soft_wrap=True)
