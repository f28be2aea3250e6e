"""What can be said of a version's fairness at three stages, in figures and in words: of its data, of its evaluation, and of where it runs.

1. Data and evaluation are from the panels of the one evaluation release, production from windows of outcomes that places have released: nothing here asks a
   site for anything, so it costs no budget however often it is looked at.
2. Every figure has its 95 % interval, or a sentence stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from coordinator.registry.production import outcome_windows, production_panels
from protos.windows import Monitor, Window
from strategies.analytics.comparisons import FOUR_FIFTHS, Metric
from strategies.analytics.fairness import Fairness, GroupFigures, fairness_of
from strategies.analytics.group_rates import Figure, Rate
from strategies.analytics.panels import Panels
from strategies.analytics.shares import Interval
from strategies.errors import UsageError

RATES: Final[Mapping[Rate, str]] = {
    Rate.BASE: "turned out bad",
    Rate.APPROVAL: "approved",
    Rate.APPROVAL_GOOD: "approved, of those who turned out good",
    Rate.APPROVAL_BAD: "approved, of those who turned out bad",
    Rate.PRECISION: "turned out good, of those approved",
}
METRICS: Final[Mapping[Metric, str]] = {
    Metric.BASE_RATE: "Base rate difference",
    Metric.ADVERSE_IMPACT_RATIO: "Adverse impact ratio",
    Metric.DEMOGRAPHIC_PARITY: "Demographic parity difference",
    Metric.DEMOGRAPHIC_PARITY_RATIO: "Demographic parity ratio",
    Metric.EQUAL_OPPORTUNITY: "Equal opportunity difference",
    Metric.EQUALISED_ODDS: "Equalised odds difference",
    Metric.PREDICTIVE_PARITY: "Predictive parity difference",
    Metric.GROUP_CALIBRATION: "Largest calibration gap to everybody",
}
_NO_PANELS: Final = "no counts by protected group were released with this version's evaluation: name `protected` columns and `evaluation.fairness` in the plan"
_NO_WINDOWS: Final = "no place has released outcomes by protected group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage, and what it is `about`. Where it has no attributes, `cannot` says why; `declines_at` is the score from which rows count as declined."""

    name: str
    about: str = ""
    attributes: tuple[Fairness, ...] = ()
    declines_at: Mapping[str, float] | None = None
    cannot: str = ""

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage": self.name,
            "about": self.about or None,
            "cannot": self.cannot or None,
            "attributes": [
                facts_of(each) | {"declines_at": (self.declines_at or {}).get(each.attribute)}
                for each in self.attributes
            ],
        }


def stages_of(
    engine: Engine,
    name: str,
    version: int,
    panels: Panels | None,
    against: Mapping[str, str] | None = None,
) -> Sequence[Stage]:
    """Evaluation and production of a version whose evaluation told `panels`. Raises UsageError for a group to compare `against` that there is not."""
    monitor, windows = outcome_windows(engine, name, version)
    declines = {each.edges[each.declines] for each in ((panels and panels.groups) or ())}
    return evaluated(panels, against), in_production(windows, monitor, next(iter(declines), None), against)


def evaluated(panels: Panels | None, against: Mapping[str, str] | None = None) -> Stage:
    """Data and evaluation: groups of the held-out rows and what the model would have decided. `against` names reference groups by attribute.

    Raises UsageError for a group that there is not.
    """
    if panels is None or not panels.groups:
        return Stage(name="evaluation", cannot=_NO_PANELS)
    return _stage("evaluation", "held-out rows of the sites that came", panels, against or {})


def in_production(
    windows: Sequence[Window],
    monitor: Monitor | None,
    declines_at: float | None,
    against: Mapping[str, str] | None = None,
) -> Stage:
    """Of windows of outcomes, which places have released; decisions are read as if whoever scores at least `declines_at` were declined."""
    if monitor is None or declines_at is None:
        return Stage(name="production", cannot=_NO_WINDOWS)
    panels = production_panels(windows, monitor, declines_at)
    if not panels.groups:
        return Stage(name="production", cannot=_NO_WINDOWS)
    return _stage("production", _summed(windows), panels, against or {})


def _summed(windows: Sequence[Window]) -> str:
    told = [each for each in windows if each.outcomes is not None and each.outcomes.groups]
    first, last = min(each.begins for each in told), max(each.ends for each in told)
    places = ", ".join(sorted({each.place for each in told}))
    return f"outcomes that have arrived for decisions from {first:%Y-%m-%d} to {last:%Y-%m-%d} at {places}, in the newest {len(told)} windows"


