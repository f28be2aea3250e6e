"""A table of the console: made once, shown as HTML, on a phone as cards, and handed out as CSV.

Cells hold plain text; templates escape it. In CSV a text that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

Tone = Literal["plain", "good", "warn", "bad", "quiet"]
Value = str | int | float | datetime | None
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""And their full-width forms, which some spreadsheets read as the same."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value. `text` is how it is shown where that is not the value itself; with `tone` it is a badge, with `href` a link, with `code` set in type of
    fixed width."""

    value: Value
    text: str | None = None
    href: str | None = None
    tone: Tone | None = None
    code: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; numbers stand to the right."""

    label: str
    number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one cell a column. `empty` says what to do where there are none; `newer` and `older` lead to the pages beside this one."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = field(default_factory=tuple)
    empty: str = ""
    newer: str | None = None
    older: str | None = None

    @property
    def csv(self) -> str:
        """The table with a line of headings (RFC 4180)."""
        told = io.StringIO()
        writer = csv.writer(told)
        writer.writerow([_plain(each.label) for each in self.columns])
        writer.writerows([_plain(cell.value) for cell in row] for row in self.rows)
        return told.getvalue()


def _plain(value: Value) -> str | int | float:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case str() if value.lstrip(" ").startswith(_FORMULA):
            return f"'{value}"
        case _:
            return value
