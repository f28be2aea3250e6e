"""The console as an application: what every request goes through before a page is asked, in this order.

1. It names a host of this console (against rebinding of names), its body is bounded, and a form comes from a page of this console (`Origin`).
2. Whose session it is, and whether that is over. Who has none is led to the sign-in; what they had typed is kept (`drafts`).
3. A form has its session's token.
4. The officer is on the newest member list, and has a role under the route's rule; a change that is refused for that is told to the log.
5. Only then the page. What it raises becomes a page with one sentence; a defect says nothing of itself but a number under which the log has it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from coordinator.api.errors import Unauthenticated
from coordinator.console import drafts
from coordinator.console.connections import address_of, know
from coordinator.console.console import Console
from coordinator.console.forms import MOST_FIELDS, read_form
from coordinator.console.live import WATCH, events, last_entry
from coordinator.console.rates import TooOften
from coordinator.console.routes import ANYBODY, SIGNED_IN, Route, all_routes
from coordinator.console.sessions import COOKIE
from coordinator.console.texts import _, words
from coordinator.console.visit import LIVE, Visit
from coordinator.office.actors import Actor, Forbidden
from strategies.errors import CovenantError, DiskError, Refused, Unreachable, UsageError

TOKEN: Final = "token"  # noqa: S105  (the name of a field)
_REQUESTS_A_MINUTE: Final = 1800.0
"""Officers behind one gateway have one address."""
_BURST: Final = 600.0
OVER: Final = "covenant:over"
"""What a part of a page is told that asks in a session which is over; console.js listens to it."""
_NO_CONTENT: Final = 204
_log = structlog.get_logger(__name__)

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_OWN_MACHINE: Final = frozenset({"localhost", "127.0.0.1"})
"""Names of whatever machine the browser is on: for these, "never without TLS" would hold for every other server there too, on every port."""


def create_app(console: Console) -> FastAPI:
    """The application. Raises CovenantError where a route has no rule."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    entrance = _Entrance(console)
    app.add_api_route("/static/{digest}/{name:path}", entrance.asset, include_in_schema=False)
    app.add_api_route(LIVE, entrance.live, include_in_schema=False)
    for route in all_routes():
        app.add_api_route(
            route.path, entrance.answering(route), methods=[route.method], include_in_schema=False
        )
    app.add_exception_handler(HTTPException, entrance.no_route)
    app.middleware("http")(entrance.guarded)
    return app


