"""Reading back what was written as JSON values, whoever wrote it: each name once, each of its type, and nothing else.

Functions raise TypeError, which readers turn into a sentence of their own.
"""

from __future__ import annotations

from dataclasses import fields


def require_names(facts: object, of: type, *more: str) -> None:
    """Require a dictionary with the fields of the dataclass `of`, and `more`, as its keys."""
    names = {*(each.name for each in fields(of)), *more}
    if not isinstance(facts, dict) or facts.keys() != names:
        raise TypeError(f"a {of.__name__.lower()} says {', '.join(sorted(names))}, and nothing else")


def text(value: object) -> str:
    """Require text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def number(value: object) -> float:
    """Require a number, which a truth value is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
