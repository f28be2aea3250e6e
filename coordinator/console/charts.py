"""A chart of the console: what is drawn, in a form that the browser's script turns into SVG, and the table of the same figures below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words

Axis = Literal["number", "time", "category"]
Kind = Literal["line", "step", "bar", "area", "scatter"]
SHOWN_PLACES: Final = 60
"""Rows of figures below a chart; the file has all. A cell weighs as much as ten of its digits, and a chart may have a thousand places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points (x, y): x is a number, an ISO moment in UTC, or a category's words. Bars with one `stack` stand on each other."""

    name: str
    points: Sequence[tuple[float | str, float | None]]
    kind: Kind = "line"
    dashed: bool = False
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A level that is drawn across, such as a ceiling."""

    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its title and axes' names (with units)."""

    name: str
    title: str
    x: str
    y: str
    series: Sequence[Series]
    bounds: Sequence[Bound] = field(default_factory=tuple)
    axis: Axis = "number"
    y_from: float | None = None
    y_to: float | None = None
    empty: str = ""

    @property
    def drawn(self) -> dict[str, Any]:
        """For the script: plain JSON. Where all points are at one place, an axis of numbers would be made up around it: it is named instead."""
        one = self.axis == "number" and len({x for each in self.series for x, _ in each.points}) == 1
        heights = [y for each in self.series for _, y in each.points if y is not None]
        return {
            "title": self.title,
            "x": self.x,
            "y": self.y,
            "axis": "category" if one else self.axis,
            "from": 0.0 if one and self.y_from is None and min(heights, default=0.0) >= 0.0 else self.y_from,
            "to": self.y_to,
            "series": [
                {
                    "name": each.name,
                    "points": [[str(x) if one else x, y] for x, y in each.points],
                    "kind": each.kind,
                    "dashed": each.dashed,
                    "stack": each.stack,
                }
                for each in self.series
            ],
            "bounds": [{"name": each.name, "at": each.at} for each in self.bounds],
        }

    @property
    def table(self) -> Table:
        """The same figures: one row a place on the x axis."""
        at = {each.name: dict(each.points) for each in self.series}
        places = list(dict.fromkeys(x for each in self.series for x, _ in each.points))
        return Table(
            name=f"{self.name}-figures",
            caption=f"{self.title}: figures",
            columns=[Column(self.x), *(Column(name, number=True) for name in at)],
            rows=[[Cell(x), *(Cell(ys.get(x)) for ys in at.values())] for x in places],
            empty=self.empty,
        )

    @property
    def shown(self) -> Table:
        """The table as it stands below the chart: its last places, where there are many."""
        whole = self.table
        if len(whole.rows) <= SHOWN_PLACES:
            return whole
        caption = words(
            "{title}: the last {shown} of {all} figures, the file has all",
            title=self.title,
            shown=SHOWN_PLACES,
            all=len(whole.rows),
        )
        return replace(whole, caption=caption, rows=whole.rows[-SHOWN_PLACES:])
