"""The four forms of a document: JSON, Markdown, HTML and PDF, all written from its one view. Equal documents give equal bytes.

1. HTML asks nothing of the network and runs nothing; everything is escaped but this program's own charts.
2. PDF is set by typst from a template that reads the view as data: nothing in the view is markup. It uses the fonts that typst brings, and is tagged as PDF/UA-1 asks,
   which typst checks.
3. Markdown escapes what would be markup, so that a name is a name.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from coordinator.governance.evidence.content import EvidenceDocument

_TEMPLATES: Final = Path(__file__).parent / "templates"
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")
_LIST_START: Final = re.compile(r"^(\s*)([-+=]|\d+[.)])(?=\s|$)")


class Form(StrEnum):
    """A form, by the ending of its file."""

    MARKDOWN = "md"
    HTML = "html"
    JSON = "json"
    PDF = "pdf"


def written(document: EvidenceDocument, form: Form) -> bytes:
    """The document in a form."""
    view = document.view()
    match form:
        case Form.JSON:
            return (json.dumps(view, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
        case Form.MARKDOWN:
            return _templated("evidence.md.j2", view).encode()
        case Form.HTML:
            return _templated("evidence.html.j2", view).encode()
        case Form.PDF:
            (pdf,) = _set(view, "pdf", _moment(document))
            return pdf


def pages(document: EvidenceDocument, ppi: float = 96.0) -> list[bytes]:
    """The pages of the PDF as PNG."""
    return _set(document.view(), "png", _moment(document), ppi=ppi)


def markdown(text: str) -> str:
    """Text in which nothing is markup."""
    escaped = _MARKUP.sub(r"\\\1", text)
    return _LIST_START.sub(
        lambda found: f"{found[1]}\\{found[2]}" if found[2] in "-+=" else _number(found), escaped
    )


def _number(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2][:-1]}\\{found[2][-1]}"


def _templated(name: str, view: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["drawn"] = Markup  # only this program's own charts, in which names are escaped
    environment.filters["plain"] = markdown
    return environment.get_template(name).render(**view)


def _set(
    view: dict[str, Any], form: Literal["pdf", "png"], at: datetime, ppi: float | None = None
) -> list[bytes]:
    import typst

    found: bytes | list[bytes] = typst.compile(
        (_TEMPLATES / "evidence.typ").read_bytes(),
        format=form,
        ppi=ppi,
        sys_inputs={"view": json.dumps(view, ensure_ascii=False)},
        font_paths=[],
        ignore_system_fonts=True,
        timestamp=int(at.timestamp()),
        pdf_standards="ua-1" if form == "pdf" else None,
        pdf_tags=True,
    )
    return found if isinstance(found, list) else [found]


def _moment(document: EvidenceDocument) -> datetime:
    """The latest moment that the document tells of: a document has no clock."""
    return max(each.at for each in document.story.told)
