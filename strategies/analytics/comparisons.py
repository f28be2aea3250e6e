"""How one protected group stands to another, and to everybody: differences and ratios of their shares, with 95 % intervals.

Hardt, Price, Srebro 2016 (equal opportunity, equalised odds); Chouldechova 2017 (predictive parity, calibration); 29 CFR 1607.4(D) (four fifths).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from strategies.analytics.group_rates import Figure, Group, Rate
from strategies.analytics.shares import Counted, Interval, difference, ratio, share, total

FOUR_FIFTHS: Final = 0.8
LEAST_SHARE: Final = 0.05
"""A score bin with a smaller share of a group's rows is too small to show a calibration gap."""


class Metric(StrEnum):
    """How a group stands to the reference group, or to everybody."""

    BASE_RATE = "base_rate_difference"
    ADVERSE_IMPACT_RATIO = "adverse_impact_ratio"
    """Approval rate of the group over that of the reference."""
    DEMOGRAPHIC_PARITY = "demographic_parity"
    """The difference of these two rates."""
    DEMOGRAPHIC_PARITY_RATIO = "demographic_parity_ratio"
    """The smaller of them over the larger."""
    EQUAL_OPPORTUNITY = "equal_opportunity"
    """Difference of the approval rates among rows that turned out good."""
    EQUALISED_ODDS = "equalised_odds"
    """The larger of that and the same among rows that turned out bad, without sign; the interval holds for both at once."""
    PREDICTIVE_PARITY = "predictive_parity"
    """Difference of the shares of good among those approved."""
    GROUP_CALIBRATION = "group_calibration"
    """The largest gap, without sign, between label 1's share in the group and among everybody whose group is told, in one score bin; for all bins at once."""


_ANY_RATIO: Final = (0.0, math.inf)
_ANY_SHARE: Final = (0.0, 1.0)
_ANY_DIFFERENCE: Final = (-1.0, 1.0)
_OPEN: Final[Mapping[Metric, tuple[float, float]]] = {
    Metric.ADVERSE_IMPACT_RATIO: _ANY_RATIO,
    Metric.DEMOGRAPHIC_PARITY_RATIO: _ANY_SHARE,
    Metric.EQUALISED_ODDS: _ANY_SHARE,
    Metric.GROUP_CALIBRATION: _ANY_SHARE,
}
_Found = Interval | str


def compared(one: Group, other: Group, everybody_else: Sequence[Group]) -> Mapping[Metric, Figure]:
    """All metrics of `one` against `other`, and against all groups that are told."""
    impact = _impact(one, other)
    found: Mapping[Metric, _Found] = {
        Metric.BASE_RATE: _differing(one, other, Rate.BASE),
        Metric.ADVERSE_IMPACT_RATIO: impact,
        Metric.DEMOGRAPHIC_PARITY: _differing(one, other, Rate.APPROVAL),
        Metric.DEMOGRAPHIC_PARITY_RATIO: impact if isinstance(impact, str) else _folded(impact),
        Metric.EQUAL_OPPORTUNITY: _differing(one, other, Rate.APPROVAL_GOOD),
        Metric.EQUALISED_ODDS: _odds(one, other),
        Metric.PREDICTIVE_PARITY: _differing(one, other, Rate.PRECISION),
    }
    figures = {metric: _figure(metric, each) for metric, each in found.items()}
    return {**figures, Metric.GROUP_CALIBRATION: calibration(one, everybody_else)}


def calibration(one: Group, everybody_else: Sequence[Group]) -> Figure:
    """`one` against all groups that are told, which the reference group has too."""
    return _figure(Metric.GROUP_CALIBRATION, _calibration(one, everybody_else))


def _figure(metric: Metric, found: _Found) -> Figure:
    """A figure; one that may be anything is none."""
    if isinstance(found, str):
        return Figure(cannot=found)
    low, high = _OPEN.get(metric, _ANY_DIFFERENCE)
    if found.low <= low and found.high >= high:
        return Figure(cannot="noise and the number of rows leave open whatever it can be")
    return Figure(interval=found)


def _shares(one: Group, other: Group, rate: Rate, choices: int = 1) -> tuple[Interval, Interval] | str:
    ours, theirs = one.share(rate, choices), other.share(rate, choices)
    if ours is None:
        return one.too_few(rate)
    if theirs is None:
        return other.too_few(rate)
    return ours, theirs


def _differing(one: Group, other: Group, rate: Rate) -> _Found:
    both = _shares(one, other, rate)
    return both if isinstance(both, str) else difference(*both)


def _impact(one: Group, other: Group) -> _Found:
    both = _shares(one, other, Rate.APPROVAL)
    if isinstance(both, str):
        return both
    found = ratio(*both)
    return f"nobody of {other.name} is seen to be approved, so nothing is over it" if found is None else found


def _folded(found: Interval) -> Interval:
    """A ratio as the smaller over the larger."""
    value, *ends = (
        min(each, 1.0 / each) if each > 0.0 else 0.0 for each in (found.value, found.low, found.high)
    )
    return Interval(value, min(ends), 1.0 if found.low <= 1.0 <= found.high else max(ends))


def _odds(one: Group, other: Group) -> _Found:
    found = []
    for rate in (Rate.APPROVAL_GOOD, Rate.APPROVAL_BAD):
        both = _shares(one, other, rate, choices=2)
        if isinstance(both, str):
            return both
        found.append(difference(*both).magnitude)
    return _largest(found)


def _largest(found: Sequence[Interval]) -> Interval:
    """The largest of several magnitudes, whose intervals hold at once."""
    return Interval(
        max(each.value for each in found), max(each.low for each in found), max(each.high for each in found)
    )


def _calibration(group: Group, others: Sequence[Group]) -> _Found:
    if not others:
        return f"{group.name} is everybody whose group is told"
    ours, theirs = group.bins(), [each.bins() for each in others]
    least = LEAST_SHARE * group.all.count
    large = [
        place for place, (bad, good) in enumerate(ours) if (bad + good).rows(group.noise_std).high >= least
    ]
    gaps = []
    for place in large:
        rest = total(each[place][0] for each in theirs), total(each[place][1] for each in theirs)
        gap = _gap(ours[place], rest, group.noise_std, len(large))
        if gap is None:
            return (
                f"in score bin {place + 1}, which may have {LEAST_SHARE:.0%} of the rows of {group.name} or more, there are too few of them or of everybody"
                " else to be told from none"
            )
        gaps.append(gap)
    return _largest(gaps) if gaps else f"{group.name} has no score bin that is large enough"


def _gap(
    ours: tuple[Counted, Counted], rest: tuple[Counted, Counted], noise_std: float, choices: int
) -> Interval | None:
    """A group is part of everybody, so what is compared is the group and the rest, times the rest's share of the bin."""
    one, other = (share(*each, noise_std, choices) for each in (ours, rest))
    if one is None or other is None:
        return None
    rows, outside = (float((bad + good).count) for bad, good in (ours, rest))
    part, found = outside / (rows + outside), difference(one, other).magnitude
    return Interval(part * found.value, part * found.low, part * found.high)
