"""Evidence on a version: model card, dossier and privacy statement, to read here or to keep.

The whole log is judged for each of them, which takes long where it is long: they are asked for by a form, and made one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from markupsafe import Markup
from starlette.responses import Response

from coordinator.console.routes import Route
from coordinator.console.visit import Visit
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form, written
from coordinator.governance.evidence.write import story_here
from coordinator.registry.versions import find_version
from strategies.errors import Unreachable, UsageError

_HERE: Final = "here"
_TYPES: Final = {
    Form.PDF: "application/pdf",
    Form.HTML: "text/html; charset=utf-8",
    Form.JSON: "application/json",
    Form.MARKDOWN: "text/markdown; charset=utf-8",
}
_WAIT_S: Final = 20.0
_BURST: Final = 6.0
_A_MINUTE: Final = 12.0
"""For each officer: those who wait hold threads that other pages need, also the one that halts."""
_making = threading.Lock()


def make(visit: Visit) -> Response:
    """One document: as a page, or as a file. Raises UsageError for a kind or form that there is not, TooOften."""
    kind, form = _kind(visit.form.get("kind", "")), visit.form.get("form", "")
    if form != _HERE and form not in set(Form):
        raise UsageError(f"{form[:20]!r} is no form of a document; use {_HERE}, {', '.join(Form)}")
    visit.console.rates.take(f"evidence {visit.who.name}", burst=_BURST, per_minute=_A_MINUTE)
    version = find_version(visit.centre.engine, visit.path["model"])
    with _alone():
        found = document(story_here(visit.centre, version.ref), kind)
        if form == _HERE:
            drawn = Markup  # only the program's own charts, in which names are escaped
            return visit.page("evidence.html", version=version, view=found.view(), drawn=drawn)
        data = written(found, Form(form))
    headers = {
        "Content-Disposition": f'attachment; filename="{version.name}-{version.version}-{kind}.{form}"'
    }
    return Response(data, media_type=_TYPES[Form(form)], headers=headers)


def _kind(word: str) -> EvidenceKind:
    try:
        return EvidenceKind(word)
    except ValueError as error:
        raise UsageError(
            f"{word[:40]!r} is no document on a version; use {', '.join(EvidenceKind)}"
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Judging a log takes a processor: one document at a time, so that the rounds go on."""
    if not _making.acquire(timeout=_WAIT_S):
        raise Unreachable("another document is being made, and the log is long; ask again in a minute")
    try:
        yield
    finally:
        _making.release()


ROUTES: Final = (
    Route(
        "/models/{model}/evidence",
        make,
        "covenant.control.v1.Models/GetLineage",
        "POST",
        form="/models/{model}",
    ),
)
