"""Requests that change something are answered once: sent again, they change nothing and get the same answer.

1. The answer is written first in the transaction of the effect, so two that race for one id cannot both have one.
2. An id belongs to one officer, one method and one content. Anybody or anything else is refused.
3. Answers are kept for a week.
4. Where a leader is asked, nothing is written once its term is over: that is checked in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy import Engine, delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.office_schema import StoredRequest
from strategies.errors import Refused, Unreachable, UsageError
from strategies.ids import Digest

KEPT_FOR: Final = timedelta(days=7)


class RequestConflict(Refused):
    """A request id that was used for something else."""


class RefusedBefore(Refused):
    """The refusal that a request got when it was sent first."""


class AnsweredMeanwhile(Exception):  # noqa: N818  (caught where the answer is looked up, and never seen outside)
    """Another thread or process has answered the same request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that changes something: whose it is, for which method, and the digest of its content."""

    id: str
    officer: str
    method: str
    digest: Digest

    def __post_init__(self) -> None:
        """Raises UsageError for an id that is no UUID in its usual form."""
        try:
            usual: str | None = str(UUID(self.id))
        except ValueError:
            usual = None
        if usual != self.id:
            raise UsageError(
                f"request_id is {self.id[:40]!r}; use a UUID, such as 6f1c0f2e-8f3b-4d1a-9a51-2f6f5a3f3f10, a new one for each change"
            )


class Remember(Protocol):
    """Writes the answer of a request in the transaction of its effect."""

    def __call__(self, session: Session, outcome: str) -> None:
        """`outcome` is the answer. Call it before anything else in the transaction."""
        ...


def once(centre: Centre, asked: Asked | None, at: datetime, act: Callable[[Remember], str]) -> str:
    """The answer to `asked`: that of `act`, or the one that it got before. Without a request, that of `act`.

    `act` must call its argument in its transaction. Raises RequestConflict, RefusedBefore, and what `act` raises.
    """
    if asked is None:
        return act(lambda _session, _outcome: None)
    before = answered(centre.engine, asked)
    if before is not None:
        return before

    def first(session: Session, outcome: str) -> None:
        centre.require_term(session)
        remember(session, asked, outcome, at)

    try:
        return act(first)
    except AnsweredMeanwhile:
        found = answered(centre.engine, asked)
        if found is None:
            raise Unreachable(f"request {asked.id} is being answered at this moment; send it again") from None
        return found


def answered(engine: Engine, asked: Asked) -> str | None:
    """The answer that `asked` got before. Raises RequestConflict and RefusedBefore."""
    with reading(engine, "looking for a request") as session:
        row = session.get(StoredRequest, asked.id)
    if row is None:
        return None
    if (row.officer, row.method, row.digest) != (asked.officer, asked.method, asked.digest):
        raise RequestConflict(
            f"request {asked.id} was used for another request; a request id belongs to one officer and one content, make a new one"
        )
    if row.refused:
        raise RefusedBefore(row.outcome)
    return row.outcome


def remember(session: Session, asked: Asked, outcome: str, at: datetime, *, refused: bool = False) -> None:
    """Write an answer, and forget those that are older than `KEPT_FOR`. Raises AnsweredMeanwhile where there is one already."""
    session.add(
        StoredRequest(
            id=asked.id,
            officer=asked.officer,
            method=asked.method,
            digest=asked.digest,
            outcome=outcome,
            refused=refused,
            at=at,
        )
    )
    try:
        session.flush()
    except IntegrityError as error:
        raise AnsweredMeanwhile from error
    session.execute(delete(StoredRequest).where(StoredRequest.at < at - KEPT_FOR))
