"""The stream of what is new: one server-sent event for each entry of the log, numbered as the log numbers them.

A browser that lost the stream asks again with the last number it has seen (`Last-Event-ID`), and misses nothing. An event says that an entry of a kind
was written about a run, and nothing of what it holds: pages ask for that, under their own rules. Whoever may read no longer is told so, and let go, within seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from coordinator.api.roles import RULES
from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.office.actors import Actor
from strategies.errors import CovenantError

if TYPE_CHECKING:
    from coordinator.console.console import Console
    from coordinator.console.visit import Visit

WATCH: Final = "covenant.governance.v1.Log/WatchEvents"
"""Whose rule the stream is under."""
_LOOK_EVERY_S: Final = 0.5
_JUDGED_EVERY: Final = 10
"""Looks between two times that the session is judged anew."""
_MOST: Final = 64
_MOST_AN_OFFICER: Final = 12
_PAGE: Final = 200
_LONGEST: Final = 7200
"""Looks after which a stream ends; the browser asks again."""


async def events(console: Console, visit: Visit) -> Response:
    """The stream for whoever asks."""
    officer = visit.who.name
    if console.streams.total() >= _MOST or console.streams[officer] >= _MOST_AN_OFFICER:
        return PlainTextResponse("Too many pages are open; close some.", 503, headers={"Retry-After": "30"})
    last = visit.request.headers.get("last-event-id", visit.query.get("after", ""))
    position = int(last) + 1 if last.isascii() and last.isdecimal() and len(last) <= 15 else None  # noqa: PLR2004
    return EventSourceResponse(_stream(console, visit, officer, position), ping=15)


async def _stream(
    console: Console, visit: Visit, officer: str, position: int | None
) -> AsyncIterator[dict[str, Any]]:
    console.streams[officer] += 1
    try:
        at = await run_in_threadpool(_next_entry, console) if position is None else position
        yield {"event": "ready", "id": str(at - 1), "data": "{}"} if at else {"event": "ready", "data": "{}"}
        for look in range(1, _LONGEST):
            if console.closing.is_set():
                return
            if look % _JUDGED_EVERY == 0 and not await run_in_threadpool(_goes_on, console, visit):
                yield {"event": "over", "data": "{}"}
                return
            for seq, kind, facts in await run_in_threadpool(_since, console, at):
                at = seq + 1
                yield {"event": "entry", "id": str(seq), "data": json.dumps({"kind": kind, **facts})}
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        console.streams[officer] -= 1


def last_entry(console: Console) -> int | None:
    """The number of the log's last entry; None while there is none."""
    with reading(console.centre.engine, "reading the log's head") as session:
        return session.scalar(select(func.max(LoggedEntry.seq)))


def _next_entry(console: Console) -> int:
    last = last_entry(console)
    return 0 if last is None else last + 1


def _since(console: Console, at: int) -> list[tuple[int, str, dict[str, str]]]:
    query = select(LoggedEntry.seq, LoggedEntry.kind, LoggedEntry.body).where(LoggedEntry.seq >= at)
    with reading(console.centre.engine, "reading the log") as session:
        rows = session.execute(query.order_by(LoggedEntry.seq).limit(_PAGE)).all()
    return [(seq, kind, _about(bytes(body))) for seq, kind, body in rows]


def _about(body: bytes) -> dict[str, str]:
    what = json.loads(body).get("what", {})
    run = what.get("run") if isinstance(what, dict) else None
    return {"run": run} if isinstance(run, str) else {}


def _goes_on(console: Console, visit: Visit) -> bool:
    """Whether the session was not ended and is not over, and its officer is still on the list."""
    session, now = visit.session, console.centre.clock()
    if session is None or not console.sessions.lives(session.digest, now):
        return False
    try:
        officer = console.members.now().officer(session.officer)
        officer.require_current(now)
        Actor(officer).require(RULES[WATCH].roles, WATCH)
    except CovenantError:
        return False
    return True