def _stage(name: str, about: str, panels: Panels, against: Mapping[str, str]) -> Stage:
    if unknown := sorted(set(against) - {each.attribute for each in panels.groups}):
        raise UsageError(
            f"{unknown[0]} is not counted by group here; there are {', '.join(each.attribute for each in panels.groups)}"
        )
    return Stage(
        name=name,
        about=about,
        attributes=tuple(
            fairness_of(each, panels.noise_std, reference=against.get(each.attribute))
            for each in panels.groups
        ),
        declines_at={each.attribute: each.edges[each.declines] for each in panels.groups},
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table: whom a figure is about, what it is called, and how it is named in JSON."""

    group: str
    label: str
    key: str
    figure: Figure

    @property
    def value(self) -> str:
        """The figure alone."""
        found = self.figure.interval
        return "cannot be said" if found is None else f"{found.value:.3f}"

    @property
    def range(self) -> str:
        """Where it lies with 95 % confidence, or why there is no figure."""
        found = self.figure.interval
        return self.figure.cannot if found is None else f"{found.low:.3f} to {_end(found.high)}"


def data_lines(found: Fairness) -> Iterator[Line]:
    """What the data say whatever the model: how often each group turned out bad."""
    for each in found.groups:
        yield Line(each.group, RATES[Rate.BASE], Rate.BASE, each.rates[Rate.BASE])
        if Metric.BASE_RATE in each.against:
            yield _line(each, Metric.BASE_RATE)


def decision_lines(found: Fairness) -> Iterator[Line]:
    """What decisions by score come to."""
    for each in found.groups:
        for rate, figure in each.rates.items():
            if rate is not Rate.BASE:
                yield Line(each.group, RATES[rate], rate, figure)
        for metric in each.against:
            if metric is not Metric.BASE_RATE:
                yield _line(each, metric)


def _line(group: GroupFigures, metric: Metric) -> Line:
    return Line(group.group, METRICS[metric], metric, group.against[metric])


def _end(high: float) -> str:
    return f"{high:.3f}" if math.isfinite(high) else "any number"


# --- in words -------------------------------------------------------------------------------------------------------------


def four_fifths(figure: Figure) -> str:
    """What the rule of four fifths comes to, by the interval and not by the value."""
    found = figure.interval
    if found is None:
        return "cannot be said"
    if found.low >= FOUR_FIFTHS:
        return "above four fifths"
    return "below four fifths" if found.high < FOUR_FIFTHS else "noise and numbers leave open which side"


def sentences(found: Fairness) -> Iterator[str]:
    """What a reader who looks at no table must know."""
    yield from found.cautions
    for each in found.groups:
        yield from _of_group(each, found.reference)


def _of_group(group: GroupFigures, reference: str | None) -> Iterator[str]:
    impact = group.against.get(Metric.ADVERSE_IMPACT_RATIO)
    if impact is not None and impact.interval is not None:
        yield (
            f"{group.group} is approved {_times(impact.interval)} as often as {reference}: {four_fifths(impact)}"
        )
    unsaid: dict[str, list[str]] = {}
    for metric, figure in group.against.items():
        if figure.interval is None:
            unsaid.setdefault(figure.cannot, []).append(METRICS[metric])
    for why, metrics in unsaid.items():
        yield f"{group.group}: {', '.join(metrics)} cannot be said, since {why}"


def _times(found: Interval) -> str:
    return f"{found.value:.3f} times (95 %: {found.low:.3f} to {_end(found.high)})"


# --- as JSON --------------------------------------------------------------------------------------------------------------


def facts_of(found: Fairness) -> dict[str, Any]:
    """All of it; an end that is infinite is null."""
    return {
        "attribute": found.attribute,
        "reference": found.reference,
        "noise_std": found.noise_std,
        "rows": _interval(found.rows),
        "not_given": None if found.not_given is None else _interval(found.not_given),
        "groups": [
            {
                "group": each.group,
                "rows": _interval(each.rows),
                "rates": {rate.value: _facts(figure) for rate, figure in each.rates.items()},
                "against": {metric.value: _facts(figure) for metric, figure in each.against.items()},
                "four_fifths": four_fifths(each.against[Metric.ADVERSE_IMPACT_RATIO])
                if Metric.ADVERSE_IMPACT_RATIO in each.against
                else None,
            }
            for each in found.groups
        ],
        "suppressed": list(found.suppressed),
        "cautions": list(found.cautions),
    }


def _facts(figure: Figure) -> dict[str, Any]:
    told = (
        _interval(figure.interval) if figure.interval is not None else dict.fromkeys(("value", "low", "high"))
    )
    return {**told, "cannot": figure.cannot or None}


def _interval(found: Interval) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None
        for name, value in (("value", found.value), ("low", found.low), ("high", found.high))
    }