class _Entrance:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def guarded(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Every answer has the headers; who calls another host's name, or calls too often, gets no page."""
        if request.headers.get("host", "") not in self._console.hosts:
            response: Response = PlainTextResponse(
                "This console does not answer to that name; use one of `console.names` in covenant.yaml.", 421
            )
        elif request.url.query.count("&") >= MOST_FIELDS:
            response = PlainTextResponse(f"An address has at most {MOST_FIELDS} values.", 414)
        else:
            try:
                self._console.rates.take(
                    f"address {address_of(request)}", burst=_BURST, per_minute=_REQUESTS_A_MINUTE
                )
                response = await call_next(request)
            except TooOften as error:
                response = PlainTextResponse(str(error), 429, headers={"Retry-After": "60"})
            except Exception as error:  # noqa: BLE001  (the framework's own answer would lack the headers)
                number = _defect(request.url.path, error)
                response = PlainTextResponse(
                    f"This failed. The coordinator's log has it under {number}.", 500
                )
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        if request.headers.get("host", "").partition(":")[0] not in _OWN_MACHINE:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    async def asset(self, request: Request, digest: str, name: str) -> Response:
        """A script or a style."""
        found = self._console.assets.answer(request, digest, name)
        return found or PlainTextResponse("There is no such file.", 404)

    async def no_route(self, request: Request, error: Exception) -> Response:
        """A path that there is not."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        visit = self._visit(request, {}, {})
        return await run_in_threadpool(self._no_page, visit, status)

    def _no_page(self, visit: Visit, status: int) -> Response:
        with suppress(CovenantError):  # whoever is signed in keeps their menu
            self._admit(visit)
        return _told(
            visit,
            status,
            _("There is no such page"),
            _("Use the menu, or the address that you were given."),
        )

    async def live(self, request: Request) -> Response:
        """The stream of what is new, for who may read the log."""
        visit = self._visit(request, {}, {})
        try:
            await run_in_threadpool(self._admit, visit)
            if visit.session is None or visit.session.over:
                return PlainTextResponse("Sign in first.", 401)
            self._console.require(visit.who, WATCH)
        except CovenantError as error:
            return PlainTextResponse(str(error), 403)
        return await events(self._console, visit)

    def answering(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        """What FastAPI calls for a route."""

        async def answer(request: Request) -> Response:
            try:
                form = await read_form(request) if route.method == "POST" else {}
            except (UsageError, TimeoutError) as error:
                return PlainTextResponse(str(error) or "the form did not come in time", 413)
            visit = self._visit(request, dict(request.path_params), form)
            return await run_in_threadpool(self._answer, route, visit)

        return answer

    def _visit(self, request: Request, path: Mapping[str, Any], form: Mapping[str, str]) -> Visit:
        query = dict(parse_qsl(request.url.query, max_num_fields=MOST_FIELDS)) if request.url.query else {}
        return Visit(
            console=self._console,
            request=request,
            path={key: str(value) for key, value in path.items()},
            query=query,
            form=form,
        )

    def _answer(self, route: Route, visit: Visit) -> Response:
        try:
            self._require_disk()
            if route.method == "POST":
                _require_own_page(visit)
            if route.needs == ANYBODY:
                return route.show(visit)
            self._admit(visit)
            if visit.session is None or visit.session.over:
                return _to_sign_in(visit, route)
            if route.method == "POST":
                _require_token(visit, visit.session.token)
            elif not visit.partial:
                visit.seen = last_entry(self._console)
            if route.needs != SIGNED_IN:
                self._console.require(visit.who, route.needs)
            return self._shown(route, visit, visit.session.officer)
        except CovenantError as error:
            if isinstance(error, DiskError):
                self._console.failed = error
            return _refusal(visit, error, _kept(route, visit))
        except Exception as error:  # noqa: BLE001  (a defect must not show a stack of the server)
            number = _defect(route.path, error)
            return _told(
                visit,
                500,
                _("This page failed"),
                words(
                    "Nothing was changed by it that you were not told of. The coordinator's log has it under {number}: tell that to whoever runs it.",
                    number=number,
                ),
            )

    def _shown(self, route: Route, visit: Visit, officer: str) -> Response:
        """The page; what its form was filled from is kept no longer once it did what was asked."""
        response = route.show(visit)
        if sent := visit.form.get(drafts.FIELD):
            drafts.forget(visit.centre.engine, sent, officer, visit.request.url.path)
        return response

    def _admit(self, visit: Visit) -> None:
        """Find out whose request it is. Raises Unauthenticated for nobody on the member list."""
        session = self._console.sessions.find(
            visit.request.cookies.get(COOKIE), visit.now, clicked=not visit.by_itself
        )
        visit.session = session
        if session is None or session.over:
            return
        try:
            officer = self._console.members.now().officer(session.officer)
            officer.require_current(visit.now)
        except Refused as error:
            visit.session = None
            self._console.sessions.end_all(session.officer)
            raise Unauthenticated(str(error)) from error
        visit.actor = Actor(officer)
        know(visit.request)

    def _require_disk(self) -> None:
        if self._console.failed is not None:
            raise CovenantError(
                "the coordinator is ending, because its disk failed; its log has what happened"
            )


def _require_own_page(visit: Visit) -> None:
    """Raise Forbidden for a form that another site's page sent: browsers say so."""
    headers = visit.request.headers
    if (
        headers.get("origin") != f"https://{headers['host']}"
    ):  # a name of this console, which `guarded` has seen to
        raise Forbidden(
            "this form was not sent by a page of this console; open the page here, and send it again"
        )


def _require_token(visit: Visit, token: str) -> None:
    if not hmac.compare_digest(visit.form.get(TOKEN, "").encode(), token.encode()):
        raise Forbidden(
            "this form does not belong to your session; open the page again, and send it from there"
        )


def _kept(route: Route, visit: Visit) -> str | None:
    """The draft of what was typed into a form that was refused, for who may ask the same again; None where nothing is kept."""
    if (
        route.form is None
        or visit.session is None
        or not (visit.may(route.needs) or route.needs == SIGNED_IN)
    ):
        return None
    with suppress(CovenantError):  # the refusal is what has to be told
        return drafts.keep(visit)
    return None


def _to_sign_in(visit: Visit, route: Route) -> Response:
    """Where somebody signs in who has no session, or no longer; then they come back to where they were."""
    kept = None if route.form is None else drafts.keep(visit)
    if visit.request.method == "POST":
        back = f"/drafts/{kept}" if kept else "/"
    elif visit.partial:  # the page that the part is of
        back = urlsplit(visit.request.headers.get("hx-current-url", "")).path or "/"
    else:
        back = visit.request.url.path
        if visit.request.url.query:
            back = f"{back}?{visit.request.url.query}"
    address = f"/signin?next={quote(back, safe='')}"
    if (
        visit.by_itself
    ):  # console.js leads there, unless something was typed into the page: that is kept once it is sent
        over = json.dumps({OVER: {"address": address}})
        return Response(status_code=_NO_CONTENT, headers={"HX-Trigger": over})
    if visit.partial:  # htmx would follow a redirect itself, and put the sign-in into a part of the page
        return Response(status_code=200, headers={"HX-Redirect": address})
    return visit.go(address)


def _defect(path: str, error: Exception) -> str:
    """Tell the process log of a defect; returns the number under which it has it."""
    number = secrets.token_hex(4)
    _log.error("a page failed", number=number, path=path, trouble=type(error).__name__, exc_info=error)
    return number


def _refusal(visit: Visit, error: CovenantError, kept: str | None) -> Response:
    """The page of an error, which leads back to the form with what was typed."""
    match error:
        case Unauthenticated():
            status, title = 403, _("You are not on the member list")
        case Forbidden():
            status, title = 403, _("Not for your role")
        case TooOften():
            status, title = 429, _("Too many tries")
        case Refused():
            status, title = 409, _("Refused")
        case UsageError():
            status, title = 400, _("That cannot be done as it was asked")
        case Unreachable():
            status, title = 503, _("Not reachable now")
        case _:
            status, title = 500, _("This failed")
    return _told(visit, status, title, str(error), kept)


def _told(visit: Visit, status: int, title: str, sentence: str, kept: str | None = None) -> Response:
    return visit.page("error.html", status=status, title=title, sentence=sentence, kept=kept)
