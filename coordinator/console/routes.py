"""All routes of the console, each with the rule of the API that it falls under. What has no rule is not served."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import compile_path

from coordinator.api.roles import RULES
from coordinator.console.visit import Visit
from strategies.errors import CovenantError

Show = Callable[[Visit], Response]
ANYBODY: Final = "anybody"
"""Open to who has not signed in: the ways in."""
SIGNED_IN: Final = "signed in"
"""For every officer: their own session and account."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path, with names in braces, what answers there, and `needs`: a method of the API, ANYBODY or SIGNED_IN.

    `form` is for a POST the address of the page that its form is on, with names from its own path and fields: what was typed and not done is shown there
    again, by `visit.typed`. Without it nothing is kept of what was typed.
    """

    path: str
    show: Show
    needs: str
    method: Literal["GET", "POST"] = "GET"
    form: str | None = None

    def __post_init__(self) -> None:
        """Raise CovenantError for a route without a rule, or a page under a rule that changes something."""
        if self.needs in {ANYBODY, SIGNED_IN}:
            return
        if self.needs not in RULES:
            raise CovenantError(f"{self.path} needs {self.needs}, which has no rule")
        if self.method == "GET" and RULES[self.needs].changes:
            raise CovenantError(f"GET {self.path} needs {self.needs}, which changes something; use POST")


def all_routes() -> Sequence[Route]:
    """Every route that there is. Raises CovenantError where two are one."""
    from coordinator.console.pages import ROUTES

    seen: set[tuple[str, str]] = set()
    for each in ROUTES:
        if (each.method, each.path) in seen:
            raise CovenantError(f"{each.method} {each.path} is declared twice")
        seen.add((each.method, each.path))
    return list(_specific_first(ROUTES))


def form_page(path: str, fields: Mapping[str, str]) -> str | None:
    """The page with the form that was sent to `path` with `fields`, where its route names one."""
    for each in all_routes():
        if each.method == "POST" and each.form is not None:
            found = compile_path(each.path)[0].match(path)
            if found is not None:
                return _filled(each.form, {**fields, **found.groupdict()})
    return None


def _filled(address: str, parts: Mapping[str, str]) -> str:
    """An address with its names in braces replaced; what is not told is empty."""
    return re.sub(r"\{(\w+)\}", lambda name: quote(parts.get(name[1], ""), safe=""), address)


def _specific_first(routes: Iterable[Route]) -> Iterable[Route]:
    """Fixed paths before those with names in them, which would take theirs."""
    return sorted(routes, key=lambda each: each.path.count("{"))
