"""What this site has witnessed of the log, for its people: the last head, where the journal stands, and any split that was found.

An agent that runs keeps its journal for itself, so a snapshot of it is read: its chain of checksums says whether that is whole.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

from client.bootstrap import open_log_copy, open_witness_memory
from client.journal.entries import JournalBroken
from client.journal.snapshot import snapshot
from client.transparency.memory import WitnessMemory
from protos.site import SiteConfig
from strategies.errors import UsageError
from strategies.transparency.notes import Checkpoint, SignedNote

_TRIES: Final = 3


def report(config: SiteConfig) -> dict[str, Any]:
    """What stands in the journal, whether or not the agent runs. Raises UsageError where there is none, or it is somebody else's, and
    `JournalBroken` where it is damaged.
    """
    if not config.journal.exists():
        raise UsageError(
            f"{config.journal} does not exist: this site has not run yet, and has witnessed nothing"
        )
    for left in reversed(range(_TRIES)):
        with snapshot(config.journal) as file:
            try:
                memory = open_witness_memory(config, file)
                with closing(memory.journal):
                    return _facts(memory)
            except JournalBroken as broken:
                # The agent may have written while it was copied.
                if not left:
                    said = str(broken).replace(str(file), str(config.journal))
                    raise JournalBroken(said) from broken
    raise AssertionError


def begin_anew(config: SiteConfig, reason: str) -> None:
    """Forget what was witnessed, because a person says so. Raises UsageError while the agent runs."""
    memory = open_witness_memory(config, config.journal)
    with closing(memory.journal), closing(open_log_copy(config, config.log_copy)) as copy:
        memory.begin_anew(reason)
        copy.leave_behind(0, reason)


def _facts(memory: WitnessMemory) -> dict[str, Any]:
    newest = memory.newest if memory.last is not None else None
    head = None if memory.last is None else Checkpoint.parse(SignedNote.parse(memory.last.encoded).text)
    return {
        "site": memory.site,
        "entries": 0 if head is None else head.size,
        "root": None if head is None else head.root.hex(),
        "note": None if memory.last is None else memory.last.encoded,
        "run": None if newest is None else newest.statement.run,
        "position": None if newest is None else newest.statement.position.model_dump(mode="json"),
        "gaps": [
            {"at": each.at, "kept": each.kept, "reason": each.reason, "before": each.before}
            for each in memory.bridged
        ],
        "forks": [{"at": each.at, "notes": list(each.notes)} for each in memory.forks],
    }
