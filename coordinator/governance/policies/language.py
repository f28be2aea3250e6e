"""The part of CEL that rules are written in: so small that nothing in it grows, and what an expression takes at most follows from its text.

1. No `map` and `filter`, no concatenation, no regular expressions, no `dyn`, no maps, and lists of constants only: no value that is made while an
   expression is evaluated is larger than a fact. In all of CEL a few hundred characters take any time and memory.
2. Strings are plain, without prefixes and backslashes, and there are no comments: what the tokens are is beyond doubt.
3. An expression of t tokens and m comprehensions (`all`, `exists`, `exists_one`) over lists of at most n elements takes at most t n^(m + 1) steps,
   where n counts at least as many as it has tokens; comparing two lists is n of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_STEPS: Final = 50_000_000
"""Of one rule: below a tenth of a second."""
MOST_PACK_STEPS: Final = 100_000_000
"""Of all rules of a pack over one subject: everything is judged while the log is held, and simulated for whoever asks."""
CONFIGURATION: Final = """
stdlib:
  exclude_macros: [map, filter]
  exclude_functions:
    - name: "_+_"
      overloads:
        - id: add_list
        - id: add_string
        - id: add_bytes
    - name: matches
    - name: dyn
    - name: type
"""
_TOKEN: Final = re.compile(
    r"(?P<string>'[^'\\\n]*'|\"[^\"\\\n]*\")|(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_]\w*)|(?P<space>\s+)"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/%<>!?:,.()\[\]])|(?P<other>.)"
)
_COMPREHENSIONS: Final = frozenset({"all", "exists", "exists_one"})
_CONSTANTS: Final = frozenset({"true", "false", "null"})
_ENDS_A_VALUE: Final = frozenset({")", "]"})


@dataclass(frozen=True, slots=True)
class Defect:
    """Why an expression is none: at which line and column, from 1; 0 where it is the whole."""

    line: int
    column: int
    why: str

    @property
    def words(self) -> str:
        """`line 1, column 3: ...`."""
        return f"line {self.line}, column {self.column}: {self.why}" if self.line else self.why


@dataclass(frozen=True, slots=True)
class Shape:
    """What an expression takes follows from how many tokens and comprehensions it has."""

    tokens: int
    comprehensions: int

    def steps(self, facts: Mapping[str, Any]) -> int:
        """The most that it takes over `facts`."""
        longest = max((len(each) for each in facts.values() if isinstance(each, list | dict)), default=0)
        return int(self.tokens * max(self.tokens, longest) ** (self.comprehensions + 1))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def shape_of(text: str) -> Shape | Defect:
    """The shape of an expression, or what in it is not of this language. Whether it is an expression at all is for the compiler."""
    tokens = list(_tokens(text))
    found = _defect(text, tokens)
    comprehensions = sum(
        before.text == "." and each.text in _COMPREHENSIONS and after.text == "("
        for before, each, after in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )
    return found or Shape(len(tokens), comprehensions)


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        kind = str(found.lastgroup)
        if kind != "space":
            yield _Token(kind, found[0], found.start())


def _defect(text: str, tokens: list[_Token]) -> Defect | None:
    inside = ""  # brackets that are open: "i" of an index, "l" of a list
    before: _Token | None = None
    for each in tokens:
        if why := _refusal(before, each):
            return _at(text, each.at, why)
        if each.text == "[" and each.kind == "sign":
            if inside.endswith("l"):
                return _at(text, each.at, "a list holds constants only")
            inside += "i" if before is not None and _is_value(before) else "l"
        elif each.text == "]" and each.kind == "sign":
            inside = inside[:-1]
        elif inside.endswith("l") and not _is_constant(each):
            return _at(text, each.at, "a list holds constants only")
        before = each
    return None


def _refusal(before: _Token | None, each: _Token) -> str:
    if each.kind == "other":
        return f"{each.text!r} is not used in rules"
    if each.kind == "sign" and each.text == "/" and before is not None and before.text == "/":
        return "there are no comments in expressions; write what the rule says under `says`"
    touches = before is not None and before.at + len(before.text) == each.at
    if (
        each.kind == "string"
        and touches
        and before is not None
        and before.kind in {"name", "string", "number"}
    ):
        return "strings are plain, in one pair of quotes and without a prefix"
    return ""


def _is_value(token: _Token) -> bool:
    return token.kind in {"name", "string", "number"} or token.text in _ENDS_A_VALUE


def _is_constant(token: _Token) -> bool:
    return token.kind in {"string", "number"} or token.text in _CONSTANTS or token.text in {",", "-"}


def _at(text: str, place: int, why: str) -> Defect:
    line = text.count("\n", 0, place) + 1
    return Defect(line, place - (text.rfind("\n", 0, place) + 1) + 1, why)
