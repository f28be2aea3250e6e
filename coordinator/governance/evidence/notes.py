"""Notes on versions as officers hand them in: each with its entry in the log, judged under the log's lock as its auditor judges it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.evidence_schema import ModelNoteRow
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.registry.approvals import author_of
from coordinator.registry.versions import locked_row, read_version
from protos.log_entries import What
from protos.log_evidence import ModelNoted
from protos.model_notes import ModelNote, NoteKind, require_note

First = Callable[[Session], None]


def record(centre: Centre, note: ModelNote, listed: Listed, first: First | None = None) -> None:
    """Keep a note; one that was handed in before changes nothing. `first` is the first thing that the transaction does.

    Raises Refused for a note that does not count, UsageError for a version that is not registered.
    """
    at = centre.clock()
    with writing(centre.engine, f"recording what is said of {note.ref}") as session:
        if first is not None:
            first(session)
        told: list[ModelNoted] = []
        size = append(session, at, _noted(session, note, listed, at, told))
        if told:
            write_note(session, note, at, size - 1)


def write_note(session: Session, note: ModelNote, at: datetime, entry: int) -> None:
    """What a note does to the tables. `entry` is its place in the log."""
    session.add(
        ModelNoteRow(
            digest=note.digest,
            name=note.model,
            version=note.version,
            kind=note.kind,
            officer=note.officer,
            document=note.canonical.decode(),
            received_at=at,
            entry=entry,
        )
    )
    session.flush()


def notes_on(session: Session, name: str, version: int) -> tuple[ModelNote, ...]:
    """All notes on a version, the oldest first."""
    query = select(ModelNoteRow.document).where(ModelNoteRow.name == name, ModelNoteRow.version == version)
    found = session.scalars(query.order_by(ModelNoteRow.entry))
    return tuple(ModelNote.from_canonical(each.encode()) for each in found)


def _noted(
    session: Session, note: ModelNote, listed: Listed, at: datetime, told: list[ModelNoted]
) -> Iterator[What]:
    """The entry of a note, under the log's lock; nothing for one that is recorded."""
    locked_row(session, note.model, note.version)
    if session.get(ModelNoteRow, note.digest) is not None:
        return
    yield from members_signed(session, listed)
    version = read_version(session, note.model, note.version)
    before = _last(session, note.model, note.version, note.kind)
    require_note(note, version.digest, author_of(session, version), before, listed.trusted, at)
    told.append(ModelNoted(note=note))
    yield told[0]


def _last(session: Session, name: str, version: int, kind: NoteKind) -> ModelNote | None:
    of_kind = [each for each in notes_on(session, name, version) if each.kind is kind]
    return of_kind[-1] if of_kind else None
