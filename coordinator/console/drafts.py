"""What an officer had typed when their session ended: kept for the same officer, and put before them again after they have signed in.

1. Only a form with the ended session's own token is kept, so that nobody else can leave anything here.
2. A form with a password or a code in it is not kept at all, and no confirmation is: that is typed anew.
3. A few for each officer, for half a day, or until they are sent.
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine, select

from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading, writing

if TYPE_CHECKING:
    from coordinator.console.visit import Visit

KEPT: Final = timedelta(hours=12)
CONFIRMED: Final = "confirmed"
FIELD: Final = "draft"
"""The field of a form that names the draft which it was filled from: once it is sent, nothing is kept of it."""
_MOST_BYTES: Final = 256 << 10
_MOST: Final = 10
_SECRET: Final = frozenset({"password", "again", "current", "code", "link"})
_NOT_KEPT: Final = frozenset({"token", "request_id", FIELD})


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields that were sent to `path`."""

    id: str
    path: str
    fields: Mapping[str, str]
    kept_at: datetime


def keep(visit: Visit) -> str | None:
    """Keep the form of a request whose session is over; returns the draft's id, None where nothing is kept."""
    session, form = visit.session, visit.form
    if (
        session is None
        or _SECRET & form.keys()
        or not hmac.compare_digest(form.get("token", "").encode(), session.token.encode())
    ):
        return None
    fields = json.dumps(
        {key: "" if key == CONFIRMED else value for key, value in form.items() if key not in _NOT_KEPT}
    )
    if len(fields) > _MOST_BYTES:
        return None
    draft = str(uuid.uuid4())
    older = select(ConsoleDraft).where(ConsoleDraft.officer == session.officer)
    with writing(visit.centre.engine, "keeping a draft") as database:
        for row in database.scalars(older.order_by(ConsoleDraft.kept_at.desc()).offset(_MOST - 1)):
            database.delete(row)
        database.add(
            ConsoleDraft(
                id=draft,
                officer=session.officer,
                path=visit.request.url.path,
                fields=fields,
                kept_at=visit.now,
            )
        )
    return draft


def find(engine: Engine, draft: str, officer: str, now: datetime) -> Draft | None:
    """The draft of that officer; nobody else's, and none that is too old."""
    if not draft.isprintable():
        return None
    with reading(engine, "looking for a draft") as database:
        row = database.get(ConsoleDraft, draft)
    if row is None or row.officer != officer or now - row.kept_at > KEPT:
        return None
    return _draft(row)


def of(engine: Engine, officer: str, now: datetime) -> Sequence[Draft]:
    """An officer's drafts, the newest first."""
    query = select(ConsoleDraft).where(ConsoleDraft.officer == officer, ConsoleDraft.kept_at > now - KEPT)
    with reading(engine, "looking for drafts") as database:
        rows = database.scalars(query.order_by(ConsoleDraft.kept_at.desc()).limit(_MOST)).all()
    return [_draft(row) for row in rows]


def forget(engine: Engine, draft: str, officer: str, path: str | None = None) -> None:
    """Throw an officer's draft away; with `path` only one that was to be sent there."""
    if not draft.isprintable():
        return
    with writing(engine, "forgetting a draft") as database:
        row = database.get(ConsoleDraft, draft)
        if row is not None and row.officer == officer and path in {None, row.path}:
            database.delete(row)


def _draft(row: ConsoleDraft) -> Draft:
    return Draft(id=row.id, path=row.path, fields=json.loads(row.fields), kept_at=row.kept_at)
