"""`covenant-agent reenrol`: a new key for a site whose journal was lost, set back, or used twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.options import HERE, ConfigFile, Json
from client.enrolment.new_site import REQUEST_FILE
from protos.shell import emit, people
from protos.site import load_site


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("reenrol")(reenrol)


def reenrol(
    reason: Annotated[str, typer.Option(help="What happened; it stays in this site's own record.")],
    log: Annotated[
        list[Path] | None,
        typer.Option(
            help="An export of the log, from the centre (`covenant log export`) or another site (`covenant-agent log export`); repeatable, the more the better."
        ),
    ] = None,
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Retire this site's key and journal, and make a new key for the officers to certify. The accounts are kept, and get what any of the logs has more."""
    from client.bootstrap import utc_now
    from client.enrolment.anew import enrol_anew

    site = load_site(config)
    made = enrol_anew(site, log or (), reason, now=utc_now())
    if json:
        emit(made.facts())
        return
    people.print(
        f"{made.restored} charges that the accounts lacked were taken over; nothing was taken from them.\n"
        f"The old key and journal are retired as {', '.join(each.name for each in made.retired) or 'nothing'}; keep them for the officers.\n"
        f"Hand in {config.resolve().parent / REQUEST_FILE} (`covenant-agent enroll`), and tell the officers this fingerprint:\n  {made.request.fingerprint}",
        highlight=False,
    )
