"""An officer's own session and account."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from coordinator.console.drafts import find
from coordinator.console.routes import SIGNED_IN, Route
from coordinator.console.sessions import COOKIE
from coordinator.console.visit import Visit
from strategies.errors import UsageError


def show(visit: Visit) -> Response:
    """Who is signed in."""
    return visit.page("account.html")


def sign_out(visit: Visit) -> Response:
    """End this session."""
    if visit.session is not None:
        visit.console.sessions.end(visit.session.digest)
    response = visit.go("/signin")
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


def show_draft(visit: Visit) -> Response:
    """What was typed when a session ended, to look at and send again."""
    draft = find(visit.centre.engine, visit.path["draft"], visit.who.name)
    if draft is None:
        raise UsageError("this draft is not kept any more, or is not yours")
    return visit.page("draft.html", draft=draft)


ROUTES: Final = (
    Route("/account", show, SIGNED_IN),
    Route("/signout", sign_out, SIGNED_IN, "POST"),
    Route("/drafts/{draft}", show_draft, SIGNED_IN),
)
