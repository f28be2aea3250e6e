"""The head of the transparency log: signed, co-signed by sites, proven to have grown, and the whole log under it as a file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse, Response, StreamingResponse

from coordinator.console.pages.log_forks import forks, remedies
from coordinator.console.reads import log as entries
from coordinator.console.routes import Route
from coordinator.console.subject_links import about
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.governance.exports import export_pieces
from coordinator.governance.witnesses import WitnessBook
from protos import governance_pb2 as governance
from protos.log_subjects import Subject
from protos.membership import MemberList
from protos.witness import SignedWitness
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_HEAD: Final = "covenant.governance.v1.Log/GetCheckpoint"
_CONSISTENCY: Final = "covenant.governance.v1.Log/GetConsistency"
_EXPORT: Final = "covenant.governance.v1.Log/Export"
_LONGEST_NUMBER: Final = 15
_SITES: Final = 50
"""On a page: each statement is verified."""
_EXPORTS_A_MINUTE: Final = 2.0


def show_head(visit: Visit) -> Response:
    """The signed head, what does not fit it, and how far each site has witnessed the log."""
    key, note = head_of(visit)
    head = Checkpoint.parse(note.text)
    as_csv = visit.query.get("format") == "csv"
    sites, before, after = _some_sites(visit, everyone=as_csv)
    table = _witnesses(visit, head.size, sites)
    evidence = forks(visit)
    if as_csv:
        return visit.table(evidence if visit.query.get("table") == evidence.name else table)
    return visit.page(
        "log_head.html",
        head=head,
        key=key,
        note=note.encoded,
        witnesses=table,
        evidence=evidence,
        remedies=remedies(visit),
        csv=visit.with_query(format="csv"),
        before=None if before is None else visit.with_query(site=before),
        after=None if after is None else visit.with_query(site=after),
        checked=checked(key, note),
    )


def show_consistency(visit: Visit) -> Response:
    """The proof that the log of `new` entries begins with the `old`, for the browser that remembers a head."""
    size = entries.size(visit.centre.engine)
    old, new = (number(visit.query, name) for name in ("old", "new"))
    request = governance.GetConsistencyRequest(
        old=1 if old is None else old, new=size if new is None else new
    )
    found = visit.ask(_CONSISTENCY, request)
    return JSONResponse({"proof": [each.hex() for each in found.hashes]})


def export(visit: Visit) -> Response:
    """The whole log up to its signed head, as `covenant log verify` takes it."""
    visit.console.rates.take(
        f"export {visit.who.name}", burst=_EXPORTS_A_MINUTE, per_minute=_EXPORTS_A_MINUTE
    )
    key, note = head_of(visit)
    head = Checkpoint.parse(note.text)
    name = f"{visit.centre.settings.config.federation}-log-{head.size}.jsonl"
    return StreamingResponse(
        export_pieces(visit.centre, key, note),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def head_of(visit: Visit) -> tuple[NoteKey, SignedNote]:
    """The log's key and its signed head."""
    signed = visit.ask(_HEAD, governance.GetCheckpointRequest())
    return NoteKey.parse(signed.key), SignedNote.parse(signed.note)


def checked(key: NoteKey, note: SignedNote, **more: Any) -> Mapping[str, Any]:  # noqa: ANN401  (JSON)
    """What the browser checks."""
    return {"key": key.words, "note": note.encoded, **more}


def number(query: Mapping[str, str], name: str) -> int | None:
    """A number in an address; None without one. Raises UsageError."""
    text = query.get(name, "")
    if not text:
        return None
    if not is_number(text):
        raise UsageError("this page's address is cut or changed; begin at the first page again")
    return int(text)


def is_number(text: str) -> bool:
    """Whether a text may be an entry's number."""
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _some_sites(visit: Visit, *, everyone: bool) -> tuple[Sequence[SiteName], str | None, str | None]:
    """The sites of a page, by name, and what the pages before and after it begin with; or everyone's."""
    names = sorted(each.site for each in visit.console.members.now().members)
    if everyone:
        return names, None, None
    first = bisect_left(names, visit.query.get("site", ""))
    before = names[max(0, first - _SITES)] if first > 0 else None
    after = names[first + _SITES] if first + _SITES < len(names) else None
    return names[first : first + _SITES], before, after


def _witnesses(visit: Visit, size: int, sites: Sequence[SiteName]) -> Table:
    members = visit.console.members.now()
    newest = WitnessBook(visit.centre.engine, visit.centre.clock).newest(members, frozenset(sites))
    return Table(
        name="witnesses",
        caption="Sites that have co-signed a head",
        columns=[
            Column("Site"),
            Column("Entries seen", number=True),
            Column("Behind", number=True),
            Column("When"),
            Column("In run"),
            Column("Signature"),
        ],
        rows=[_witness(newest[site].signed, size, members) for site in sorted(newest)],
        empty="No site has co-signed a head yet. Sites do so in every run that they take part in.",
    )


def _witness(signed: SignedWitness, size: int, members: MemberList) -> Sequence[Cell]:
    said = signed.statement
    try:
        signed.verify(members)
        signature = Cell("by the site's key")
    except Refused:
        signature = Cell("does not verify", tone="bad")
    return (
        Cell(said.site),
        Cell(said.head.size),
        Cell(size - said.head.size),
        Cell(said.at),
        Cell(said.run, href=about(Subject("run", said.run)), code=True),
        signature,
    )


ROUTES: Final = (
    Route("/log/head", show_head, _HEAD),
    Route("/log/consistency", show_consistency, _CONSISTENCY),
    Route("/log/export", export, _EXPORT),
)
