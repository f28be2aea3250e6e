"""A drafted plan as the text that its author reads, changes, signs and submits: each value with why it is so.

What is read back from the text is the very plan: comments change no digest.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from protos.documents import read_document
from protos.plan import Plan
from strategies.errors import CovenantError

_WIDTH: Final = 96
_OPENED: Final = ("sites", "training", "privacy", "evaluation")
"""Parts whose values stand one a line, each with its reason; all other values stand on the line of their key."""


def written(plan: Plan, why: Mapping[str, str], heading: Sequence[str]) -> str:
    """`plan` as YAML, below `heading`, with a comment above each value that `why` has a reason for, by path such as `sites.minimum`.

    Raises CovenantError if the text were not that of the plan.
    """
    lines = [*_comment(heading, ""), *_values(plan.model_dump(mode="json", exclude_none=True), why)]
    text = "\n".join(lines) + "\n"
    if read_document(text, Plan, "the drafted plan").digest != plan.digest:
        raise CovenantError("the text of a drafted plan reads as another plan; nothing is drafted")
    return text


def _values(found: Mapping[str, Any], why: Mapping[str, str]) -> Iterator[str]:
    for key, value in found.items():
        if key not in _OPENED:
            yield from _comment(_reasons(why, key), "")
            yield f"{key}: {_flow(value)}"
            continue
        yield from _comment([why[key]] if key in why else [], "")
        yield f"{key}:"
        for name, inner in value.items():
            yield from _comment(_reasons(why, f"{key}.{name}"), "  ")
            yield f"  {name}: {_flow(inner)}"


def _reasons(why: Mapping[str, str], path: str) -> list[str]:
    return [says for place, says in why.items() if place == path or place.startswith(f"{path}.")]


def _comment(sentences: Sequence[str], indent: str) -> Iterator[str]:
    for each in sentences:
        printable = "".join(one if one.isprintable() else " " for one in each)  # YAML has no others
        for line in textwrap.wrap(" ".join(printable.split()), _WIDTH, break_on_hyphens=False):
            yield f"{indent}# {line}"


def _flow(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
