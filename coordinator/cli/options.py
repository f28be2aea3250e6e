"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.bootstrap import Centre, open_centre
from coordinator.settings import HOME_VARIABLE, load_settings

Home = Annotated[
    Path | None,
    typer.Option(
        help="The coordinator's folder; else $COVENANT_HOME, else ./covenant-home.", envvar=HOME_VARIABLE
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def centre_at(home: Path | None) -> Centre:
    """The coordinator whose folder is `home`."""
    return open_centre(load_settings(home))


PlanFile = Annotated[Path, typer.Argument(help="The plan, in YAML.")]
ContractFile = Annotated[
    Path | None, typer.Option("--contract", help="Its data contract; else NAME.yaml beside the plan.")
]
