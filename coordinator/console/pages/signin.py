"""The ways in: a link, a password with a code, the bank's OpenID provider. Each ends in `begin`, which makes a new session and ends the one that the browser had."""

from __future__ import annotations

from typing import Final

import structlog
from starlette.responses import Response

from coordinator.console import oidc
from coordinator.console.accounts import NotAccepted
from coordinator.console.connections import address_of
from coordinator.console.links import officer_of, use_link
from coordinator.console.oidc import Provider
from coordinator.console.routes import ANYBODY, Route
from coordinator.console.sessions import COOKIE, LONGEST, Method
from coordinator.console.texts import words
from coordinator.console.visit import Visit
from strategies.errors import CovenantError, Refused, UsageError

BACK: Final = "/signin/provider/back"
_TRIES_A_MINUTE: Final = 6.0
_AT_PROVIDER: Final = 60.0
"""Nothing can be guessed there, and a whole bank may come from one address."""
_ACCOUNT_BURST: Final = 10.0
_LONGEST_PATH: Final = 2000
_LONGEST_NAME: Final = 63
_log = structlog.get_logger(__name__)


def show(visit: Visit) -> Response:
    """The sign-in."""
    return _page(visit)


def sign_in(visit: Visit) -> Response:
    """Sign in with a password and a code."""
    limit(visit, "password")
    form = visit.form
    officer = form.get("officer", "").strip()[: _LONGEST_NAME + 1]
    visit.console.rates.take(f"account {officer}", burst=_ACCOUNT_BURST, per_minute=_TRIES_A_MINUTE)
    try:
        visit.console.accounts.sign_in(officer, form.get("password", ""), form.get("code", ""), visit.now)
        return begin(visit, officer, "password", form.get("next", ""))
    except NotAccepted as error:
        return _page(visit, status=403, trouble=str(error), officer=officer)


def show_link(visit: Visit) -> Response:
    """A link was followed: looking at it does not use it up, as programs that preview links do. Whom it signs in is said before, so that nobody works
    under another's name by a link that they were sent. Raises TooOften."""
    limit(visit, "link shown", _AT_PROVIDER)
    return _page(visit, link=visit.query.get("key", ""))


def follow_link(visit: Visit) -> Response:
    """Sign in by a link."""
    limit(visit, "link")
    secret = visit.form.get("link", "")
    if not secret:
        raise UsageError("there is no link in this form; open the link again")
    officer = use_link(visit.centre.engine, visit.console.vault, secret, visit.now)
    notice = None
    if visit.console.accounts.find(officer) is None and visit.console.provider is None:
        notice = words(
            "Signed in by a link. Set up a password under your name, {officer}, in the next half hour: then the next time needs no link.",
            officer=officer,
        )
    return begin(visit, officer, "link", "/", notice)


def to_provider(visit: Visit) -> Response:
    """Lead to the bank's provider."""
    limit(visit, "provider", _AT_PROVIDER)
    redirect = f"https://{visit.request.headers['host']}{BACK}"
    begun = _provider(visit).begin(redirect, inside(visit.query.get("next", "")))
    response = visit.go(begun.address)
    response.set_cookie(
        oidc.COOKIE,
        begun.cookie,
        max_age=int(oidc.GOOD_FOR_S),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return response


def from_provider(visit: Visit) -> Response:
    """Back from the provider. Raises Refused for whoever it does not vouch for, and for a subject that is tied to nobody."""
    limit(visit, "provider", _AT_PROVIDER)
    provider = _provider(visit)
    cookie = visit.request.cookies.get(oidc.COOKIE, "")
    try:
        subject, path = provider.finish(visit.query, cookie)
    except CovenantError as error:
        _log.warning("a sign-in at the provider was refused", reason=str(error))
        raise
    officer = visit.console.identities.officer(provider.section.issuer, subject)
    if officer is None:
        raise Refused(
            f"the provider says that you are its subject {subject}, and nobody here is. Whoever runs the coordinator can say who you are:"
            f" covenant console tie OFFICER --subject '{subject}'"
        )
    response = begin(visit, officer, "oidc", path)
    response.delete_cookie(oidc.COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


def limit(visit: Visit, what: str, per_minute: float = _TRIES_A_MINUTE) -> None:
    """Bound how often an address may try. Raises TooOften."""
    visit.console.rates.take(
        f"{what} {address_of(visit.request)}", burst=2 * per_minute, per_minute=per_minute
    )


def begin(visit: Visit, officer: str, method: Method, path: str, notice: str | None = None) -> Response:
    """A new session for an officer on the member list, whatever session there was. Raises Refused for anybody else."""
    visit.console.members.now().officer(officer).require_current(visit.now)
    sessions = visit.console.sessions
    before = sessions.find(visit.request.cookies.get(COOKIE), visit.now)
    if before is not None and not (before.over and before.officer == officer):
        sessions.end(before.digest)  # one that is over stays for what was typed under it
    secret = sessions.begin(officer, method, visit.now)
    visit.session = sessions.find(secret, visit.now)
    _log.info("signed in", officer=officer, method=method)
    response = visit.go(inside(path), notice)
    response.set_cookie(
        COOKIE,
        secret,
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
        and not path.startswith("//")
        and len(path) <= _LONGEST_PATH
        and path.isascii()
        and path.isprintable()
        and "\\" not in path
    )
    return path if plain else "/"


def _page(
    visit: Visit, *, status: int = 200, link: str | None = None, trouble: str | None = None, officer: str = ""
) -> Response:
    path = inside(visit.form.get("next", visit.query.get("next", "")))
    provider = visit.console.provider
    return visit.page(
        "signin.html",
        status=status,
        link=link,
        link_of=officer_of(visit.centre.engine, visit.console.vault, link, visit.now) if link else None,
        trouble=trouble,
        kept=path.startswith("/drafts/"),
        next=path,
        officer_typed=officer,
        provider=None if provider is None else provider.section.label,
    )


def _provider(visit: Visit) -> Provider:
    if visit.console.provider is None:
        raise UsageError("this console has no OpenID provider; sign in with a password, or by a link")
    return visit.console.provider


ROUTES: Final = (
    Route("/signin", show, ANYBODY),
    Route("/signin", sign_in, ANYBODY, "POST"),
    Route("/signin/link", show_link, ANYBODY),
    Route("/signin/link", follow_link, ANYBODY, "POST"),
    Route("/signin/provider", to_provider, ANYBODY),
    Route(BACK, from_provider, ANYBODY),
)
