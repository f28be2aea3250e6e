"""Fairness by group, from the counts that an evaluation or a place where a model runs has released.

1. A group is compared with the reference group: the largest whose counts are told, or the one that is named.
2. Every figure has a 95 % interval that counts noise and sampling, or it is a sentence that says why it cannot be said. There is no silent number.
3. Rows without a value for the attribute are a group of their own, `not given`, that is told of and never a reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strategies.analytics.comparisons import Metric, calibration, compared
from strategies.analytics.group_rates import Figure, Group, Rate
from strategies.analytics.panels import NOT_GIVEN, GroupPanel
from strategies.analytics.shares import Interval, share, total
from strategies.errors import UsageError

MOST_NOT_GIVEN: Final = 0.25
"""Where more rows than this have no value for the attribute, the groups need not be those of the people whom the model is used for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """One group. `rows` and `rates` are its own; `against` compares it: the reference group with everybody only, and `not given` with nobody."""

    group: str
    rows: Interval
    rates: Mapping[Rate, Figure]
    against: Mapping[Metric, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """What can be said of one attribute. `suppressed` groups are those of which nothing is told; `cautions` say what a reader must bear in mind."""

    attribute: str
    noise_std: float
    reference: str | None
    rows: Interval
    """Those whose group is told."""
    not_given: Interval | None
    """Share of the rows without a value; None where it is not told."""
    groups: tuple[GroupFigures, ...]
    suppressed: tuple[str, ...]
    cautions: tuple[str, ...]


def fairness_of(
    panel: GroupPanel, noise_std: float, *, reference: str | None = None, minimum: int = 0
) -> Fairness:
    """All figures of `panel`, whose counts have noise of `noise_std` each.

    Groups that may have fewer than `minimum` rows are suppressed beside those that are already. Raises UsageError for a `reference` that the panel does
    not have, and for a panel whose threshold is at no edge between bins.
    """
    _check(panel, reference)
    # In an order that no way of storing counts can change; `not given` last.
    names = sorted(panel.counts, key=lambda name: (name == NOT_GIVEN, name))
    all_groups = [Group(panel, each, noise_std) for each in names]
    told = {each.name: each for each in all_groups if each.rows.low >= minimum}
    suppressed = (*panel.suppressed, *(each.name for each in all_groups if each.name not in told))
    chosen = _largest(told) if reference is None else reference
    given = total(each.all for name, each in told.items() if name != NOT_GIVEN)
    missing = told.get(NOT_GIVEN)
    not_given = None if missing is None else share(missing.all, given, noise_std)
    return Fairness(
        attribute=panel.attribute,
        noise_std=noise_std,
        reference=chosen,
        rows=total(each.all for each in told.values()).rows(noise_std),
        not_given=not_given,
        groups=tuple(_figures(each, told, chosen) for each in told.values()),
        suppressed=suppressed,
        cautions=tuple(_cautions(panel.attribute, told, suppressed, chosen, not_given)),
    )


def _check(panel: GroupPanel, reference: str | None) -> None:
    known = sorted({*panel.counts, *panel.suppressed} - {NOT_GIVEN})
    if reference is not None and reference not in known:
        raise UsageError(
            f"{panel.attribute} has no group {reference!r} to compare with; it has {', '.join(known) or 'none'}"
        )
    if not 0 < panel.declines < len(panel.edges) - 1:
        raise UsageError(
            f"the threshold of {panel.attribute} is edge {panel.declines} of {len(panel.edges) - 1} score bins, so all rows are decided alike"
        )


def _largest(told: Mapping[str, Group]) -> str | None:
    """Ties go to the first by name."""
    named = sorted(name for name in told if name != NOT_GIVEN)
    return max(named, key=lambda name: told[name].all.count, default=None)


def _figures(group: Group, told: Mapping[str, Group], reference: str | None) -> GroupFigures:
    return GroupFigures(
        group=group.name,
        rows=group.rows,
        rates={rate: group.figure(rate) for rate in Rate},
        against=_against(group, told, reference),
    )


def _against(group: Group, told: Mapping[str, Group], reference: str | None) -> Mapping[Metric, Figure]:
    if reference is None or group.name == NOT_GIVEN:
        return {}
    others = [each for each in told.values() if each is not group]
    if group.name == reference:
        return {Metric.GROUP_CALIBRATION: calibration(group, others)}
    if reference not in told:
        hidden = Figure(cannot=f"{reference}, the group to compare with, is suppressed")
        return {**dict.fromkeys(Metric, hidden), Metric.GROUP_CALIBRATION: calibration(group, others)}
    return compared(group, told[reference], others)


def _cautions(
    attribute: str,
    told: Mapping[str, Group],
    suppressed: tuple[str, ...],
    reference: str | None,
    not_given: Interval | None,
) -> Iterator[str]:
    for each in suppressed:
        yield f"{each}: fewer rows than are told of, so its counts are suppressed and nothing is said of it"
    named = [each for each in told if each != NOT_GIVEN]
    if not named:
        yield f"no group of {attribute} can be told of, so nothing is compared"
    elif named == [reference]:
        yield f"only {reference} can be told of, so nothing is compared"
    if not_given is not None and not_given.value > MOST_NOT_GIVEN:
        yield (
            f"{attribute} is not given for {not_given.value:.0%} of the rows (95 %: {not_given.low:.0%} to {not_given.high:.0%}): the figures are about"
            " the others, and these may fare otherwise"
        )
