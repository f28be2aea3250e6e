"""Finding the processes of a deployment, in order to kill them."""

from __future__ import annotations

from pathlib import Path


def child_of(parent: int, named: str) -> int:
    """The process id of the newest child of `parent` whose command line holds `named`. Raises `ProcessLookupError`.

    The newest, because the server process of a run that has just completed takes a second to end.
    """
    found = [
        int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _is_child(stat, parent, named)
    ]
    if not found:
        raise ProcessLookupError(f"{parent} has no child {named}")
    return max(found)


def _is_child(stat: Path, parent: int, named: str) -> bool:
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
        command = (stat.parent / "cmdline").read_text()
    except OSError:
        return False
    return int(fields[1]) == parent and named in command and fields[0] != "Z"
