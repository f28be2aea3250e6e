"""Two kinds of plot over rounds, a curve and columns, that stay legible from 1 round to 10,000."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final

from simulation.report.gates import Gate
from simulation.report.svg import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE: Final = "#1f5f8b"
SOFT: Final = "#5d93bd"
PALE: Final = "#d5dce3"
_POINTS_MARKED: Final = 40
_MOST_COLUMNS: Final = 60


def panel(figure: Figure, title: str, label: str, *, whole: bool = False) -> Axes:
    """The one set of axes of a plot over rounds; `label` names the vertical one with its unit, `whole` numbers if so."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("round")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
    return axes


def curve(
    axes: Axes,
    points: Sequence[tuple[int, float]],
    gates: Sequence[Gate],
    *,
    last: str,
    from_zero: bool = False,
) -> None:
    """A curve through (round, value), its `last` value in figures, and the gates near enough not to flatten it."""
    numbers, values = [number for number, _ in points], [value for _, value in points]
    marker = "o" if len(points) <= _POINTS_MARKED else ""
    axes.plot(numbers, values, color=BLUE, linewidth=1.8, marker=marker, markersize=3.5)
    axes.plot(numbers[-1:], values[-1:], color=BLUE, marker="o", markersize=5)
    low, high = min(values), max(values)
    span = max(high - low, 0.05 * abs(high), 1e-6)
    for gate in gates:
        if low - 2 * span <= gate.threshold <= high + 2 * span:
            low, high = min(low, gate.threshold), max(high, gate.threshold)
            _gate_line(axes, gate, values)
    room = 0.18 * max(high - low, span)
    axes.set_ylim(0 if from_zero else low - room, high + room)
    _limit_rounds(axes, numbers)
    falling = len(values) > 1 and values[-2] > values[-1]  # then the line comes from above
    axes.annotate(
        last,
        (numbers[-1], values[-1]),
        xytext=(0, -7 if falling else 7),
        textcoords="offset points",
        va="top" if falling else "bottom",
        ha="right" if len(points) > 1 else "center",
        color=INK,
        fontweight="bold",
    )


def columns(
    axes: Axes, numbers: Sequence[int], values: Sequence[float], *, behind: bool = False, label: str = ""
) -> None:
    """A column a round, or one for the mean of several, as the axis then says; `behind` is a pale one for another's ground."""
    size = -(-len(numbers) // _MOST_COLUMNS)
    groups = [slice(start, start + size) for start in range(0, len(numbers), size)]
    middles = [fmean(numbers[group]) for group in groups]
    means = [fmean(values[group]) for group in groups]
    width = 0.75 * min(1.0, len(numbers) / 6)  # one round is a column, not a wall
    widths = [width * len(numbers[group]) for group in groups]
    axes.bar(middles, means, width=widths, color=PALE if behind else SOFT, label=label)
    axes.set_ylim(bottom=0)
    _limit_rounds(axes, numbers)
    if size > 1:
        axes.set_xlabel(f"round; each column is the mean of {size}")


def _gate_line(axes: Axes, gate: Gate, values: Sequence[float]) -> None:
    """A dashed line, named at the end and on the side where the curve keeps away from it."""
    third = -(-len(values) // 3)
    left, right = values[:third], values[-third:]
    at_right = _distance(right, gate.threshold) > _distance(left, gate.threshold)
    below = fmean(right if at_right else left) > gate.threshold
    axes.axhline(gate.threshold, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"gate: {gate}",
        (1 if at_right else 0, gate.threshold),
        xycoords=("axes fraction", "data"),
        xytext=(-4 if at_right else 4, -4 if below else 4),
        textcoords="offset points",
        ha="right" if at_right else "left",
        va="top" if below else "bottom",
        color=FAINT,
        fontsize=8,
    )


def _distance(values: Sequence[float], threshold: float) -> float:
    return min(abs(value - threshold) for value in values)


def _limit_rounds(axes: Axes, numbers: Sequence[int]) -> None:
    """Half a round before the first and after the last, or a little more where that is less than can be seen."""
    room = max(0.6, 0.02 * (numbers[-1] - numbers[0]))
    axes.set_xlim(numbers[0] - room, numbers[-1] + room)
