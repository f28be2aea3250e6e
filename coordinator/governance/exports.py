"""Writing an export of the transparency log, for whoever has the root and nothing else."""

from __future__ import annotations

from pathlib import Path

from coordinator.governance.log import TransparencyLog
from protos.log_export import ExportHeader, write_export
from strategies.errors import UsageError
from strategies.transparency.notes import Checkpoint, SignedNote


def header_of(log: TransparencyLog, note: SignedNote, federation: str) -> tuple[ExportHeader, Checkpoint]:
    """The first line of an export up to the signed head `note`, and that head."""
    head = Checkpoint.parse(note.require(log.key))
    return ExportHeader(federation=federation, checkpoint=note.encoded), head


def export_log(log: TransparencyLog, federation: str, file: Path) -> Checkpoint:
    """Write all entries up to the newest head, which is returned, to a new file. Raises UsageError where there is one already."""
    header, head = header_of(log, log.checkpoint(), federation)
    try:
        with file.open("xb") as opened:
            write_export(opened, header, (each.body for each in log.entries(0, head.size)))
    except FileExistsError as error:
        raise UsageError(f"{file} exists; name another file") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    return head
