"""`covenant plan comment`: what officers ask each other about a plan before they sign it."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.options import Access, Home, Json, PlanName, desk_at
from coordinator.cli.proposals import find
from protos.shell import emit, tell


def comment(
    plan: PlanName,
    text: Annotated[
        str | None,
        typer.Argument(help="What to say, in at most 2,000 characters; without it, what was said is shown."),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Say something about a plan that was proposed, or show what was said. A comment is signed by nobody and counts for nothing."""
    desk = desk_at(home, access)
    found, _ = find(desk, plan, None)
    key = found.plan.digest, found.contract.digest
    if text is not None:
        desk.comment(*key, text)
    said = list(desk.comments(*key))
    if json:
        emit(
            {
                "plan": found.plan.digest,
                "comments": [
                    {"officer": each.officer, "at": each.at.isoformat(), "text": each.text} for each in said
                ],
            }
        )
        return
    tell(f"plan {found.plan.name} {found.plan.digest[:12]}")
    for each in said:
        tell(f"{each.at:%Y-%m-%d %H:%M} UTC, {each.officer}:")
        for line in each.text.split("\n"):
            tell(f"   {line}")
    if not said:
        tell("nothing was said about it yet")
