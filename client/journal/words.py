"""What people are told of a journal that cannot be used: which file, what is wrong with it, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def cannot_be_opened(path: Path, error: OSError) -> str:
    """Of a file that is not there to be used."""
    return (
        f"the journal {path} cannot be opened ({error.strerror}); `journal` must name a file, on a local disk, that the "
        "agent's user may write"
    )


def in_use(path: Path, *, shared: bool) -> str:
    """Of a journal that another process has."""
    what = "has kept it for itself; stop that one" if shared else "runs already; stop that one first"
    return f"{path} is in use: another agent of this site {what}"


def damaged(path: Path, what: str, *, shared: bool) -> str:
    """Of a journal whose entries are not those that were written."""
    if shared:
        return (
            f"{path} is damaged: {what}. Keep the file, and put its newest good copy back; what was released since that was made is"
            " known to the centre only, so compare with `covenant ledger reconcile` before this site takes part again"
        )
    return (
        f"{path} is damaged: {what}. Keep the file for the officers and have this site enrolled anew under a new key (`covenant-agent reenrol`); an "
        "older copy in its place would let this site answer a round a second time"
    )


def failed(path: Path, doing: str, error: Exception, code: str) -> str:
    """Of a journal that the disk did not take."""
    return (
        f"{doing} in {path} failed ({error}, {code}); this agent stops, and nothing that was not recorded has left. "
        "Check the disk and its free space before it is started again"
    )


def too_new(path: Path, written: int, known: int) -> str:
    """Of a journal whose format this version does not know."""
    return (
        f"{path} was written by a newer version of this agent (format {written}; this version knows {known}): go on with that"
        " version. Do not put an older copy in its place: it has forgotten what this site answered"
    )


def not_of(path: Path, owner: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Of a journal whose first entry says that it is another `owner`'s."""
    differs = ", ".join(sorted(name for name in expected if owner.get(name) != expected[name]))
    return (
        f"{path} is the journal of {named(owner)} (another {differs}), not of {named(expected)}: an agent goes on"
        " with its own journal only; put that back, or name another folder"
    )


def named(owner: Mapping[str, Any]) -> str:
    """The site of a file's owner, and the federation where it is of one alone."""
    site = f"{owner.get('site')}"
    return f"{site} in federation {owner['federation']}" if "federation" in owner else site
