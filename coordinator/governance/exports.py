"""Writing an export of the transparency log, for whoever has the root and nothing else; and what sites have witnessed of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

from coordinator.bootstrap import Centre
from coordinator.documents import read_members
from coordinator.governance.log import TransparencyLog, entries_of
from coordinator.governance.witnesses import WitnessBook
from protos.files import new_file
from protos.log_export import ExportHeader, write_export
from protos.witness import SignedWitness
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

PIECE_BYTES: Final = 1 << 20


def header_of(
    key: NoteKey, note: SignedNote, federation: str, witnesses: Iterable[SignedWitness] = ()
) -> tuple[ExportHeader, Checkpoint]:
    """The first line of an export up to the signed head `note`, with what `witnesses` have signed of that, and that head."""
    head = Checkpoint.parse(note.require(key))
    seen = tuple(each for each in witnesses if each.statement.head.size <= head.size)
    return ExportHeader(federation=federation, checkpoint=note.encoded, witnesses=seen or None), head


def export_pieces(centre: Centre, key: NoteKey, note: SignedNote) -> Iterator[bytes]:
    """An export up to the head `note`, which `key` signed, in pieces of whole lines of about `PIECE_BYTES`."""
    header, head = header_of(key, note, centre.settings.config.federation, newest_witnesses(centre))
    piece = bytearray()
    for line in chain([header.canonical], (each.body for each in entries_of(centre.engine, 0, head.size))):
        if piece and len(piece) + len(line) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
        piece += line + b"\n"
    yield bytes(piece)


def newest_witnesses(centre: Centre) -> tuple[SignedWitness, ...]:
    """The newest statement of each site on the member list; none without a list."""
    if not centre.settings.members_file.exists():
        return ()
    members = read_members(centre.settings)[1].members
    newest = WitnessBook(centre.engine, centre.clock).newest(members)
    return tuple(newest[site].signed for site in sorted(newest))


def witness_facts(centre: Centre, log: TransparencyLog) -> dict[str, Any]:
    """As JSON: how far each site has witnessed the log, and the evidence of histories that do not fit, with what was done about it."""
    return {
        "size": log.size(),
        "witnesses": [each.model_dump(mode="json") for each in newest_witnesses(centre)],
        "evidence": [
            {
                "number": each.number,
                "run": each.run,
                "found_at": each.found_at.isoformat(),
                "settled": each.settled,
                "keeps_runs_from_being_launched": each.stands,
                "evidence": each.evidence.model_dump(mode="json"),
            }
            for each in WitnessBook(centre.engine, centre.clock).found()
        ],
    }


def export_log(
    log: TransparencyLog, federation: str, file: Path, witnesses: Iterable[SignedWitness] = ()
) -> Checkpoint:
    """Write all entries up to the newest head, which is returned, to a new file, with what `witnesses` have signed of them. Raises UsageError where there is one already."""
    header, head = header_of(log.key, log.checkpoint(), federation, witnesses)
    with new_file(file) as opened:
        write_export(opened, header, (each.body for each in log.entries(0, head.size)))
    return head
