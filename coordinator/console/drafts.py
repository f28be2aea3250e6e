"""What an officer had typed when their session ended: kept for the same officer, and put before them again after they have signed in.

Only a form with the ended session's own token is kept, so that nobody else can leave anything here.
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine

from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading, writing

if TYPE_CHECKING:
    from coordinator.console.visit import Visit

_MOST_BYTES: Final = 256 << 10
_NOT_KEPT: Final = frozenset({"token", "request_id", "password", "code"})


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields that were sent to `path`."""

    path: str
    fields: Mapping[str, str]


def keep(visit: Visit) -> str | None:
    """Keep the form of a request whose session is over; returns the draft's id, None where nothing is kept."""
    session, form = visit.session, visit.form
    if session is None or not form or not hmac.compare_digest(form.get("token", ""), session.token):
        return None
    fields = json.dumps({key: value for key, value in form.items() if key not in _NOT_KEPT})
    if len(fields) > _MOST_BYTES:
        return None
    draft = str(uuid.uuid4())
    with writing(visit.centre.engine, "keeping a draft") as database:
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


def find(engine: Engine, draft: str, officer: str) -> Draft | None:
    """The draft of that officer; nobody else's."""
    with reading(engine, "looking for a draft") as database:
        row = database.get(ConsoleDraft, draft)
    if row is None or row.officer != officer:
        return None
    return Draft(path=row.path, fields=json.loads(row.fields))
