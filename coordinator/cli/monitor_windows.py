"""Windows that come to the coordinator in another way than over the API: carried in a file, or fetched on its own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from coordinator.cli.monitor_tables import show_taken
from coordinator.cli.options import Access, Home, Json, centre_at, monitor_desk_at
from protos.shell import emit
from protos.windows import MOST_BYTES, Windows
from strategies.errors import CovenantError, Refused, UsageError

_MOST_FILE_BYTES: Final = 2 * MOST_BYTES
"""What a place writes has fewer, with the signature and line ends."""


def import_windows(
    file: Annotated[Path, typer.Argument(help="What `covenant score windows --export` wrote at the place.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Take in windows that were carried from a place without a connection. Those that were taken in before change nothing."""
    taken = monitor_desk_at(home, access).import_windows(carried_windows(file))
    _told([taken], json=json)


def collect(
    target: Annotated[str | None, typer.Argument(help="Only from this target; else from every one.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="From the first window on: for windows that were refused before.")
    ] = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Fetch, at the coordinator itself, what scoring services on this machine have released; the coordinator does so each minute."""
    from coordinator.deploy.monitoring.collecting import collect_from, local_targets

    centre = centre_at(home)
    names = local_targets(centre) if target is None else (target,)
    if not names:
        raise UsageError(
            "there is no target of kind local; `covenant deploy targets list` shows those there are"
        )
    taken, failed = [], []
    for name in names:
        try:
            found = collect_from(centre, name, again=again)
        except CovenantError as error:
            failed.append({"place": name, "new": 0, "alarms": [], "refused": [str(error)]})
        else:
            taken.append(
                {"place": name, "new": found.new, "alarms": [*found.alarms], "refused": [*found.refused]}
            )
    _told([*taken, *failed], json=json)


def carried_windows(path: Path) -> Windows:
    """A file of windows, to the byte as its place wrote and perhaps signed it. Raises UsageError, and Refused for what is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_FILE_BYTES:
        raise UsageError(
            f"{path} is larger than {_MOST_FILE_BYTES} bytes, and no place writes such a file; name what `covenant score windows --export` wrote"
        )
    return Windows.from_canonical(data.strip())


def _told(taken: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        emit({"places": taken})
    else:
        show_taken(taken)
    refused = [why for each in taken for why in each["refused"]]
    if refused and not any(each["new"] for each in taken):
        raise Refused(refused[0])
