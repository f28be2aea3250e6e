"""Changes that officers were refused, told to the transparency log; nothing else is changed.

At most `MOST_AN_HOUR` are told for an officer, and one more that says so: nobody fills the log, or hides among refusals. Further ones are not
remembered as answers either, so that nobody fills the database: such a request that comes again is judged again.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.office_schema import StoredRequest
from coordinator.governance.log import append
from coordinator.office.requests import AnsweredMeanwhile, Asked, remember
from protos.log_entries import LogEntry
from protos.log_office import LONGEST_REFUSAL, CallDenied

MOST_AN_HOUR: Final = 60
_LONGEST_ANSWER: Final = 10_000
_HOUR: Final = timedelta(hours=1)
_KIND: Final = "denied"


def record_denial(
    centre: Centre, at: datetime, *, officer: str, method: str, reason: str, asked: Asked | None
) -> None:
    """Tell the log that `officer` was refused; and remember it as the answer of the request, unless that has one."""
    with suppress(AnsweredMeanwhile), writing(centre.engine, "recording a refusal") as session:
        centre.require_term(session)
        told = _told(session, officer, at)
        if told > MOST_AN_HOUR:
            return
        if asked is not None and session.get(StoredRequest, asked.id) is None:
            remember(session, asked, reason[:_LONGEST_ANSWER], at, refused=True)
        append(
            session,
            at,
            [
                CallDenied(
                    officer=officer,
                    method=method,
                    request_id=None if asked is None else asked.id,
                    reason=_cut(reason),
                    silent=told == MOST_AN_HOUR,
                )
            ],
        )


def _told(session: Session, officer: str, at: datetime) -> int:
    """How many entries the log has for `officer` from the last hour."""
    query = select(LoggedEntry.body).where(LoggedEntry.kind == _KIND, LoggedEntry.at > at - _HOUR)
    found = (LogEntry.from_canonical(bytes(body)).what for body in session.scalars(query))
    return sum(isinstance(each, CallDenied) and each.officer == officer for each in found)


def _cut(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REFUSAL else f"{reason[: LONGEST_REFUSAL - 4]} ..."
