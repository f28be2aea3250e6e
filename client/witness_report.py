"""What this site has witnessed of the log, for its people: the last head, where the journal stands, and any split that was found.

An agent that runs keeps its journal for itself, so a copy of the file is read: its chain of checksums says whether the copy is whole.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from client.journal.entries import Owner
from client.journal.file import Journal
from client.keystore import load_identity, load_root
from client.witness_memory import WitnessMemory
from protos.shell import people
from protos.site import SiteConfig
from strategies.errors import UsageError
from strategies.transparency.notes import Checkpoint, SignedNote

_SUFFIXES = ("", "-wal")


def report(config: SiteConfig) -> dict[str, Any]:
    """What stands in the journal, whether or not the agent runs. Raises UsageError where there is none, or it is somebody else's."""
    if not config.journal.exists():
        raise UsageError(
            f"{config.journal} does not exist: this site has not run yet, and has witnessed nothing"
        )
    with TemporaryDirectory() as name:
        copy = Path(name) / "journal.db"
        for suffix in _SUFFIXES:
            source = Path(f"{config.journal}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        witness = _open(config, copy)
        try:
            return _facts(witness)
        finally:
            witness.journal.close()


def begin_anew(config: SiteConfig, reason: str) -> None:
    """Forget what was witnessed, because a person says so. Raises UsageError while the agent runs."""
    witness = _open(config, config.journal)
    try:
        witness.begin_anew(reason)
    finally:
        witness.journal.close()


def show(facts: dict[str, Any]) -> None:
    """The same for people."""
    table = Table("witnessed", "root", "run", "journal", title=f"{facts['site']} as a witness")
    if facts["entries"]:
        place = f"entry {facts['position']['sequence']} of {facts['position']['epoch']}"
        table.add_row(f"{facts['entries']} entries", facts["root"], facts["run"], place)
    people.print(table)
    for fork in facts["forks"]:
        people.print(
            f"SPLIT, found {fork['at']}: the log's key has signed two different heads of one size. This site takes part in nothing until you have dealt"
            " with it; see the runbook. Both notes:",
            markup=False,
            highlight=False,
        )
        for note in fork["notes"]:
            people.print(note, markup=False, highlight=False)


def _open(config: SiteConfig, journal: Path) -> WitnessMemory:
    pinned, identity = load_root(config), load_identity(config)
    owner = Owner(
        federation=config.federation.name,
        root=pinned.root.digest,
        site=config.site,
        identity=identity.public,
    )
    return WitnessMemory(
        config.site, identity, Journal.open(journal, owner), lambda: datetime.now(UTC), os.urandom
    )


def _facts(witness: WitnessMemory) -> dict[str, Any]:
    newest = witness.known.get(witness.site) if witness.last is not None else None
    head = None if witness.last is None else Checkpoint.parse(SignedNote.parse(witness.last.encoded).text)
    return {
        "site": witness.site,
        "entries": 0 if head is None else head.size,
        "root": None if head is None else head.root.hex(),
        "note": None if witness.last is None else witness.last.encoded,
        "run": None if newest is None else newest.statement.run,
        "position": None if newest is None else newest.statement.position.model_dump(mode="json"),
        "forks": [{"at": each.at, "notes": list(each.notes)} for each in witness.forks],
    }
