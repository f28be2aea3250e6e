"""A table of the console: made once, shown as HTML, on a phone as cards, and handed out as CSV.

Cells hold plain text; templates escape it. In CSV a text that a spreadsheet would take for a formula begins with an apostrophe, also within a text behind
what ends a cell where people write numbers with a comma, and a file that does not have all rows says so in its last line, and where the next ones are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

Tone = Literal["plain", "good", "warn", "bad", "quiet"]
Value = str | int | float | datetime | None
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""And their full-width forms, which some spreadsheets read as the same."""
_AS_IT_IS: Final = ",:;/@=+()"
"""What stays as it is in an address that holds a file: most of a table's weight there is commas, and three times that written as %2C."""
_CELL_WITHIN: Final = re.compile(r"([;\t\r\n][\s\"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet whose separator is the semicolon begins a cell in the middle of a text, and takes it for a formula: there quotes end no sooner."""


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
    """Rows of one cell a column. `empty` says what to do where there are none; `newer` and `older` lead to the pages beside this one, and where nothing
    leads there, `cut` says what is left out. A file has at most `file_rows`, where it has not all."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]] = field(default_factory=tuple)
    empty: str = ""
    newer: str | None = None
    older: str | None = None
    cut: str = ""
    file_rows: int | None = None

    @property
    def left_out(self) -> str:
        """What a file that ends with these rows has not, and how it is had; nothing where it has all."""
        if self.older is not None:
            return f"Cut after {len(self.rows)} rows; the next ones are at {self.older.partition('#')[0]}"
        return f"Cut after {len(self.rows)} rows; {self.cut}" if self.cut else ""

    @property
    def csv(self) -> str:
        """The table with a line of headings (RFC 4180), and a last one with one text if rows are left out."""
        told = io.StringIO()
        writer = csv.writer(told)
        writer.writerow([_plain(each.label) for each in self.columns])
        writer.writerows([_plain(cell.value) for cell in row] for row in self.rows)
        if self.left_out:
            writer.writerow([self.left_out, *[""] * (len(self.columns) - 1)])
        return told.getvalue()

    @property
    def csv_here(self) -> str:
        """The rows that are shown, as an address that holds the file itself: for a table that no other address would give again."""
        return f"data:text/csv;charset=utf-8,{quote(self.csv, safe=_AS_IT_IS)}"


def _plain(value: Value) -> str | int | float:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case str():
            text = _CELL_WITHIN.sub(r"\1'", value)
            return f"'{text}" if value.lstrip(" ").startswith(_FORMULA) else text
        case _:
            return value
