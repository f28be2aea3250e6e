"""One request of the officer's own browser, as the desk's pages see it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from coordinator.console.assets import Assets
from coordinator.console.desk.session import Session
from coordinator.console.tables import Table
from coordinator.console.templates import LOCALES, environment, language_of, languages
from strategies.errors import UsageError

SEE_OTHER: Final = 303


@dataclass(kw_only=True)
class DeskVisit:
    """A request. `path` has the parts that its route names, `query` and `form` the last value of each field."""

    session: Session
    assets: Assets
    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)
    draft: None = None
    """The desk keeps nothing that was typed: its session ends with its process. Forms of both ask for it."""

    def page(
        self,
        template: str,
        *,
        status: int = 200,
        at_home: bool = True,
        **context: Any,  # noqa: ANN401  (what a template shows)
    ) -> Response:
        """A page of the desk, which says a notice that waits; one that is not `at_home` is for anybody, and says nothing of where the desk is."""
        language = language_of(self.request.headers.get("accept-language", ""), languages(LOCALES))
        notice = self._told() if at_home else None
        root = self.session.trust.pinned.root
        text = (
            environment(language)
            .get_template(f"desk/{template}")
            .render(
                visit=self,
                language=language,
                static=self.assets.url,
                home=self.session.home if at_home else None,
                notice=notice,
                federation=root.federation,
                server=self.session.client.server,
                **context,
            )
        )
        return HTMLResponse(text, status_code=status)

    def _told(self) -> str | None:
        notice, self.session.notice = self.session.notice, None
        return notice

    def table(self, table: Table) -> Response:
        """A table as a file."""
        headers = {"Content-Disposition": f'attachment; filename="{table.name}.csv"'}
        return Response(table.csv, media_type="text/csv; charset=utf-8", headers=headers)

    def go(self, path: str, notice: str | None = None) -> Response:
        """Lead to another page of the desk, which says `notice` once."""
        self.session.notice = notice
        return RedirectResponse(quote(self.session.home + path, safe="/@?=&#"), status_code=SEE_OTHER)

    def shown(self) -> Mapping[str, Any]:
        """What the form says that its page showed. Raises UsageError where it does not say."""
        try:
            found = json.loads(self.form.get("shown", ""))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UsageError(
                "nothing was signed: the form does not say what its page showed; open the page again"
            )
        return found

    @staticmethod
    def new_request_id() -> str:
        """For the forms that parts.html makes."""
        return str(uuid.uuid4())


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """What is not as it was shown, in sentences."""
    return [
        f"{name[:1].upper()}{name[1:]}: {_words(before.get(name))} was shown, and now it is {_words(now[name])}."
        for name in now
        if before.get(name) != now[name]
    ]


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each)[:60] for each in value[:20]) or "none"
    return "none" if value is None else str(value)[:16]
