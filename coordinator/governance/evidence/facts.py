"""Facts: every figure of an evidence document, with the log entries that it comes from.

1. A fact has a value for machines, and the one way in which all forms of a document show it.
2. `entries` are places in the transparency log. A fact that is not in an entry as it stands says in `derived` what was computed, and of what.
3. What a document should have and the log has not is `Missing`, with what would supply it. Nothing stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from strategies.dp.units import Guarantee
from strategies.errors import UsageError

Value = str | int | float | bool | None
UNBOUNDED: Final = "unbounded"
_EXACT: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that the log tells. `label` is what it is, `shown` its value for people; both are one line of text."""

    name: str
    label: str
    value: Value
    shown: str
    entries: tuple[int, ...]
    derived: str | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a fact that comes from nowhere."""
        if not self.entries:
            raise UsageError(f"the fact {self.name} comes from no entry of the log")

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        found: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "value": self.value,
            "shown": self.shown,
            "entries": list(self.entries),
        }
        return found if self.derived is None else {**found, "derived": self.derived}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is not there: `what` it is, and what would `supply` it."""

    what: str
    supply: str


def fact(
    name: str,
    label: str,
    value: Value | datetime,
    entries: Iterable[int],
    *,
    derived: str | None = None,
    shown: str | None = None,
) -> Fact:
    """A fact that is shown as its kind of value is, unless `shown` says otherwise."""
    plain = value.isoformat() if isinstance(value, datetime) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        plain = None  # JSON has no infinity
    return Fact(
        name=name,
        label=one_line(label),
        value=plain,
        shown=one_line(show(value) if shown is None else shown),
        entries=tuple(sorted(set(entries))),
        derived=derived,
    )


def show(value: Value | datetime) -> str:
    """A value as people read it: times in UTC, numbers with a comma at thousands and as many digits as mean something."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return show_number(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case _:
            return value


def show_number(value: float) -> str:
    """A finite figure to six digits, such as 0.712345 or 1e-06."""
    return f"{value:.{_EXACT}g}" if math.isfinite(value) else UNBOUNDED


def show_guarantee(found: Guarantee) -> str:
    """An epsilon with its delta and unit."""
    return f"ε {show_number(found.epsilon)} at δ {found.delta:g}, per {found.unit.words}, {found.neighbours}"


def names(found: Sequence[str]) -> str:
    """`west, midwest`, or none."""
    return ", ".join(found) or "none"


def one_line(text: str) -> str:
    """Text of somebody else in one line of characters that are seen."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
