"""The study as one picture: F1 of each kind of model, and what each catches of each kind of fraud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from simulation.payments.comparison import Arm
from simulation.payments.study import StudyResult
from simulation.report.drawing import BLUE, PALE, SOFT
from simulation.report.svg import FAINT, INK, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final[Mapping[Arm, str]] = {
    Arm.LOCAL: PALE,
    Arm.FEDERATED: BLUE,
    Arm.PRIVATE: SOFT,
    Arm.POOLED: "#9aa5b1",
}
_NAMESPACE: Final = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def chart(found: StudyResult) -> str:
    """An SVG file: equal studies, equal bytes."""
    title = "Mean F1 by kind of model, and recall by kind of fraud"
    svg = inline_svg(
        lambda figure: _draw(figure, found), key="payments", title=title, width_in=9.6, height_in=3.9
    )
    return svg.replace("<svg", f"<svg {_NAMESPACE}", 1) + "\n"


def _draw(figure: Figure, found: StudyResult) -> None:
    scores, caught = figure.subplots(1, 2, width_ratios=(3, 6))
    _scores(scores, found)
    _caught(caught, found)
    for axes in (scores, caught):
        axes.grid(axis="y")
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.tick_params(axis="x", length=0)


def _scores(axes: Axes, found: StudyResult) -> None:
    axes.set_title("F1, mean over banks")
    for place, arm in enumerate(found.arms):
        figure = found.mean(arm)
        axes.bar(
            [place], [figure.mean], width=0.7, color=_COLOURS[arm], yerr=figure.sd, ecolor=FAINT, capsize=3
        )
        above = figure.mean + (figure.sd or 0.0)
        axes.annotate(
            f"{figure.mean:.3f}",
            (place, above),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontweight="bold",
        )
    axes.set_xticks(range(len(found.arms)), list(found.arms))


def _caught(axes: Axes, found: StudyResult) -> None:
    axes.set_title("Share of fraudulent payments that is caught")
    recalls = found.recalls()
    width = 0.8 / len(found.arms)
    for number, arm in enumerate(found.arms):
        places = [place + (number - (len(found.arms) - 1) / 2) * width for place in range(len(recalls))]
        heights = [each.shares().get(arm, 0.0) for each in recalls.values()]
        axes.bar(places, heights, width=width, color=_COLOURS[arm], label=arm)
    words = [_two_lines(name) for name in recalls]
    axes.set_xticks(range(len(words)), words, fontsize=7.5)
    axes.legend(loc="upper left", ncols=len(found.arms), fontsize=8)


def _two_lines(name: str) -> str:
    """A name on two lines or three, at hyphens and blanks."""
    return name.replace(" by the bank", "\nby the bank").replace("-", "-\n")
