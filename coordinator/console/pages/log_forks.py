"""What sites have signed that does not fit this log, or its history: on the page of the head, with what to do, and each piece as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import _
from coordinator.console.visit import Visit
from coordinator.governance.witnesses import Found, WitnessBook
from strategies.errors import UsageError
from strategies.transparency.notes import Checkpoint, SignedNote

_LIST: Final = "covenant.governance.v1.Log/ListEntries"
_MOST: Final = 50
_SHOWN: Final = 12
_DIGITS: Final = 9
_MEANS: Final[Mapping[str, str]] = {
    "shorter": _(
        "A head was signed that is longer than this log: the database was set back. Stop the coordinator, and put the newest copy of the database back."
    ),
    "split": _(
        "Two heads were signed that are of no one log: there are two databases under one key, or somebody else has the key. Stop both, and decide with the officers by what the sites have witnessed."
    ),
    "not extended": _(
        "A head was signed that this log does not begin with: the database was changed, or is another one. Stop the coordinator, and decide with the officers by what the sites have witnessed."
    ),
    "set back": _(
        "The site's own journal is an older copy, or the site runs twice. Its operator puts the newest journal back, or enrols the site anew; runs go on without it."
    ),
}


def forks(visit: Visit) -> Table:
    """The evidence, the newest first."""
    found = WitnessBook(visit.centre.engine, visit.centre.clock).newest_found(_MOST)
    return Table(
        name="evidence",
        caption="Evidence of histories that do not fit",
        columns=[
            Column("Evidence", number=True),
            Column("Shows"),
            Column("By"),
            Column("In run"),
            Column("Found"),
            Column("Heads that were signed"),
            Column("State"),
        ],
        rows=[_row(each) for each in found],
        empty="Nobody has shown a history that does not fit.",
        cut="`covenant log witnesses` has them all" if len(found) == _MOST else "",
    )


def remedies(visit: Visit) -> Sequence[tuple[str, str]]:
    """What is shown by evidence that nobody has dealt with, and what to do about it."""
    found = WitnessBook(visit.centre.engine, visit.centre.clock).newest_found(_MOST)
    shown = {each.evidence.shows for each in found if each.settled_at is None}
    return [(shows, means) for shows, means in _MEANS.items() if shows in shown]


def download(visit: Visit) -> Response:
    """A piece of evidence as it is kept: whoever has the member list judges it alone. Raises UsageError."""
    text = visit.path["number"]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0
    found = WitnessBook(visit.centre.engine, visit.centre.clock).numbered(number)
    if found is None:
        raise UsageError(f"there is no evidence {text[:40]!r}; the page of the log's head has what there is")
    named = {"Content-Disposition": f'attachment; filename="evidence-{number}.json"'}
    return Response(found.evidence.canonical, media_type="application/json", headers=named)


def _row(each: Found) -> Sequence[Cell]:
    state = (
        Cell("stands: nothing is launched", tone="bad")
        if each.stands
        else Cell("nobody has dealt with it", tone="warn")
        if each.settled_at is None
        else Cell(f"settled: {each.settled}")
    )
    return (
        Cell(each.number, href=f"/log/evidence/{each.number}"),
        Cell(each.evidence.shows),
        Cell(each.evidence.site, href=f"/sites/{each.evidence.site}"),
        Cell(each.run, href=f"/runs/{each.run}", code=True),
        Cell(each.found_at),
        Cell("; ".join(_heads(each))),
        state,
    )


def _heads(each: Found) -> Sequence[str]:
    notes = [Checkpoint.parse(SignedNote.parse(note).text) for note in each.evidence.notes]
    by_log = [f"the log: {head.size} entries, {head.root.hex()[:_SHOWN]}" for head in notes]
    said = [signed.statement for signed in each.evidence.statements]
    return [
        *by_log,
        *(f"{one.site}: {one.head.size} entries, {one.head.root.hex()[:_SHOWN]}" for one in said),
    ]


ROUTES: Final = (Route("/log/evidence/{number}", download, _LIST),)
