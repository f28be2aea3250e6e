"""Sites side by side: each one's AUC beside how many rows it has and how many of them are positive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulation.report.drawing import BLUE, PALE
from simulation.report.svg import FAINT, INK
from simulation.report.words import decimals, percent
from simulation.result import SiteResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def site_panels(figure: Figure, sites: Sequence[SiteResult], together: float | None) -> None:
    """Three panels over the same lines, one a site, first on top. `together` is the AUC on all sites' rows."""
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(5, 3, 3))
    auc, rows, positives = panels
    _auc(auc, sites, together)
    _bars(rows, [site.training_rows for site in sites], [f"{site.training_rows:,}" for site in sites])
    _bars(positives, [100 * site.positives for site in sites], [percent(site.positives) for site in sites])
    for axes, title, label in (
        (auc, "AUC on own held-out rows", "AUC"),
        (rows, "Training rows", "rows"),
        (positives, "Positives", "% of all rows of the site"),
    ):
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    auc.set_yticks(range(len(sites)), [site.site for site in sites], color=INK)
    auc.set_ylim(len(sites) - 0.4, -0.6)
    rows.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _auc(axes: Axes, sites: Sequence[SiteResult], together: float | None) -> None:
    known = [
        (line, site.auc)
        for line, site in enumerate(sites)
        if site.auc is not None and math.isfinite(site.auc)
    ]
    values = [value for _, value in known] + ([] if together is None else [together])
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = max(0.25 * (high - low), 0.01)
    axes.set_xlim(low - room, high + room)
    if values:
        axes.grid(axis="both")
    else:
        axes.set_xticks([])
    if together is not None:
        axes.axvline(together, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(
        [value for _, value in known], [line for line, _ in known], linestyle="", marker="o", color=BLUE
    )
    for line, value in known:
        _beside(axes, value, line, decimals(value))
    for line in sorted(set(range(len(sites))) - {line for line, _ in known}):
        _beside(axes, low - room, line, "no AUC")


def _bars(axes: Axes, values: Sequence[float], labels: Sequence[str]) -> None:
    lengths = [value if math.isfinite(value) else 0.0 for value in values]
    axes.barh(range(len(lengths)), lengths, height=0.6, color=PALE)
    axes.set_xlim(0, max(*lengths, 0.0, 1e-9) * 1.3)  # room for the figures
    for line, (value, label) in enumerate(zip(lengths, labels, strict=True)):
        _beside(axes, value, line, label)


def _beside(axes: Axes, value: float, line: int, label: str) -> None:
    axes.annotate(
        label,
        (value, line),
        xytext=(6, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=8,
        color=FAINT,
    )
