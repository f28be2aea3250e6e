"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from client.enrolment.new_site import CONFIG_FILE

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The site's configuration.")]
HERE: Final = Path(CONFIG_FILE)
"""The configuration that a command takes where it is told no other."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
