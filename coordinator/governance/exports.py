"""Writing an export of the transparency log, for whoever has the root and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coordinator.governance.log import TransparencyLog
from protos.log_export import ExportHeader, write_export
from protos.witness import SignedWitness
from strategies.errors import UsageError
from strategies.transparency.notes import Checkpoint


def export_log(
    log: TransparencyLog, federation: str, file: Path, witnesses: Iterable[SignedWitness] = ()
) -> Checkpoint:
    """Write all entries up to the newest head, which is returned, to a new file, with what `witnesses` have signed of them. Raises UsageError where there is one already."""
    note = log.checkpoint()
    head = Checkpoint.parse(note.require(log.key))
    seen = tuple(each for each in witnesses if each.statement.head.size <= head.size)
    header = ExportHeader(federation=federation, checkpoint=note.encoded, witnesses=seen or None)
    try:
        with file.open("xb") as opened:
            write_export(opened, header, (each.body for each in log.entries(0, head.size)))
    except FileExistsError as error:
        raise UsageError(f"{file} exists; name another file") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    return head
