"""The ways in."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from coordinator.console.links import use_link
from coordinator.console.routes import ANYBODY, Route
from coordinator.console.sessions import COOKIE, LONGEST, Method
from coordinator.console.visit import Visit
from strategies.errors import UsageError

_TRIES_A_MINUTE: Final = 6.0
_BURST: Final = 12.0


def show(visit: Visit) -> Response:
    """The sign-in."""
    return visit.page("signin.html", link=None, kept=visit.query.get("next", "").startswith("/drafts/"))


def show_link(visit: Visit) -> Response:
    """A link was followed: looking at it does not use it up, as programs that preview links do."""
    return visit.page("signin.html", link=visit.query.get("key", ""), kept=False)


def follow_link(visit: Visit) -> Response:
    """Sign in by a link."""
    limit(visit, "link")
    secret = visit.form.get("link", "")
    if not secret:
        raise UsageError("there is no link in this form; open the link again")
    return begin(visit, use_link(visit.centre.engine, secret, visit.now), "link", "/")


def limit(visit: Visit, what: str) -> None:
    """Bound how often an address may try. Raises TooOften."""
    address = visit.request.client.host if visit.request.client else ""
    visit.console.rates.take(f"{what} {address}", burst=_BURST, per_minute=_TRIES_A_MINUTE)


def begin(visit: Visit, officer: str, method: Method, path: str) -> Response:
    """A new session for an officer on the member list, whatever session there was. Raises Refused for anybody else."""
    visit.console.members.now().officer(officer).require_current(visit.now)
    response = visit.go(inside(path))
    response.set_cookie(
        COOKIE,
        visit.console.sessions.begin(officer, method, visit.now),
        max_age=int(LONGEST.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return response


def inside(path: str) -> str:
    """A path of this console; anything else becomes its first page, so that no link leads elsewhere after signing in."""
    plain = (
        path.startswith("/")
        and not path.startswith(("//", "/\\"))
        and path.isprintable()
        and "\\" not in path
    )
    return path if plain else "/"


ROUTES: Final = (
    Route("/signin", show, ANYBODY),
    Route("/signin/link", show_link, ANYBODY),
    Route("/signin/link", follow_link, ANYBODY, "POST"),
)
