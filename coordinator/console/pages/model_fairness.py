"""A version's fairness by protected group on its page: figures with intervals, what cannot be said in words, and the adverse impact ratios as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.registry.fairness import (
    Line,
    Stage,
    data_lines,
    decision_lines,
    four_fifths,
    sentences,
)
from protos.quantities import thousands
from strategies.analytics.comparisons import FOUR_FIFTHS, Metric
from strategies.analytics.fairness import Fairness
from strategies.analytics.group_rates import Figure
from strategies.analytics.shares import Interval

_TONES: Final[Mapping[str, Tone]] = {"above four fifths": "good", "below four fifths": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessView:
    """What the template shows of one attribute: `said` in words, then tables and perhaps a chart."""

    attribute: str
    stage: str
    about: str
    said: Sequence[str]
    tables: Sequence[Table]
    chart: Chart | None


def fairness_views(stages: Sequence[Stage]) -> Sequence[FairnessView]:
    """One for each stage and protected attribute whose counts are released."""
    told = [(stage, each) for stage in stages for each in stage.attributes]
    return [_view(f"fairness-{number}", each, stage) for number, (stage, each) in enumerate(told, start=1)]


def _view(key: str, found: Fairness, stage: Stage) -> FairnessView:
    name, at = found.attribute, (stage.declines_at or {})[found.attribute]
    return FairnessView(
        attribute=name,
        stage=stage.name,
        about=stage.about,
        said=tuple(sentences(found)),
        tables=(
            _groups(key, found),
            _lines(f"{key}-data", f"{name}: what the data say", data_lines(found)),
            _lines(
                f"{key}-decisions",
                f"{name}: decisions at a threshold of {at:.4g}, compared with {found.reference}",
                decision_lines(found),
            ),
        ),
        chart=_chart(key, found),
    )


def _groups(key: str, found: Fairness) -> Table:
    rows = [
        [
            Cell(each.group),
            Cell(round(each.rows.value), text=thousands(each.rows.value)),
            Cell(
                f"{thousands(each.rows.low)} to {thousands(each.rows.high)}" if found.noise_std else "exact"
            ),
            _ruled(each.against, is_reference=each.group == found.reference),
        ]
        for each in found.groups
    ]
    rows += [
        [Cell(each), Cell("suppressed", tone="quiet"), Cell(None), Cell(None)] for each in found.suppressed
    ]
    return Table(
        name=f"{key}-groups",
        caption=f"{found.attribute}: rows by group",
        columns=[
            Column("Group"),
            Column("Rows", number=True),
            Column("95 %, for noise"),
            Column("Four fifths"),
        ],
        rows=rows,
    )


def _ruled(against: Mapping[Metric, Figure], *, is_reference: bool) -> Cell:
    figure = against.get(Metric.ADVERSE_IMPACT_RATIO)
    if figure is None:
        return Cell("the reference group" if is_reference else "compared with nobody")
    words = four_fifths(figure)
    return Cell(words, tone=_TONES.get(words, "warn"))


def _lines(name: str, caption: str, lines: Iterable[Line]) -> Table:
    return Table(
        name=name,
        caption=caption,
        columns=[Column("Group"), Column("Figure"), Column("Value", number=True), Column("95 % interval")],
        rows=[
            [
                Cell(each.group),
                Cell(each.label),
                Cell(None if each.figure.interval is None else each.figure.interval.value, text=each.value),
                Cell(each.range),
            ]
            for each in lines
        ],
    )


def _chart(key: str, found: Fairness) -> Chart | None:
    told: dict[str, Interval] = {}
    for each in found.groups:
        figure = each.against.get(Metric.ADVERSE_IMPACT_RATIO)
        if figure is not None and figure.interval is not None:
            told[each.group] = figure.interval
    if not told:
        return None
    return Chart(
        name=f"{key}-impact",
        title=f"{found.attribute}: approval rate over that of {found.reference}",
        x="group",
        y="adverse impact ratio",
        axis="category",
        y_from=0.0,
        bounds=[Bound(name="four fifths", at=FOUR_FIFTHS)],
        series=[
            Series(name="ratio", kind="bar", points=[(group, each.value) for group, each in told.items()]),
            Series(
                name="lower end", kind="scatter", points=[(group, each.low) for group, each in told.items()]
            ),
            Series(
                name="upper end",
                kind="scatter",
                # One that may be any number has no place in the picture.
                points=[
                    (group, each.high if math.isfinite(each.high) else None) for group, each in told.items()
                ],
            ),
        ],
    )
