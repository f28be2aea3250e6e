# ruff: noqa: INP001 (part of a script; the documentation is no package)
"""What the hand-written pages must have: every key that the code knows, and one side of each merge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel

from client.data.connectors.fixed_width import Layout
from protos.contract import Contract
from protos.plan import Plan
from protos.site import SiteConfig

_DOCS: Final = Path(__file__).parent
_UNMERGED: Final = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
_KEYS: Final[tuple[tuple[type[BaseModel], tuple[str, ...]], ...]] = (
    (Plan, ("ml-team/plan.md",)),
    (Contract, ("ml-team/contract.md",)),
    (SiteConfig, ("site-it/site-yaml.md", "site-it/policy.md")),
    (Layout, ("site-it/data.md",)),
)


def missing_keys() -> list[str]:
    """A sentence for each key that its pages do not name."""
    sentences: list[str] = []
    for model, pages in _KEYS:
        text = "".join((_DOCS / page).read_text() for page in pages)
        sentences += [
            f"no page of {', '.join(pages)} names `{key}`"
            for key in sorted(_keys(model))
            if f"`{key}`" not in text
        ]
    return sentences


def _keys(model: type[BaseModel]) -> set[str]:
    """The names of all keys of a document, whatever their depth."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for part in _parts(field.annotation):
            found |= _keys(part)
    return found


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 (whatever a field is annotated with)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def unmerged_pages() -> list[str]:
    """A sentence for each page in which a merge was left undone."""
    return [
        f"docs/{page.relative_to(_DOCS)} has both sides of a merge; keep what is true"
        for page in sorted(_DOCS.rglob("*.md"))
        if _UNMERGED.search(page.read_text())
    ]
