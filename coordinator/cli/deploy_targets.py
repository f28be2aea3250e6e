"""`covenant deploy targets`: the places where models may run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.deploy_tables import targets_table
from coordinator.cli.options import Access, Home, Json, deploy_desk_at
from coordinator.deploy.targets.settings import EdgeSettings, KServeSettings, LocalSettings, TargetSettings
from protos.documents import read_document
from protos.shell import emit, people
from strategies.errors import UsageError

places = typer.Typer(no_args_is_help=True, help="Where models run.")
_KINDS: Final[dict[str, type[LocalSettings] | type[KServeSettings] | type[EdgeSettings]]] = {
    "local": LocalSettings,
    "kserve": KServeSettings,
    "edge": EdgeSettings,
}


@places.command("add")
def add(
    name: Annotated[
        str, typer.Argument(help="What the target is called: lower-case letters, digits, hyphens.")
    ],
    settings: Annotated[
        Path, typer.Argument(help="How it is reached, in YAML: its `kind` is local, kserve or edge.")
    ],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Record a place where models may run."""
    deploy_desk_at(home, access).add_target(name, _settings(settings))
    if json:
        emit({"target": name})
    else:
        people.print(f"{name} is a target; `covenant deploy start` brings a version there", highlight=False)


@places.command("list")
def list_targets(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All targets."""
    found = deploy_desk_at(home, access).targets()
    if json:
        emit({"targets": found})
        return
    targets_table(found)


def _settings(path: Path) -> TargetSettings:
    """The settings in a file, by their kind. Raises `CovenantError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text") from error
    for kind, model in _KINDS.items():
        if any(line.strip() == f"kind: {kind}" for line in text.splitlines()):
            return read_document(text, model, str(path))
    raise UsageError(f"{path} does not say which `kind` of target it is; write kind: {', '.join(_KINDS)}")
