"""The witnesses of the log for people: how far each has seen it, and what shows that a history is none."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from coordinator.governance.witnesses import Found
from protos.shell import people
from protos.witness import SignedWitness
from strategies.transparency.notes import Checkpoint, SignedNote


def show_witnesses(size: int, seen: Sequence[SignedWitness], found: Sequence[Found]) -> None:
    """The newest statement of each site, and all evidence with both notes."""
    table = Table(
        "site", "entries seen", "behind", "run", "journal", "at", title=f"witnesses of {size} entries"
    )
    for each in seen:
        said = each.statement
        behind, place = str(size - said.head.size), f"entry {said.position.sequence} of {said.position.epoch}"
        table.add_row(said.site, str(said.head.size), behind, said.run, place, f"{said.at:%Y-%m-%d %H:%M:%S}")
    people.print(table)
    for piece in found:
        state = f"settled: {piece.settled}" if piece.settled else "nobody has dealt with it"
        what = piece.evidence
        people.print(
            f"evidence {piece.number}, {what.shows}, {what.site}, {piece.run}, {piece.found_at:%Y-%m-%d %H:%M:%S}: {state}",
            markup=False,
            highlight=False,
        )
        for note in what.notes:
            head = Checkpoint.parse(SignedNote.parse(note).text)
            people.print(f"  signed: {head.size} entries, {head.root.hex()}", markup=False, highlight=False)
        for signed in what.statements:
            said, where = signed.statement, signed.statement.position
            people.print(
                f"  {said.site} signed: {said.head.size} entries, {said.head.root.hex()}, from entry {where.sequence} of journal {where.epoch}",
                markup=False,
                highlight=False,
            )
