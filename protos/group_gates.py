"""What a gate on a protected attribute comes to, from the panels of the last evaluation.

1. The group that fares worst decides, by the bad end of its 95 % interval, which counts noise and sampling; each group has to pass by itself, so a model
   passes wrongly no more often than where one group is looked at.
2. A group that is suppressed, or that nothing can be said of, does not pass; nor does an attribute that too many rows do not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protos.plan_gates import Gate
from strategies.analytics.comparisons import Metric
from strategies.analytics.fairness import MOST_NOT_GIVEN, Fairness, fairness_of
from strategies.analytics.group_rates import Figure
from strategies.analytics.panels import NOT_GIVEN, Panels
from strategies.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstGroup:
    """`group` has the worst end, which is `judged`; `value` is its figure, without sign."""

    group: str
    value: float
    judged: float


def worst_group(gate: Gate, panels: Panels | None) -> WorstGroup | str:
    """The group that decides `gate`, or why none can."""
    groups = () if panels is None else panels.groups
    panel = next((each for each in groups if each.attribute == gate.group), None)
    if panels is None or panel is None:
        return f"the last evaluation gave no counts by {gate.group}"
    try:
        found = fairness_of(panel, panels.noise_std, reference=gate.reference)
    except UsageError as error:
        return str(error)
    return next(_obstacles(gate, found), None) or _worst(gate, found)


def _obstacles(gate: Gate, found: Fairness) -> Iterator[str]:
    """What keeps a gate from being judged, most telling first."""
    missing = found.not_given
    if missing is not None and missing.high > MOST_NOT_GIVEN:
        yield (
            f"{gate.group} is not given for {missing.value:.0%} of the rows (95 %: up to {missing.high:.0%}), so the groups need not be those of the people"
            f" concerned; at most {MOST_NOT_GIVEN:.0%} may be without"
        )
    asked = (
        None if gate.only is None else {*gate.only, *(() if gate.reference is None else (gate.reference,))}
    )
    hidden = [each for each in found.suppressed if each != NOT_GIVEN and (asked is None or each in asked)]
    if hidden:
        yield (
            f"{', '.join(hidden)} cannot be said anything of: fewer rows than are told of. Hold out more rows, or name the groups that can be judged in `only`"
        )
    told = {each.group for each in found.groups}
    if unknown := sorted(set(gate.only or ()) - told):
        yield f"no group of {gate.group} is called {unknown[0]}; there are {', '.join(sorted(told - {NOT_GIVEN}))}"


def _worst(gate: Gate, found: Fairness) -> WorstGroup | str:
    metric, judged = Metric(gate.metric), []
    for name, figure in _figures(gate, metric, found):
        if figure.interval is None:
            return f"of {name} against {found.reference} it cannot be said: {figure.cannot}"
        if gate.side == "at_least":
            judged.append(WorstGroup(group=name, value=figure.interval.value, judged=figure.interval.low))
        else:
            size = figure.interval.magnitude
            judged.append(WorstGroup(group=name, value=size.value, judged=size.high))
    if not judged:
        return f"{gate.group} has one group that can be told of, {found.reference}, and nothing to compare it with"
    worst = min if gate.side == "at_least" else max
    return worst(judged, key=lambda each: each.judged)


def _figures(gate: Gate, metric: Metric, found: Fairness) -> Iterator[tuple[str, Figure]]:
    for each in found.groups:
        if metric in each.against and (gate.only is None or each.group in gate.only):
            yield each.group, each.against[metric]
