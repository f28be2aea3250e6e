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
from client.log_copy import LogCopy
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
    copy = LogCopy.open(config.log_copy, _owner(config))
    try:
        witness.begin_anew(reason)
        copy.leave_behind(0, reason)
    finally:
        copy.close()
        witness.journal.close()


def show(facts: dict[str, Any]) -> None:
    """The same for people."""
    table = Table("witnessed", "root", "run", "journal", title=f"{facts['site']} as a witness")
    if facts["entries"]:
        place = f"entry {facts['position']['sequence']} of {facts['position']['epoch']}"
        table.add_row(f"{facts['entries']} entries", facts["root"], facts["run"], place)
    people.print(table)
    for gap in facts["gaps"]:
        people.print(
            f"GAP, followed {gap['at']}: the officers have signed that the log goes on after its first {gap['kept']} entries, and that what came after is lost:"
            f" {gap['reason']}. The head that this site had signed before:\n{gap['before']}",
            markup=False,
            highlight=False,
        )
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
    identity, opened = load_identity(config), Journal.open(journal, _owner(config))
    return WitnessMemory(config.site, identity, opened, lambda: datetime.now(UTC), os.urandom)


def _owner(config: SiteConfig) -> Owner:
    return Owner(
        federation=config.federation.name,
        root=load_root(config).root.digest,
        site=config.site,
        identity=load_identity(config).public,
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
        "gaps": [
            {"at": each.at, "kept": each.kept, "reason": each.reason, "before": each.before}
            for each in witness.bridged
        ],
        "forks": [{"at": each.at, "notes": list(each.notes)} for each in witness.forks],
    }
