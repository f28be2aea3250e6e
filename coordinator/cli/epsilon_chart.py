"""Epsilon over rounds, as characters for a terminal and as SVG: two lines and the limit, told apart without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from protos.plan_costs import Spent
from strategies.dp.units import Guarantee

_WIDTH, _HEIGHT = 61, 10
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_SVG_WIDTH, _SVG_HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 700, 64, 300
_SVG_ATTRIBUTES: Final = 'role="img" aria-labelledby="epsilon-title epsilon-desc" font-family="system-ui, sans-serif" font-size="13"'
_MOST_TICKS: Final = 6
_INK, _FAINT, _LINE, _LIMIT = "#1f2933", "#5b6770", "#1d4f91", "#9b1c1c"


@dataclass(frozen=True, slots=True)
class EpsilonChart:
    """What a plan has cost after each of `rounds`, against its `limit`; of `plan`. There is at least round 0, and all figures are finite."""

    plan: str
    rounds: Sequence[Spent]
    limit: Guarantee

    @property
    def title(self) -> str:
        """What the numbers of the chart are."""
        limit = self.limit
        return f"epsilon over rounds, at delta {limit.delta:g} per {limit.unit.words} ({limit.neighbours})"

    @property
    def highest(self) -> float:
        """The largest epsilon to be shown."""
        return max(self.limit.epsilon, *(each.at_most.epsilon for each in self.rounds))

    @property
    def last(self) -> int:
        """The last round shown."""
        return self.rounds[-1].number

    # --- for a terminal -----------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """Lines of text, the title first."""
        wide = max(1, _WIDTH // len(self.rounds))
        columns = [each for each in self.rounds for _ in range(wide)]
        rows = [
            self._label(row) + "".join(self._cell(each, row) for each in columns)
            for row in reversed(range(_HEIGHT))
        ]
        axis = f"{0:8.2f} └" + "─" * len(columns)
        ends = f"{'':10}0{f'{self.last} rounds':>{max(1, len(columns) - 1)}}"
        key = f"{'':10}█ if no attempt fails   ░ if every planned retry is used   ┄ the plan's limit"
        return [self.title, *rows, axis, ends, key]

    def _label(self, row: int) -> str:
        top = (row + 1) * self.highest / _HEIGHT
        return f"{top:8.2f} ┤" if row % 2 else f"{'':8} │"

    def _cell(self, spent: Spent, row: int) -> str:
        """The character of one column between two heights."""
        step = self.highest / _HEIGHT
        filled = min(8, max(0, round((spent.smooth.epsilon - row * step) / step * 8)))
        if filled:
            return _EIGHTHS[filled]
        if spent.at_most.epsilon >= (row + 0.5) * step:
            return "░"
        return "┄" if math.ceil(self.limit.epsilon / step - 1e-9) == row + 1 else " "

    # --- for a document -----------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """An SVG document: text stays text, no script, no reference to elsewhere."""
        last = self.rounds[-1]
        described = (
            f"{self.title}. After round {last.number} it is {last.smooth.epsilon:.3f} if no attempt fails and {last.at_most.epsilon:.3f} if every planned "
            f"retry is used; the plan's limit is {self.limit.epsilon:g}. It starts at {self.rounds[0].smooth.epsilon:.3f} with preparation."
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SVG_WIDTH} {_SVG_HEIGHT}" {_SVG_ATTRIBUTES}>',
            f'<title id="epsilon-title">{escape(self.plan)}: {escape(self.title)}</title>',
            f'<desc id="epsilon-desc">{escape(described)}</desc>',
            f'<rect width="{_SVG_WIDTH}" height="{_SVG_HEIGHT}" fill="#ffffff"/>',
            _text(20, 26, escape(self.plan), _INK, weight="bold"),
            _text(20, 46, escape(self.title), _FAINT),
            *self._axes(),
            self._path([each.at_most for each in self.rounds], _LINE, "5 4"),
            self._path([each.smooth for each in self.rounds], _LINE, ""),
            self._path([self.limit, self.limit], _LIMIT, "1 4"),
            *_key(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _axes(self) -> list[str]:
        parts = []
        for value in ticks(self.highest):
            y = self._y(value)
            parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", _FAINT, anchor="end"))
        for value in ticks(self.last):
            if value == int(value):
                x = _LEFT + (_RIGHT - _LEFT) * value / max(1, self.last)
                parts.append(_text(x, _BOTTOM + 20, f"{value:g}", _FAINT, anchor="middle"))
        parts.append(_text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, "rounds", _FAINT, anchor="middle"))
        return parts

    def _path(self, figures: Sequence[Guarantee], colour: str, dashes: str) -> str:
        numbers = (
            [each.number for each in self.rounds] if len(figures) == len(self.rounds) else [0, self.last]
        )
        points = " ".join(
            f"{_LEFT + (_RIGHT - _LEFT) * number / max(1, self.last):.1f},{self._y(figure.epsilon):.1f}"
            for number, figure in zip(numbers, figures, strict=True)
        )
        return f'<polyline points="{points}" {_stroke(colour, dashes)}/>'

    def _y(self, epsilon: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * epsilon / self.highest


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to at most `highest`, about five: steps of 1, 2 or 5 times a power of ten."""
    if not highest > 0.0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(highest / _MOST_TICKS))
    step = next(power * each for each in (1, 2, 5, 10, 20) if highest / (power * each) <= _MOST_TICKS)
    return [round(step * each, 12) for each in range(math.floor(highest / step + 1e-9) + 1)]


def _stroke(colour: str, dashes: str) -> str:
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round"{pattern}'


def _text(
    x: float, y: float, text: str, colour: str, *, anchor: str = "start", weight: str = "normal"
) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>'


def _key() -> list[str]:
    parts = []
    y = _SVG_HEIGHT - 18
    for x, words, colour, dashes in (
        (_LEFT, "if no attempt fails", _LINE, ""),
        (_LEFT + 180, "if every planned retry is used", _LINE, "5 4"),
        (_LEFT + 430, "the plan's limit", _LIMIT, "1 4"),
    ):
        parts.append(f'<line x1="{x}" x2="{x + 30}" y1="{y - 4}" y2="{y - 4}" {_stroke(colour, dashes)}/>')
        parts.append(_text(x + 38, y, words, _INK))
    return parts
