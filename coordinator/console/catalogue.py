"""Finds every text of the console that can be translated, and writes `locale/console.pot`, from which translators begin.

Run as `python -m coordinator.console.catalogue`, or with `--check` to write nothing and leave with 1 where the file is stale. The file has neither times nor lines, so it changes
only when a text does. A language is added with Babel's own commands, in `coordinator/console`:

    pybabel init --domain console --input-file locale/console.pot --output-dir locale --locale de
    pybabel compile --domain console --directory locale
"""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import write_po

from coordinator.console.templates import DOMAIN, LOCALES

_HERE: Final = Path(__file__).parent
POT: Final = LOCALES / f"{DOMAIN}.pot"
_STALE: Final = 1
_SHOWN: Final[Mapping[str, tuple[tuple[int, ...], frozenset[str]]]] = {
    "_": ((0,), frozenset()),
    "words": ((0,), frozenset()),
    "Table": ((), frozenset({"caption", "empty"})),
    "Column": ((0,), frozenset({"label"})),
    "Chart": ((), frozenset({"title", "x", "y", "empty"})),
    "Bound": ((), frozenset({"name"})),
    "go": ((1,), frozenset({"notice"})),
}
"""What is called with texts that a page shows: which of its arguments those are, by place and by name."""


def texts_of_python(source: str) -> Iterator[str]:
    """The texts in a module."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        places, names = _SHOWN.get(name, ((), frozenset()))
        for place in places:
            if place < len(node.args):
                yield from _constants(node.args[place])
        for each in node.keywords:
            if each.arg in names:
                yield from _constants(each.value)


def _constants(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _constants(one)
            yield from _constants(other)
        case ast.BoolOp(values=parts):
            for each in parts:
                yield from _constants(each)


def texts_of_template(source: bytes) -> Iterator[str]:
    """The texts in a template."""
    options = {"trimmed": "false", "silent": "false"}
    for _, message, _, _ in extract("jinja2.ext:babel_extract", io.BytesIO(source), options=options):
        yield from (message,) if isinstance(message, str) else message


def catalogue() -> bytes:
    """The file as it has to be."""
    made = Catalog(domain=DOMAIN)
    for path in sorted([*_HERE.rglob("*.py"), *_HERE.rglob("*.html")]):
        place = [(path.relative_to(_HERE).as_posix(), 0)]
        texts = (
            texts_of_python(path.read_text())
            if path.suffix == ".py"
            else texts_of_template(path.read_bytes())
        )
        for text in texts:
            made.add(text, locations=place)
    told = io.BytesIO()
    write_po(told, made, width=0, omit_header=True, sort_output=True, include_lineno=False)
    return _HEADER + told.getvalue()


_HEADER: Final = b"""\
# Texts of the console. Written by `python -m coordinator.console.catalogue`; do not edit it by hand.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def main(arguments: list[str]) -> int:
    """Write the file, or check it; returns the exit code."""
    told = catalogue()
    if "--check" not in arguments:
        POT.parent.mkdir(exist_ok=True)
        POT.write_bytes(told)
    elif not POT.exists() or POT.read_bytes() != told:
        sys.stderr.write(
            "coordinator/console/locale/console.pot is stale; run python -m coordinator.console.catalogue\n"
        )
        return _STALE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
