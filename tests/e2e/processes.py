"""Finding the processes of a deployment, in order to kill them."""

from __future__ import annotations

from pathlib import Path


def child_of(parent: int, named: str) -> int:
    """The process id of the child of `parent` whose command line holds `named`. Raises `ProcessLookupError`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and named in command and fields[0] != "Z":
            return int(stat.parent.name)
    raise ProcessLookupError(f"{parent} has no child {named}")
