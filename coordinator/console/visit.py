"""One request of a browser, as pages see it: who asks, what for, and how a page is answered."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote, urlencode

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from coordinator.api.roles import RULES
from coordinator.bootstrap import Centre
from coordinator.console import drafts
from coordinator.console.console import Console
from coordinator.console.drafts import Draft
from coordinator.console.sessions import Session
from coordinator.console.tables import Table
from coordinator.console.templates import language_for, render, translations
from coordinator.console.texts import translated
from coordinator.office.actors import Actor
from strategies.errors import Refused

LIVE: Final = "/live"
"""The stream of what is new."""
_SEE_OTHER: Final = 303


class Typed(dict[str, str]):
    """Fields as they were typed; one that was not typed is empty."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass(kw_only=True)
class Visit:
    """A request. `path` has the parts that its route names, `query` and `form` the last value of each field."""

    console: Console
    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None
    actor: Actor | None = None
    seen: int | None = None
    """The number of the log's last entry when the page was asked for: its stream goes on from there. None while there is none."""
    in_its_form: bool = False
    """Whether the page has a form with what was typed in it."""

    @property
    def centre(self) -> Centre:
        """The coordinator."""
        return self.console.centre

    @property
    def now(self) -> datetime:
        """In UTC."""
        return self.centre.clock()

    @property
    def who(self) -> Actor:
        """Whoever is signed in. Raises Refused where nobody is."""
        if self.actor is None:
            raise Refused("nobody is signed in")
        return self.actor

    @cached_property
    def draft(self) -> Draft | None:
        """What whoever is signed in had typed into a form of this page, and was not done."""
        wanted = self.query.get(drafts.FIELD)
        if wanted is None or self.actor is None:
            return None
        return drafts.find(self.centre.engine, self.console.vault, wanted, self.who.name, self.now)

    def typed(self, path: str, told: Mapping[str, str] | None = None) -> Typed:
        """What was typed into the form of this page that is sent to `path`, and was not done; empty where nothing was.

        `told` are fields by which it differs from other forms that are sent there. What its page showed comes with a draft, so that what has changed
        since is told before anything is done; a page that has just told it shows what is so now.
        """
        if self.draft is not None and self.draft.path == path:
            fields = self.draft.fields
        elif self.request.method == "POST" and self.request.url.path == path:
            fields = {name: value for name, value in self.form.items() if name != drafts.SHOWN}
        else:
            return Typed()
        differs = any(fields.get(name, "") != value for name, value in (told or {}).items())
        return Typed() if differs else Typed(fields)

    def fill(self, path: str, told: Mapping[str, str] | None = None) -> Typed:
        """What a form that is on the page begins with: as `typed`."""
        found = self.typed(path, told)
        self.in_its_form = self.in_its_form or bool(found)
        return found

    @property
    def partial(self) -> bool:
        """Whether htmx asks for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def by_itself(self) -> bool:
        """Whether an open page asks, and not somebody who sits before it: parts that fetch themselves again, and the stream."""
        return self.request.method == "GET" and (self.partial or self.request.url.path == LIVE)

    @property
    def language(self) -> str:
        """The language that the browser asks for, where the console has it."""
        return language_for(self.request.headers.get("accept-language", ""))

    def translated(self, text: str) -> str:
        """A text in that language."""
        return translated(text, translations(self.language))

    def may(self, method: str) -> bool:
        """Whether whoever is signed in may call a method of the API: what they may not, they are not offered."""
        officer = None if self.actor is None else self.actor.officer
        return officer is not None and bool(RULES[method].roles & set(officer.roles))

    def ask(self, method: str, request: Message) -> Any:  # noqa: ANN401  (each method's own response)
        """Ask a method of the API. Raises CovenantError."""
        return self.console.ask(self.who, method, request)

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:  # noqa: ANN401  (what a template shows)
        """A page, or the part of one that htmx asks for (block `main`)."""
        return HTMLResponse(render(self, template, context), status_code=status)

    def table(self, table: Table) -> Response:
        """A table as a file."""
        headers = {"Content-Disposition": f'attachment; filename="{table.name}.csv"'}
        return Response(table.csv, media_type="text/csv; charset=utf-8", headers=headers)

    def go(self, path: str, notice: str | None = None) -> Response:
        """Lead to another page of the console, which says `notice` once."""
        if notice is not None and self.session is not None:
            self.console.sessions.tell(self.session.digest, self.translated(notice))
        return RedirectResponse(path, status_code=_SEE_OTHER)

    def with_query(self, **changed: str | None) -> str:
        """This page's address with other values in its query; None takes one away."""
        kept = {
            key: value for key, value in {**self.query, **changed}.items() if value and key != drafts.FIELD
        }
        return quote(self.request.url.path, safe="/@") + (f"?{urlencode(kept)}" if kept else "")

    @staticmethod
    def new_request_id() -> str:
        """For a form, so that it is answered once however often it is sent."""
        return str(uuid.uuid4())
