"""The desk as an application on loopback: what every request goes through, in this order.

1. It names 127.0.0.1 and the desk's port (against rebinding of names), and a form comes from a page of the desk (`Origin`).
2. `/enter` takes the secret that the terminal printed, once, for a cookie. Whoever comes with it a second time, without the cookie, closes the desk:
   two have read it.
3. All pages are in a room, a part of the path that is as secret as the cookie, and the cookie is for that room alone: browsers send the cookies of
   127.0.0.1 to every port of it, and on a machine with several users others may listen there.
4. A link from the hosted console knows no room. It gets a page whose script knows, if this browser has entered; it asks again from here.
5. A form has the desk's token. Only then the page, one at a time.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

import structlog
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse

from coordinator.console.app import HEADERS, TOKEN
from coordinator.console.assets import Assets
from coordinator.console.connections import know
from coordinator.console.desk.pages import ROUTES, Show
from coordinator.console.desk.session import Session
from coordinator.console.desk.visit import SEE_OTHER, DeskVisit
from coordinator.console.forms import read_form
from strategies.errors import CovenantError, Refused, Unreachable, UsageError

_LONGEST_QUERY: Final = 4096
_CLOSED: Final = "This desk is closed: its address was used a second time, so somebody else may have read it. Start `covenant desk` again."
_log = structlog.get_logger(__name__)
_HEADERS: Final[Mapping[str, str]] = {
    **HEADERS,
    "Cache-Control": "no-store",
}


def create_desk(session: Session, closing: Callable[[], None]) -> FastAPI:
    """The application; `closing` is called where the desk has to end."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    door = _Door(session, closing)
    app.add_api_route("/static/{digest}/{name:path}", door.asset, include_in_schema=False)
    app.add_api_route("/enter", door.enter, include_in_schema=False)
    for method, path, show in sorted(ROUTES, key=lambda each: each[1].count("{")):
        app.add_api_route(path, door.answering(method, show), methods=[method], include_in_schema=False)
    app.add_exception_handler(HTTPException, door.no_route)
    app.middleware("http")(door.guarded)
    return app


class _Door:
    def __init__(self, session: Session, closing: Callable[[], None]) -> None:
        self._session, self._closing = session, closing
        self._assets = Assets.read()
        self._cookie = f"covenant-desk-{session.port}"

    async def guarded(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Nobody gets in by another name, or after the desk was closed; every answer has the headers."""
        inside = request.url.path.startswith(f"{self._session.home}/")
        if inside:
            request.scope["path"] = request.url.path.removeprefix(self._session.home)
        request.state.inside = inside
        if f"http://{request.headers.get('host', '')}" != self._session.origin:
            response: Response = PlainTextResponse("This desk answers to 127.0.0.1 only.", 421)
        elif self._session.closed:
            response = PlainTextResponse(_CLOSED, 403)
        elif len(request.url.query) > _LONGEST_QUERY:
            response = PlainTextResponse("That address is too long.", 414)
        else:
            response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def asset(self, request: Request, digest: str, name: str) -> Response:
        """A script or a style."""
        return self._assets.answer(request, digest, name) or PlainTextResponse("There is no such file.", 404)

    async def no_route(self, request: Request, error: Exception) -> Response:
        """A path that there is not."""
        del request
        return PlainTextResponse(
            "There is no such page.", error.status_code if isinstance(error, HTTPException) else 500
        )

    async def enter(self, request: Request) -> Response:
        """Take the secret for a cookie, once."""
        session = self._session
        if self._is_officer(request):
            return RedirectResponse(f"{session.home}/", SEE_OTHER)
        key = request.query_params.get("key", "")
        if not (request.state.inside and _same(key, session.enter)):
            return PlainTextResponse("That is not the address that `covenant desk` printed.", 403)
        if session.entered:
            session.closed = True
            _log.error("the desk's address was used a second time, and the desk is closed")
            self._closing()
            return PlainTextResponse(_CLOSED, 403)
        session.entered = True
        response = RedirectResponse(f"{session.home}/", SEE_OTHER)
        response.set_cookie(
            self._cookie, session.cookie, httponly=True, samesite="strict", path=f"{session.home}/"
        )
        return response

    def answering(self, method: str, show: Show) -> Callable[[Request], Awaitable[Response]]:
        """What FastAPI calls for a page."""

        async def answer(request: Request) -> Response:
            if not self._is_officer(request):
                return self._knock(request)
            try:
                form = await read_form(request) if method == "POST" else {}
            except (UsageError, TimeoutError) as error:
                return PlainTextResponse(str(error) or "the form did not come in time", 413)
            if method == "POST" and not self._is_own(request, form):
                return PlainTextResponse(
                    "This form was not sent by a page of this desk. Nothing was signed; open the page again.",
                    403,
                )
            visit = DeskVisit(
                session=self._session,
                assets=self._assets,
                request=request,
                path={name: str(value) for name, value in request.path_params.items()},
                query=dict(parse_qsl(request.url.query)),
                form=form,
            )
            return await run_in_threadpool(self._show, show, visit)

        return answer

    def _show(self, show: Show, visit: DeskVisit) -> Response:
        with self._session.lock:
            try:
                return show(visit)
            except CovenantError as error:
                return _refusal(visit, error)
            except Exception as error:  # noqa: BLE001  (a defect must not show a stack)
                number = secrets.token_hex(4)
                _log.error(
                    "a page of the desk failed", number=number, trouble=type(error).__name__, exc_info=error
                )
                sentence = (
                    f"Nothing is known to have been signed. The terminal has the reason under {number}."
                )
                return visit.page("error.html", status=500, title="This page failed", sentence=sentence)

    def _is_officer(self, request: Request) -> bool:
        inside: bool = request.state.inside
        officer = inside and _same(request.cookies.get(self._cookie, ""), self._session.cookie)
        if officer:
            know(request)
        return officer

    def _is_own(self, request: Request, form: Mapping[str, str]) -> bool:
        return request.headers.get("origin") == self._session.origin and _same(
            form.get(TOKEN, ""), self._session.token
        )

    def _knock(self, request: Request) -> Response:
        """Have a link from elsewhere ask again in the room, if this browser knows it; whoever does not is told where to enter."""
        visit = DeskVisit(session=self._session, assets=self._assets, request=request, path={}, query={})
        again = request.method == "GET" and not request.state.inside
        return visit.page("knock.html", status=200 if again else 401, at_home=False, again=again)


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


def _refusal(visit: DeskVisit, error: CovenantError) -> Response:
    match error:
        case Refused():
            status, title = 409, "Refused"
        case UsageError():
            status, title = 400, "That cannot be done as it was asked"
        case Unreachable():
            status, title = 503, "The coordinator does not answer"
        case _:
            status, title = 500, "This failed"
    return visit.page("error.html", status=status, title=title, sentence=str(error))
