"""Charts as SVG: text stays text, no script, no reference to elsewhere, told apart without colour. Names are escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from strategies.analytics.estimates import Estimate

_WIDTH: Final = 640
_LEFT, _RIGHT = 64, 616
_TOP, _BOTTOM = 32, 236
_HEIGHT: Final = 290
_INK, _FAINT, _GRID, _LINE, _OTHER = "#1f2933", "#52606d", "#e4e7eb", "#1d4f91", "#9b1c1c"
_ROW, _BAR = 34, 14
_MOST_TICKS: Final = 7
_LONGEST_LABEL: Final = 34
_MIDDLE: Final = 0.5

Point = tuple[float, float]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, about five: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    step = next(power * each for each in (1, 2, 5, 10, 20) if span / (power * each) <= _MOST_TICKS)
    first = math.ceil(low / step - 1e-9)
    return [round(step * each, 12) for each in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    points: Sequence[Point], title: str, words: str, axes: tuple[str, str], *, diagonal: bool = False
) -> str:
    """Points that are joined, over two named axes; with a dotted `diagonal` from 0 to 1, where both axes are shares."""
    if diagonal:
        low_x, high_x, low_y, high_y = 0.0, 1.0, 0.0, 1.0
    else:
        low_x, high_x = _padded([x for x, _ in points], 0.0)
        low_y, high_y = _padded([y for _, y in points], 0.15)

    def place(point: Point) -> Point:
        x = _LEFT + (_RIGHT - _LEFT) * (point[0] - low_x) / (high_x - low_x)
        return x, _BOTTOM - (_BOTTOM - _TOP) * (point[1] - low_y) / (high_y - low_y)

    parts = []
    for value in ticks(low_y, high_y):
        y = place((low_x, value))[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", _FAINT, "end"))
    shown = [value for value in ticks(low_x, high_x) if diagonal or value == int(value)]
    parts += [_text(place((each, low_y))[0], _BOTTOM + 18, f"{each:g}", _FAINT, "middle") for each in shown]
    if diagonal:
        ends = (place((0.0, 0.0)), place((1.0, 1.0)))
        parts.append(_joined(ends, _OTHER, ' stroke-dasharray="2 4"'))
    placed = [place(each) for each in points]
    parts.append(_joined(placed, _LINE, ""))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_LINE}"/>' for x, y in placed]
    parts.append(_text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, axes[0], _FAINT, "middle"))
    parts.append(_text(_LEFT, _TOP - 16, axes[1], _FAINT, "start"))
    return _svg(parts, _HEIGHT, title, words)


def banded(
    points: Sequence[tuple[float, Estimate]],
    title: str,
    words: str,
    axes: tuple[str, str],
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """A figure over a share from 0 to 1, with its interval as a band around it; `marks` are shares with their names, each a line down."""
    found = [each for _, each in points]
    low_y, high_y = _padded([*(each.low for each in found), *(each.high for each in found)], 0.08)

    def place(x: float, y: float) -> Point:
        return _LEFT + (_RIGHT - _LEFT) * x, _BOTTOM - (_BOTTOM - _TOP) * (y - low_y) / (high_y - low_y)

    parts = []
    for value in ticks(low_y, high_y):
        y = place(0.0, value)[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", _FAINT, "end"))
    parts += [_text(place(x, low_y)[0], _BOTTOM + 18, f"{x:g}", _FAINT, "middle") for x in ticks(0.0, 1.0)]
    around = [place(x, each.low) for x, each in points] + [place(x, each.high) for x, each in points][::-1]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in around)
    parts.append(f'<polygon points="{outline}" fill="{_LINE}" fill-opacity="0.15"/>')
    parts.append(_joined([place(x, each.value) for x, each in points], _LINE, ""))
    for number, (x, name) in enumerate(marks):
        across = place(x, low_y)[0]
        parts.append(_joined(((across, _TOP), (across, _BOTTOM)), _OTHER, ' stroke-dasharray="4 3"'))
        anchor = "start" if x < _MIDDLE else "end"
        parts.append(
            _text(across + (5 if x < _MIDDLE else -5), _TOP + 12 + 16 * number, name, _OTHER, anchor)
        )
    parts.append(_text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, axes[0], _FAINT, "middle"))
    parts.append(_text(_LEFT, _TOP - 16, axes[1], _FAINT, "start"))
    return _svg(parts, _HEIGHT, title, words)


def whiskers(
    rows: Sequence[tuple[str, tuple[float, float, float], str]], title: str, words: str, bound: float
) -> str:
    """A point with its interval for each row: its label, (value, low, high), and the words at its end; `bound` is a line down all of them.

    An interval whose end is infinite goes to the picture's edge, with an arrow.
    """
    left, right = 240, 470
    ends = [bound, *(end for _, each, _ in rows for end in each if math.isfinite(end))]
    low, high = _padded([min(ends), max(ends)], 0.05)

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    parts = []
    for number, (label, (value, least, most), shown) in enumerate(rows):
        y = _BAR + _ROW * number
        parts.append(_text(left - 10, y + 5, _short(label), _INK, "end"))
        end = place(most) if math.isfinite(most) else float(right)
        parts.append(_joined(((place(least), y), (end, y)), _LINE, ""))
        if not math.isfinite(most):
            parts.append(_joined(((end - 6, y - 4), (end, y), (end - 6, y + 4)), _LINE, ""))
        parts.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" fill="{_LINE}"/>')
        parts.append(_text(right + 8, y + 5, shown, _FAINT, "start"))
    bottom = _ROW * len(rows)
    parts.append(_joined(((place(bound), 0), (place(bound), bottom)), _OTHER, ' stroke-dasharray="4 3"'))
    parts.append(_text(place(bound), bottom + 16, f"{bound:g}", _OTHER, "middle"))
    return _svg(parts, bottom + 24, title, words)


def bars(rows: Sequence[tuple[str, float, float | None, str]], title: str, words: str) -> str:
    """A bar for each row: its label, its value, the bound that is drawn as a line across it, and the words at its end."""
    height = _ROW * len(rows) + 4
    highest = max(1e-12, *(max(value, bound or 0.0) for _, value, bound, _ in rows))
    left, right = 240, 520
    parts = []
    for number, (label, value, bound, shown) in enumerate(rows):
        y = _BAR // 2 + _ROW * number
        width = (right - left) * value / highest
        parts.append(_text(left - 10, y + 12, _short(label), _INK, "end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_LINE}"/>')
        at = width
        if bound is not None:
            at = (right - left) * bound / highest
            x = left + at
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + _BAR + 4}" stroke="{_OTHER}" stroke-width="2" stroke-dasharray="4 3"/>'
            )
        parts.append(_text(left + max(width, at) + 8, y + 12, shown, _FAINT, "start"))
    return _svg(parts, height, title, words)


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - 0.5, high + 0.5
    room = share * (high - low)
    return low - room, high + room


def _joined(points: Iterable[Point], colour: str, more: str) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"{more}/>'


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _svg(parts: Iterable[str], height: int, title: str, words: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-family="system-ui, sans-serif" font-size="13">'
    told = f"<title>{escape(title)}</title><desc>{escape(words)}</desc>"
    return f"{head}{told}{''.join(parts)}</svg>"
