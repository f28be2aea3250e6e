"""The plots of a report: what is drawn, and what is said in words where there is nothing to draw.

A caption says what the plot shows in numbers, for readers who don't see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulation.report.drawing import columns, curve, panel
from simulation.report.gates import Gate, Verdict
from simulation.report.sites_chart import site_panels
from simulation.report.svg import inline_svg
from simulation.report.tables import lowest_sites, sites_note
from simulation.report.words import byte_unit, counted, decimals, epsilon, spent
from simulation.result import RoundResult, SimulationResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_IN: Final = 5.0
_HEIGHT_IN: Final = 2.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A plot with its caption; `svg` is None where the caption says in words why nothing is drawn. `wide` takes both columns."""

    key: str
    title: str
    caption: str
    svg: str | None = None
    wide: bool = False


def charts(result: SimulationResult, verdicts: Sequence[Verdict]) -> tuple[Chart, ...]:
    """All plots, in the order of the page."""
    gates = [verdict.gate for verdict in verdicts]
    if not result.rounds:
        words = "No round was committed, so there is nothing to plot over rounds."
        return (Chart(key="rounds", title="Rounds", caption=words, wide=True), *_sites(result))
    return (
        _quality("auc", "AUC by round", "AUC on held-out rows", lambda each: each.auc, result, gates),
        _quality(
            "log_loss",
            "Log loss by round",
            "log loss, nats a row",
            lambda each: each.log_loss,
            result,
            gates,
        ),
        _epsilon(result, gates),
        _survivors(result.rounds),
        _traffic(result.rounds),
        _computing(result.rounds),
        *_sites(result),
    )


def _quality(
    metric: str,
    title: str,
    label: str,
    read: Callable[[RoundResult], float | None],
    result: SimulationResult,
    gates: Sequence[Gate],
) -> Chart:
    points = [
        (each.number, value)
        for each in result.rounds
        if (value := read(each)) is not None and math.isfinite(value)
    ]
    if not points:
        return Chart(key=metric, title=title, caption="No committed round was evaluated on held-out rows.")
    (first, start), (last, end) = points[0], points[-1]
    caption = f"{decimals(end)} after round {last:,}"
    if len(points) > 1:
        caption = f"{decimals(start)} after round {first:,}, {caption}"
    caption += ", on the held-out rows of all sites together."
    return _plotted(
        metric,
        title,
        caption,
        lambda figure: curve(panel(figure, title, label), points, _of(gates, metric), last=decimals(end)),
    )


def _epsilon(result: SimulationResult, gates: Sequence[Gate]) -> Chart:
    title = "Epsilon by round"
    points = [(each.number, each.epsilon) for each in result.rounds if math.isfinite(each.epsilon)]
    total = spent(result)
    if total is None or not math.isfinite(total) or not points:
        words = (
            f"Epsilon is infinite in every round, because privacy is {result.privacy}: nothing bounds what the model tells of "
            "a person. There is no curve to draw."
        )
        return Chart(key="epsilon", title=title, caption=words)
    caption = f"{epsilon(total)} spent by round {points[-1][0]:,}, {result.whose}."
    return _plotted(
        "epsilon",
        title,
        caption,
        lambda figure: curve(
            panel(figure, title, "epsilon spent so far"),
            points,
            _of(gates, "epsilon"),
            last=epsilon(total),
            from_zero=True,
        ),
    )


def _survivors(rounds: Sequence[RoundResult]) -> Chart:
    title = "Survivors of each roster"
    lost = sum(each.roster - each.survivors for each in rounds)
    largest = max(each.roster for each in rounds)
    fewest = min(each.survivors for each in rounds)
    caption = f"Rosters of up to {counted(largest, 'site')}; "
    caption += (
        f"{counted(lost, 'answer')} lost in {counted(len(rounds), 'round')}, {counted(fewest, 'survivor')} at the fewest."
        if lost
        else "none was lost."
    )

    def draw(figure: Figure) -> None:
        axes = panel(figure, title, "sites", whole=True)
        numbers = [each.number for each in rounds]
        columns(axes, numbers, [each.roster for each in rounds], behind=True, label="roster")
        columns(axes, numbers, [each.survivors for each in rounds], label="survivors")
        axes.set_ylim(0, largest * 1.25)  # room for the legend
        axes.legend(loc="upper right", ncols=2)

    return _plotted("survivors", title, caption, draw)


def _traffic(rounds: Sequence[RoundResult]) -> Chart:
    title = "Traffic by round"
    sizes = [each.traffic for each in rounds]
    unit, all_unit = byte_unit(max(sizes)), byte_unit(sum(sizes))
    caption = (
        f"{all_unit.show(sum(sizes))} {all_unit.name} in all, to and from the sites; "
        f"{unit.show(max(sizes))} {unit.name} in the largest round."
    )
    return _plotted(
        "traffic",
        title,
        caption,
        lambda figure: columns(
            panel(figure, title, f"frames, {unit.name}"),
            [each.number for each in rounds],
            [size / unit.size for size in sizes],
        ),
    )


def _computing(rounds: Sequence[RoundResult]) -> Chart:
    title = "Computing time by round"
    times = [each.compute_s for each in rounds]
    name, factor = ("s", 1.0) if max(times) >= 1 else ("ms", 1000.0)
    caption = (
        f"The slowest survivor of each round, {max(times) * factor:,.1f} {name} at most: what a round takes where sites "
        "work side by side."
    )
    return _plotted(
        "computing",
        title,
        caption,
        lambda figure: columns(
            panel(figure, title, f"slowest site, {name}"),
            [each.number for each in rounds],
            [time * factor for time in times],
        ),
    )


def _sites(result: SimulationResult) -> tuple[Chart, ...]:
    if not result.sites:
        return ()
    shown = lowest_sites(result.sites)
    title = "Sites"
    scored = [site.auc for site in result.sites if site.auc is not None and math.isfinite(site.auc)]
    if scored:
        caption = (
            "AUC of the final model on each site's own held-out rows, beside its training rows and the share of positives "
            f"among all its rows. AUC from {decimals(min(scored))} to {decimals(max(scored))}. "
        )
    else:
        caption = "No site has an AUC of its own. Training rows, and the share of positives among all rows of a site. "
    together = result.metrics.auc if result.metrics and math.isfinite(result.metrics.auc) else None
    if together is not None:
        caption += f"The dashed line is the AUC on all sites' held-out rows, {decimals(together)}. "
    svg = inline_svg(
        lambda figure: site_panels(figure, shown, together),
        key="sites",
        title=f"{title}: AUC, training rows and share of positives",
        width_in=2 * _WIDTH_IN,
        height_in=1.0 + 0.21 * len(shown),
    )
    return (Chart(key="sites", title=title, caption=caption + sites_note(result), svg=svg, wide=True),)


def _plotted(key: str, title: str, caption: str, draw: Callable[[Figure], None]) -> Chart:
    svg = inline_svg(draw, key=key, title=title, width_in=_WIDTH_IN, height_in=_HEIGHT_IN)
    return Chart(key=key, title=title, caption=caption, svg=svg)


def _of(gates: Iterable[Gate], metric: str) -> list[Gate]:
    return [gate for gate in gates if gate.metric == metric]
