"""YAML 1.2 read the strict way: a tree of plain values, and the line where each of them stands.

Built from ruamel's events rather than from its constructors, so that these rules hold before any object exists:

1. Plain scalars follow the YAML 1.2 core schema and nothing more: `no`, `on`, `1_000`, `12:30` and dates are strings.
2. Anchors, aliases, tags and directives other than `%YAML 1.2` are refused: a document is what it looks like.
3. A key is text and occurs once in its mapping.
4. Size, depth and number of values are bounded, for a document may come from a stranger.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 100_000
_MAX_DIGITS: Final = 40
_MOST_KEPT: Final = 1 << 16

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

# Where a value stands: keys and list indices from the root.
Path = tuple[str | int, ...]


class StrictYamlError(ValueError):
    """A text that is not a YAML document by the rules above; `line` counts from 1."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(frozen=True, slots=True)
class Tree:
    """A document's values (dict, list, str, int, float, bool, None), and the line (from 1) of each path in it."""

    value: object
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of `path`, or of its nearest ancestor that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str) -> Tree:
    """Read one document, which the caller leaves as it is; raises StrictYamlError."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise StrictYamlError(1, f"the document is larger than {MAX_BYTES} bytes")
    return _parse_again(text) if len(text) <= _MOST_KEPT else _parse(text)


def _parse(text: str) -> Tree:
    try:
        return _Reader(text).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise StrictYamlError(int(mark.line) + 1 if mark else 1, f"not YAML: {error.problem}") from error
    except StrictYamlError:
        raise
    except (YAMLError, ValueError, OverflowError) as error:
        # ruamel lets an impossible escape such as "\UFFFFFFFF" through to `chr`, which has no line to give.
        raise StrictYamlError(1, f"not YAML: {' '.join(str(error).split())}") from error


# A site reads its root and its settings again at every message, in milliseconds each.
_parse_again = lru_cache(maxsize=32)(_parse)


def scalar_value(text: str) -> str | int | float | bool | None:
    """What a plain (unquoted) scalar means in the YAML 1.2 core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Reader:
    """One pass over the events of one document."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self._lines: dict[Path, int] = {}
        self._count = 0

    def document(self) -> Tree:
        next(self._events)  # the start of the stream
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            raise StrictYamlError(1, "the document is empty")
        self._check_directives(start)
        self._lines[()] = 1
        value = self._value((), next(self._events))
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                raise StrictYamlError(
                    _line(event), "a second document begins here; one file holds one document"
                )
            if not isinstance(event, DocumentEndEvent | StreamEndEvent):
                raise StrictYamlError(_line(event), "the document should have ended here")
        return Tree(value, self._lines)

    @staticmethod
    def _check_directives(start: DocumentStartEvent) -> None:
        if start.version not in (None, (1, 2)):
            raise StrictYamlError(1, "documents are read as YAML 1.2; remove the %YAML directive")
        if start.tags:
            raise StrictYamlError(1, "tags are not accepted; remove the %TAG directive")

    def _value(self, path: Path, event: NodeEvent) -> object:
        self._check_node(path, event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        raise StrictYamlError(_line(event), f"unexpected {type(event).__name__}")

    def _check_node(self, path: Path, event: NodeEvent) -> None:
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise StrictYamlError(
                _line(event), "anchors and aliases (& and *) are not accepted; write the value out"
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise StrictYamlError(_line(event), f"tags are not accepted; remove {tag}")
        if len(path) > MAX_DEPTH:
            raise StrictYamlError(_line(event), f"values are nested deeper than {MAX_DEPTH} levels")
        self._count += 1
        if self._count > MAX_VALUES:
            raise StrictYamlError(_line(event), f"the document has more than {MAX_VALUES} values")

    def _mapping(self, path: Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            self._check_node(path, event)
            if not isinstance(event, ScalarEvent):
                raise StrictYamlError(
                    _line(event), "a key must be a single word or text, not a list or a mapping"
                )
            key = _text(event)
            here = (*path, key)
            if key in mapping:
                raise StrictYamlError(
                    _line(event), f"duplicate key `{key}`, first given in line {self._lines[here]}"
                )
            self._lines[here] = _line(event)
            mapping[key] = self._value(here, next(self._events))
        return mapping

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            here = (*path, len(items))
            self._lines[here] = _line(event)
            items.append(self._value(here, event))
        return items

    @staticmethod
    def _scalar(event: ScalarEvent) -> str | int | float | bool | None:
        text = _text(event)
        if event.style is not None:  # quoted or block: text by definition
            return text
        if len(text) > _MAX_DIGITS:  # no number anybody means; spares Python the conversion
            return text
        return scalar_value(text)


def _text(event: ScalarEvent) -> str:
    text = str(event.value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StrictYamlError(_line(event), "the text is not valid Unicode (a lone surrogate)") from error
    return text


def _line(event: Any) -> int:  # noqa: ANN401 - ruamel's events share no typed base with marks
    return int(event.start_mark.line) + 1
