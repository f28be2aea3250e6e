"""Comments on plans that were proposed: what officers ask each other before they sign.

1. A comment is nobody's signature and counts for nothing, so it is not in the log; what an officer decides is.
2. Each has at most LONGEST characters, and a plan has at most MOST of them. None is changed or taken away.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import func, select

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.office_schema import PlanComment, StoredPlan
from coordinator.office.actors import Actor
from coordinator.office.plans import find_plan
from coordinator.office.requests import Asked, Remember, once
from strategies.errors import Refused, UsageError

LONGEST: Final = 2000
MOST: Final = 1000
"""Of one plan."""
_CONTROLS: Final = frozenset({"Cc", "Cf", "Cs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """What `officer` said, as it was typed."""

    officer: str
    at: datetime
    text: str


def comment(
    centre: Centre, actor: Actor, plan: str, contract: str, text: str, asked: Asked | None = None
) -> Comment:
    """Keep a comment on the plan with a digest that begins with `plan`. Raises UsageError for a text that is empty, too long, or holds control
    characters, and Refused where the plan has as many as it may."""
    said, at = _checked(text), centre.clock()

    def act(remember: Remember) -> str:
        found = find_plan(centre, plan, contract)
        key = found.plan.digest, found.contract.digest
        made = str(uuid4())
        with writing(centre.engine, f"commenting on plan {found.plan.name}") as session:
            remember(session, made)
            session.get(StoredPlan, key, with_for_update=True)  # comments on one plan take turns
            query = select(func.count(PlanComment.id)).where(
                PlanComment.plan == key[0], PlanComment.contract == key[1]
            )
            if (session.scalar(query) or 0) >= MOST:
                raise Refused(
                    f"plan {found.plan.name} has {MOST} comments, the most that one has; talk to each other, and propose a plan that answers them"
                )
            session.add(
                PlanComment(id=made, plan=key[0], contract=key[1], officer=actor.name, text=said, at=at)
            )
        return made

    made = once(centre, asked, at, act)
    with reading(centre.engine, "reading a comment") as session:
        return _read(session.get_one(PlanComment, made))


def list_comments(centre: Centre, plan: str, contract: str, start: int, limit: int) -> Sequence[Comment]:
    """At most `limit` comments on a plan from number `start` on, the earliest first. Raises UsageError where there is no such plan."""
    found = find_plan(centre, plan, contract)
    query = (
        select(PlanComment)
        .where(PlanComment.plan == found.plan.digest, PlanComment.contract == found.contract.digest)
        .order_by(PlanComment.at, PlanComment.id)
    )
    with reading(centre.engine, "reading comments") as session:
        return [_read(each) for each in session.scalars(query.offset(start).limit(limit))]


def _read(row: PlanComment) -> Comment:
    return Comment(officer=row.officer, at=row.at, text=row.text)


def _checked(text: str) -> str:
    """`text` with one kind of line end. Lines may break; nothing else of it may move a cursor or turn the direction of the script."""
    said = text.replace("\r\n", "\n").strip()
    if not said or len(said) > LONGEST:
        raise UsageError(f"a comment has 1 to {LONGEST} characters; this one has {len(said)}")
    if any(unicodedata.category(each) in _CONTROLS for each in said if each not in "\n\t"):
        raise UsageError("a comment has no control characters; type it again")
    return said
