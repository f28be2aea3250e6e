"""The section on fairness by protected group: what the evaluation's released counts say of data and decisions, figure by figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coordinator.governance.evidence.about_performance import last_panels
from coordinator.governance.evidence.charts import whiskers
from coordinator.governance.evidence.content import Block, Cell, Chart, Points, Section, Words, table
from coordinator.governance.evidence.facts import Fact, fact
from coordinator.governance.evidence.story import Story
from coordinator.registry.fairness import (
    Line,
    Stage,
    data_lines,
    decision_lines,
    evaluated,
    sentences,
)
from protos.quantities import thousands
from strategies.analytics.comparisons import FOUR_FIFTHS, Metric
from strategies.analytics.fairness import Fairness

_COMPUTED = "from the counts by group, label and score bin in this entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where figures come from: the beginning of their names, the entries of the log, how they follow from those, and what `rows` are counted."""

    prefix: str
    places: tuple[int, ...]
    derived: str
    rows: str


_READ = (
    "A good outcome is the contract's negative class, and approved is a score below the threshold. Each interval is of 95 % and counts the noise of the"
    " release and the sampling of held-out rows; a figure for which nothing can be said is a sentence."
)


def fairness(story: Story) -> Section:
    """What is told of every protected attribute that the plan counts."""
    found = last_panels(story)
    stage = evaluated(None if found is None else found[0])
    if found is None or not stage.attributes:
        return Section("Fairness by protected group", (Words("Of protected groups nothing was released."),))
    blocks: list[Block] = [Words(_READ)]
    origin = Origin(prefix="fairness", places=found[1], derived=_COMPUTED, rows="held-out rows")
    for each in stage.attributes:
        blocks += attribute_blocks(each, stage, origin)
    return Section("Fairness by protected group", tuple(blocks))


def attribute_blocks(found: Fairness, stage: Stage, origin: Origin) -> Iterator[Block]:
    """What is told of one attribute at one stage: sentences, rows, figures and a picture."""
    name = found.attribute
    told = [
        fact(f"{origin.prefix}.{name}.{number}", "said", each, origin.places, derived=origin.derived)
        for number, each in enumerate(sentences(found), start=1)
    ]
    if told:
        yield Points(tuple(told))
    yield _groups(found, origin)
    at = (stage.declines_at or {})[name]
    yield from _lines(f"{name}: what the data say", name, data_lines(found), origin)
    yield from _lines(
        f"{name}: decisions at a threshold of {at:.4g}, compared with {found.reference}",
        name,
        decision_lines(found),
        origin,
    )
    yield from _chart(found)


def _groups(found: Fairness, origin: Origin) -> Block:
    name = found.attribute
    rows: list[list[Cell]] = [
        [
            each.group,
            _fact(name, each.group, "rows", round(each.rows.value), origin),
            _fact(
                name,
                each.group,
                "rows.interval",
                f"{thousands(each.rows.low)} to {thousands(each.rows.high)}",
                origin,
            ),
        ]
        for each in found.groups
    ]
    rows += [[each, "suppressed", ""] for each in found.suppressed]
    return table(f"{name}: {origin.rows}", ("group", "rows", "95 %, for noise"), rows, (1,))


def _lines(title: str, attribute: str, lines: Iterable[Line], origin: Origin) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for each in lines:
        one = each.figure.interval
        cells: list[Cell] = [each.group, each.label, each.value, each.range]
        if one is not None:
            cells[2:] = [
                _fact(attribute, each.group, each.key, one.value, origin, each.value),
                _fact(attribute, each.group, f"{each.key}.interval", each.range, origin),
            ]
        rows.append(cells)
    if rows:
        yield table(title, ("group", "figure", "value", "95 % interval"), rows, (2,))


def _fact(
    attribute: str,
    group: str,
    key: str,
    value: float | str,
    origin: Origin,
    shown: str | None = None,
) -> Fact:
    name = f"{origin.prefix}.{attribute}.{group}.{key}"
    return fact(name, key, value, origin.places, shown=shown, derived=origin.derived)


def _chart(found: Fairness) -> Iterator[Block]:
    drawn = []
    for each in found.groups:
        figure = each.against.get(Metric.ADVERSE_IMPACT_RATIO)
        if figure is not None and figure.interval is not None:
            one = figure.interval
            high = f"{one.high:.3f}" if math.isfinite(one.high) else "any number"
            drawn.append(
                (each.group, (one.value, one.low, one.high), f"{one.value:.3f} ({one.low:.3f} to {high})")
            )
    if not drawn:
        return
    title = f"{found.attribute}: adverse impact ratio with its 95 % interval"
    words = f"{len(drawn)} groups compared with {found.reference}; the dotted line is at {FOUR_FIFTHS:g}. The table above has the figures."
    yield Chart(title=title, words=words, svg=whiskers(drawn, title, words, FOUR_FIFTHS))
