"""The transparency log: searched, and entry by entry with its proof."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from coordinator.cli.log_words import words_of
from coordinator.console.log_kinds import LABELS
from coordinator.console.pages.log_head import checked, head_of, is_number, number
from coordinator.console.reads import log as entries
from coordinator.console.reads.log import EntryRow, Search, subjects_named
from coordinator.console.routes import Route
from coordinator.console.subject_links import link_to
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from protos import governance_pb2 as governance
from protos.log_entries import LogEntry
from protos.log_subjects import Of, subjects_of
from protos.shell import as_written
from strategies.errors import CovenantError, Refused, UsageError
from strategies.transparency.merkle import leaf_hash
from strategies.transparency.notes import Checkpoint

_LIST: Final = "covenant.governance.v1.Log/ListEntries"
_INCLUSION: Final = "covenant.governance.v1.Log/GetInclusion"
_ORDER: Final[tuple[Of, ...]] = ("run", "plan", "model", "target", "officer", "site")
_MOST_IN_CSV: Final = 1000
_YEARS: Final = range(1970, 9000)
_SHOWN_BYTES: Final = 256 * 1024


def show(visit: Visit) -> Response:
    """Entries, the newest first, by what is looked for."""
    wanted = visit.query.get("about", "").strip()
    if is_number(wanted):
        return visit.go(f"/log/{int(wanted)}")
    search = _search(visit.query)
    below, above = (number(visit.query, name) for name in ("below", "above"))
    as_csv = visit.query.get("format") == "csv"
    found = entries.page(
        visit.centre.engine,
        search,
        below=below,
        above=above,
        limit=_MOST_IN_CSV if as_csv else entries.MOST,
    )
    table = Table(
        name="log",
        caption="Entries, the newest first",
        columns=[Column("Entry", number=True), Column("When"), Column("Kind"), Column("What it says")],
        rows=[_row(each) for each in found.rows],
        empty=_empty(search, wanted),
        newer=found.newer if found.newer is None else visit.with_query(above=str(found.newer), below=None),
        file_rows=_MOST_IN_CSV,
        older=found.older if found.older is None else visit.with_query(below=str(found.older), above=None),
    )
    if as_csv:
        return visit.table(table)
    return visit.page(
        "log.html",
        entries=table,
        size=entries.size(visit.centre.engine),
        kinds=LABELS,
        filled={name: visit.query.get(name, "") for name in ("about", "kind", "since", "until")},
        csv=visit.with_query(format="csv"),
    )


def show_entry(visit: Visit) -> Response:
    """One entry: its bytes, what it is about, and what proves that it is in the log."""
    row = entries.entry(visit.centre.engine, _seq(visit))
    key, note = head_of(visit)
    head = Checkpoint.parse(note.text)
    if row.seq >= head.size:
        raise Refused(f"entry {row.seq} is not under the log's head of {head.size} entries yet; try again")
    proof = visit.ask(_INCLUSION, governance.GetInclusionRequest(seq=row.seq, size=head.size))
    hashes, leaf = [each.hex() for each in proof.hashes], leaf_hash(row.body).hex()
    whole = len(row.body) <= _SHOWN_BYTES
    return visit.page(
        "log_entry.html",
        row=row,
        label=LABELS.get(row.kind, row.kind),
        words=_words(row),
        about=_about(visit, row),
        text=row.body.decode() if whole else None,
        readable=json.dumps(json.loads(row.body), indent=2, ensure_ascii=False) if whole else None,
        leaf=leaf,
        head=head,
        key=key,
        proof=hashes,
        checked=checked(key, note, seq=row.seq, proof=hashes),
    )


def download_entry(visit: Visit) -> Response:
    """The bytes that the leaf is over."""
    row = entries.entry(visit.centre.engine, _seq(visit))
    named = {"Content-Disposition": f'attachment; filename="entry-{row.seq}.json"'}
    return Response(row.body, media_type="application/json", headers=named)


def _row(row: EntryRow) -> Sequence[Cell]:
    return (
        Cell(row.seq, href=f"/log/{row.seq}"),
        Cell(row.at),
        Cell(row.kind, text=LABELS.get(row.kind, row.kind)),
        Cell(_words(row)),
    )


def _words(row: EntryRow) -> str:
    """An entry in a line; one that a later version wrote is found by its number all the same."""
    try:
        return as_written(words_of(LogEntry.from_canonical(row.body).what)).plain
    except CovenantError:
        return "This version of the coordinator cannot read this entry; its bytes are on its page."


def _about(visit: Visit, row: EntryRow) -> Sequence[tuple[str, str, str]]:
    """Kind, name and address of each subject of an entry."""
    found = sorted(
        subjects_of(json.loads(row.body)["what"]), key=lambda each: (_ORDER.index(each.of), each.name)
    )
    return [(each.of, each.name, link_to(visit, each)) for each in found]


def _search(query: Mapping[str, str]) -> Search:
    """What a form asks for. Raises UsageError."""
    kind = query.get("kind") or None
    if kind is not None and kind not in LABELS:
        raise UsageError(f"the log has no entries of kind {kind[:40]!r}; choose one of the list")
    wanted = query.get("about", "").strip()
    return Search(
        kind=kind,
        about=subjects_named(wanted) if wanted else None,
        since=_moment(query.get("since", ""), "from"),
        until=_moment(query.get("until", ""), "until"),
    )


def _moment(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.year not in _YEARS:
            raise ValueError("far from any entry")  # noqa: TRY301  (said below)
    except ValueError as error:
        raise UsageError(
            f"{name}: {text[:40]!r} is no time; use one such as 2026-11-26T14:30, in UTC"
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _empty(search: Search, wanted: str) -> str:
    if search.about is not None and not search.about:
        return (
            f"Nothing in the log is called {wanted[:80]!r}. Look for a run's id, a plan's digest or name, a model such as lending@3, a site, an"
            " officer, a target, or an entry's number."
        )
    if search == Search():
        return "The log has no entries yet. The first is written when the member list is taken over, at the first launch."
    return "No entry is like that. Take away one of the conditions."


def _seq(visit: Visit) -> int:
    text = visit.path["seq"]
    if not is_number(text):
        raise UsageError(f"{text[:40]!r} is no number of an entry; entries are numbered from 0")
    return int(text)


ROUTES: Final = (
    Route("/log", show, _LIST),
    Route("/log/{seq}", show_entry, _INCLUSION),
    Route("/log/{seq}/entry.json", download_entry, _LIST),
)
