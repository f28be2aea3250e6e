"""What an officer had typed that was not done, because their session had ended or it was refused: kept for the same officer, and put before them again.

1. Only a form with the token of a session of theirs is kept, so that nobody else can leave anything here.
2. A form with a password or a code in it is not kept at all, and no confirmation is: that is typed anew.
3. A few for each officer, for half a day, or until they are sent.
4. One without this console's seal is none: nobody else puts words into an officer's form.
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

from coordinator.console.seals import holds, seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading, writing

if TYPE_CHECKING:
    from coordinator.console.sessions import Session
    from coordinator.console.visit import Visit

KEPT: Final = timedelta(hours=12)
CONFIRMED: Final = "confirmed"
FIELD: Final = "kept"
"""The field of a form, and of its page's address, that names the draft which it was filled from: once it is sent, nothing is kept of it."""
SHOWN: Final = "shown"
"""The field of a form that says what its page showed: what is otherwise by then is told, and nothing is done."""
_MOST_BYTES: Final = 256 << 10
_MOST: Final = 10
_SECRET: Final = frozenset({"password", "again", "current", "code", "link"})
_NOT_KEPT: Final = frozenset({"token", "request_id", FIELD})
_IN_WORDS: Final = ("text", "why", "reason", "draft", "contract", "alias")
"""Fields that a person writes freely."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields that were sent to `path`."""

    id: str
    path: str
    fields: Mapping[str, str]
    kept_at: datetime

    @property
    def words(self) -> Sequence[str]:
        """What somebody wrote freely."""
        return [self.fields[name] for name in _IN_WORDS if self.fields.get(name, "").strip()]


def keep(visit: Visit) -> str | None:
    """Keep the form of a request that was not done, in the place of the draft that it was filled from; returns its id, None where nothing is kept."""
    session, form = visit.session, visit.form
    if session is None or _SECRET & form.keys() or not _is_theirs(visit, session, form.get("token", "")):
        return None
    if filled_from := form.get(FIELD):
        forget(visit.centre.engine, filled_from, session.officer, visit.request.url.path)
    fields = json.dumps(
        {key: "" if key == CONFIRMED else value for key, value in form.items() if key not in _NOT_KEPT}
    )
    if len(fields) > _MOST_BYTES:
        return None
    row = ConsoleDraft(
        id=str(uuid.uuid4()),
        officer=session.officer,
        path=visit.request.url.path,
        fields=fields,
        kept_at=visit.now,
    )
    seal(visit.console.vault, row)
    older = select(ConsoleDraft).where(ConsoleDraft.officer == session.officer)
    with writing(visit.centre.engine, "keeping a draft") as database:
        for each in database.scalars(older.order_by(ConsoleDraft.kept_at.desc()).offset(_MOST - 1)):
            database.delete(each)
        database.add(row)
    return row.id


def _is_theirs(visit: Visit, session: Session, token: str) -> bool:
    """Whether a form is of this session, or of one of the same officer that is over: they have signed in beside it."""
    if hmac.compare_digest(token.encode(), session.token.encode()):
        return True
    return not session.over and visit.console.sessions.had(session.officer, token, visit.now)


def find(engine: Engine, vault: Vault, draft: str, officer: str, now: datetime) -> Draft | None:
    """The draft of that officer; nobody else's, and none that is too old."""
    if not draft.isprintable():
        return None
    with reading(engine, "looking for a draft") as database:
        row = database.get(ConsoleDraft, draft)
    if row is None or row.officer != officer or now - row.kept_at > KEPT or not holds(vault, row):
        return None
    return _draft(row)


def of(engine: Engine, vault: Vault, officer: str, now: datetime) -> Sequence[Draft]:
    """An officer's drafts, the newest first."""
    query = select(ConsoleDraft).where(ConsoleDraft.officer == officer, ConsoleDraft.kept_at > now - KEPT)
    with reading(engine, "looking for drafts") as database:
        rows = database.scalars(query.order_by(ConsoleDraft.kept_at.desc()).limit(_MOST)).all()
    return [_draft(row) for row in rows if holds(vault, row)]


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
