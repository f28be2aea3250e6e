"""An officer's own sessions and account.

A password and an authenticator are set up only shortly after signing in by a link: neither a browser left open nor a stolen password gives somebody else a second way in.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import pyotp
import segno
from starlette.responses import Response

from coordinator.console import drafts
from coordinator.console.accounts import SHORTEST, STEP_S
from coordinator.console.pages.signin import limit
from coordinator.console.routes import SIGNED_IN, Route, form_page
from coordinator.console.sessions import COOKIE, Session
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import _
from coordinator.console.visit import Visit
from strategies.errors import Refused, UsageError

_FRESH: Final = timedelta(minutes=30)
_GROUP: Final = 4
_MOST_IDENTITIES: Final = 20
_WORDS: Final[Mapping[str, str]] = {
    "link": _("by a link"),
    "password": _("with a password"),
    "oidc": _("at the bank's provider"),
}


def show(visit: Visit) -> Response:
    """Who is signed in, and how they sign in."""
    if visit.query.get("format") == "csv":
        tied = visit.query.get("table") == "identities"
        return visit.table(_identities(visit) if tied else _sessions(visit, _session(visit)))
    session, officer, now = _session(visit), visit.who.name, visit.now
    account = visit.console.accounts.find(officer)
    fresh = _is_fresh_link(visit)
    return visit.page(
        "account.html",
        told=_told(visit, session),
        account=account,
        fresh_link=fresh,
        secret=_grouped(_secret(visit)) if fresh else "",
        shortest=SHORTEST,
        drafts=drafts.of(visit.centre.engine, visit.console.vault, officer, now),
        identities=_identities(visit),
        sessions=_sessions(visit, session),
    )


def picture(visit: Visit) -> Response:
    """What an authenticator scans. Raises Refused but shortly after signing in by a link."""
    _require_fresh_link(visit)
    federation = visit.centre.settings.config.federation
    totp = pyotp.TOTP(_secret(visit), interval=STEP_S)
    address = totp.provisioning_uri(name=visit.who.name, issuer_name=f"Covenant {federation}")
    told = io.BytesIO()
    segno.make(address, error="m").save(told, kind="svg", scale=4, dark="#000", light="#fff", xmldecl=False)
    return Response(told.getvalue(), media_type="image/svg+xml")


def set_up(visit: Visit) -> Response:
    """A password and an authenticator. Raises Refused but shortly after signing in by a link, UsageError."""
    _require_fresh_link(visit)
    limit(visit, "set-up")
    form, officer = visit.form, visit.who.name
    visit.console.accounts.set_up(
        officer,
        form.get("password", ""),
        form.get("again", ""),
        form.get("code", ""),
        _secret(visit),
        visit.now,
    )
    visit.console.sessions.end_all(officer, but=_session(visit).digest)
    return visit.go("/account", "Set up. From now on you sign in with your name, password and a code.")


def change_password(visit: Visit) -> Response:
    """Another password. Raises NotAccepted without the old one, unless shortly after signing in by a link; UsageError."""
    limit(visit, "password")
    form, officer, accounts = visit.form, visit.who.name, visit.console.accounts
    if not _is_fresh_link(visit):
        visit.console.rates.take(f"account {officer}", burst=10, per_minute=6)
        accounts.require_password(officer, form.get("current", ""), visit.now)
    accounts.change_password(officer, form.get("password", ""), form.get("again", ""))
    visit.console.sessions.end_all(officer, but=_session(visit).digest)
    return visit.go("/account", "The password was changed. Other sessions of yours were ended.")


def sign_out(visit: Visit) -> Response:
    """End this session."""
    visit.console.sessions.end(_session(visit).digest)
    return _out(visit)


def sign_out_everywhere(visit: Visit) -> Response:
    """End all sessions of whoever is signed in."""
    visit.console.sessions.end_all(visit.who.name)
    return _out(visit)


def show_draft(visit: Visit) -> Response:
    """What was typed when a session ended, to look at and send again: in the form that it came from, where that shows it."""
    draft = drafts.find(
        visit.centre.engine, visit.console.vault, visit.path["draft"], visit.who.name, visit.now
    )
    if draft is None:
        raise UsageError("this draft is not kept any more, or is not yours")
    page = form_page(draft.path, draft.fields)
    if page is None:
        raise UsageError("the form of this draft is not there any more; throw the draft away")
    return visit.go(f"{page}{'&' if '?' in page else '?'}{drafts.FIELD}={draft.id}")


def forget_draft(visit: Visit) -> Response:
    """Throw it away."""
    drafts.forget(visit.centre.engine, visit.path["draft"], visit.who.name)
    return visit.go("/account", "What you had typed was thrown away.")


def _out(visit: Visit) -> Response:
    visit.session = None  # a notice would wait in a session that is no more
    response = visit.go("/signin")
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


def _session(visit: Visit) -> Session:
    if visit.session is None:
        raise Refused("nobody is signed in")
    return visit.session


def _is_fresh_link(visit: Visit) -> bool:
    session = _session(visit)
    return session.method == "link" and visit.now - session.began_at <= _FRESH


def _require_fresh_link(visit: Visit) -> None:
    if not _is_fresh_link(visit):
        raise Refused(
            f"a password and an authenticator are set up in the first {_FRESH.seconds // 60} minutes after signing in by a link; have one made:"
            f" covenant console link {visit.who.name}"
        )


def _secret(visit: Visit) -> str:
    return visit.console.accounts.new_secret(visit.who.name, _session(visit).digest)


def _grouped(secret: str) -> str:
    return " ".join(secret[at : at + _GROUP] for at in range(0, len(secret), _GROUP))


def _told(visit: Visit, session: Session) -> Sequence[tuple[str, Any]]:
    roles = () if visit.who.officer is None else visit.who.officer.roles
    return (
        (_("Roles on the member list"), ", ".join(each.words for each in roles)),
        (_("Signed in"), visit.translated(_WORDS[session.method])),
        (_("This session ends at"), Cell(session.ends_at, tone="quiet")),
    )


def _identities(visit: Visit) -> Table:
    found = visit.console.identities.views(_MOST_IDENTITIES, visit.who.name)
    return Table(
        name="identities",
        caption="Accounts of the bank's provider that are yours",
        columns=[Column("Provider"), Column("Subject"), Column("Tied")],
        rows=[[Cell(each.issuer), Cell(each.subject), Cell(each.tied_at)] for each in found],
    )


def _sessions(visit: Visit, own: Session) -> Table:
    found = visit.console.sessions.of(visit.who.name, visit.now)
    return Table(
        name="sessions",
        caption="Your sessions",
        columns=[Column("Began"), Column("Last seen"), Column("Signed in"), Column("Where")],
        rows=[
            [
                Cell(each.began_at),
                Cell(each.seen_at),
                Cell(each.method, text=visit.translated(_WORDS[each.method])),
                Cell(
                    "this browser" if each.digest == own.digest else "another browser",
                    text=visit.translated(
                        _("this browser") if each.digest == own.digest else _("another browser")
                    ),
                    tone="good" if each.digest == own.digest else "quiet",
                ),
            ]
            for each in found
        ],
    )


ROUTES: Final = (
    Route("/account", show, SIGNED_IN),
    Route("/account/qr.svg", picture, SIGNED_IN),
    Route("/account/setup", set_up, SIGNED_IN, "POST"),
    Route("/account/password", change_password, SIGNED_IN, "POST"),
    Route("/signout", sign_out, SIGNED_IN, "POST"),
    Route("/signout/everywhere", sign_out_everywhere, SIGNED_IN, "POST"),
    Route("/drafts/{draft}", show_draft, SIGNED_IN),
    Route("/drafts/{draft}", forget_draft, SIGNED_IN, "POST"),
)
