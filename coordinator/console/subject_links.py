"""Where a page leads for something that the log names: its own page where there is one that the reader may open, else the entries about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from coordinator.console.routes import ANYBODY, SIGNED_IN, all_routes
from protos.log_subjects import Of, Subject

if TYPE_CHECKING:
    from coordinator.console.visit import Visit

_PAGES: Final[dict[Of, str]] = {
    "run": "/runs/{}",
    "site": "/sites/{}",
    "plan": "/plans/{}",
    "model": "/models/{}",
    "target": "/deployments/{}",
}
_DIGEST_LENGTH: Final = 64


def about(subject: Subject) -> str:
    """The address of the entries about a subject."""
    return f"/log?{urlencode({'about': subject.key})}"


def link_to(visit: Visit, subject: Subject) -> str:
    """The address for a subject."""
    for path in _candidates(subject):
        needs = _served().get(_shape(path))
        if needs is not None and (needs in {ANYBODY, SIGNED_IN} or visit.may(needs)):
            return path
    return about(subject)


def _candidates(subject: Subject) -> Sequence[str]:
    page, name = _PAGES.get(subject.of), subject.name
    if page is None or (subject.of == "plan" and len(name) != _DIGEST_LENGTH):
        return ()
    return [page.format(each) for each in dict.fromkeys((name.replace("@", "/"), name))]


def _shape(path: str) -> tuple[str, ...]:
    """The fixed first part of a path, and how many more there are."""
    first, *rest = path.strip("/").split("/")
    return (first, *("{}" for _ in rest))


@lru_cache(1)
def _served() -> dict[tuple[str, ...], str]:
    """What pages of this shape need: a fixed part after the first is no name of anything."""
    return {
        _shape(route.path): route.needs
        for route in all_routes()
        if route.method == "GET" and all("{" in part for part in route.path.strip("/").split("/")[1:])
    }
