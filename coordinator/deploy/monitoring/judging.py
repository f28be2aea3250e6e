"""What one window says beside the reference: each stream's figures and its test, and which streams moved. Pure.

1. A window may use its share of the horizon's false-alarm rate, and its streams share that (`strategies.analytics.drift`).
2. A stream that has too few rows says so in words, and is tested by nobody: it uses nothing of the rate.
3. A window whose place had nothing left to spend has no counts, and nothing is concluded from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from protos.drift import DriftReference, DriftRules
from protos.windows import Counted, Outcomes, Window
from strategies.analytics.drift import Statistic, drift_between, moved_streams, window_level
from strategies.analytics.estimates import Estimate
from strategies.analytics.outcome_drift import OutcomeCounts, ScoreScale, outcome_drift, performance
from strategies.analytics.two_histograms import Histogram
from strategies.errors import Refused

SCORE: Final = "score"
INPUT: Final = "input "
OUTCOMES: Final = "outcomes"
SPENT: Final = (
    "the place's monitoring budget of this period is spent: it tells nothing, and compares with the reference"
    " itself (`covenant score windows` there)"
)
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of a window. `said` is why nothing can be said, and then there is nothing else."""

    name: str
    said: str | None = None
    p_value: float | None = None
    excess: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        found = {"p_value": self.p_value, "excess": round(self.excess, _DIGITS), **self.figures}
        return {"said": self.said} if self.said is not None else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A window's streams, the `level` of its tests, and the streams that `moved`, the clearest first. `said` is what keeps all of it from saying anything."""

    level: float
    streams: tuple[Stream, ...] = ()
    moved: tuple[str, ...] = ()
    said: str | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        streams = {each.name: each.facts() for each in self.streams}
        return {"level": self.level, "moved": list(self.moved), "said": self.said, "streams": streams}

    def excess(self, name: str) -> float:
        """By how much the statistic of a stream is above chance."""
        return next((each.excess for each in self.streams if each.name == name), 0.0)


def judge(window: Window, reference: DriftReference, rules: DriftRules, scale: ScoreScale) -> Judged:
    """Judge a window of the reference's bins (`protos.drift.require_window`)."""
    level = window_level(rules.false_alarm_rate, rules.horizon)
    if window.counted is not None:
        streams = tuple(_of_decisions(window.counted, reference, rules, level))
    elif window.outcomes is not None:
        streams = tuple(_of_outcomes(window.outcomes, reference, rules, scale))
    else:
        return Judged(level=level, said=SPENT)
    tested = {each.name: each.p_value for each in streams if each.p_value is not None}
    said = None if tested else next((each.said for each in streams), None)
    return Judged(level=level, streams=streams, moved=moved_streams(tested, level), said=said)


def histograms(
    counted: Counted, reference: DriftReference
) -> Iterator[tuple[str, Histogram, Histogram, bool]]:
    """Each stream of decisions: its name, the reference's and the window's histogram, and whether bins have an order."""
    scores = Histogram(np.array(counted.scores), counted.noise_std)
    yield SCORE, reference.score_histogram(), scores, True
    for name in sorted(reference.profile):
        ours = Histogram(np.array(counted.profile[name]), counted.noise_std)
        yield f"{INPUT}{name}", reference.histogram(name), ours, reference.form_of(name) == "number"


def _of_decisions(
    counted: Counted, reference: DriftReference, rules: DriftRules, level: float
) -> Iterator[Stream]:
    streams = 1 + len(reference.profile)
    for name, theirs, ours, ordered in histograms(counted, reference):
        try:
            found = drift_between(
                theirs, ours, tolerated_psi=rules.tolerated_psi, ordered=ordered, apart=name != SCORE
            )
        except Refused as error:
            yield Stream(name=name, said=str(error))
            continue
        finds = found.statistic.finds(level / streams)
        figures = {
            "rows": round(found.rows),
            "psi": _numbers(found.psi),
            "js": _numbers(found.js),
            "ks": None if found.ks is None else _numbers(found.ks),
            "finds_psi": round(finds, _DIGITS) if np.isfinite(finds) else None,
        }
        yield _tested(name, found.statistic, figures)


def _of_outcomes(
    outcomes: Outcomes, reference: DriftReference, rules: DriftRules, scale: ScoreScale
) -> Iterator[Stream]:
    ours, theirs = OutcomeCounts(np.array(outcomes.counts), outcomes.noise_std), reference.outcomes()
    try:
        found = outcome_drift(theirs, ours, tolerated_psi=rules.tolerated_psi)
        metrics = performance(theirs, ours, scale, tolerated_drop=rules.tolerated_drop)
    except Refused as error:
        yield Stream(name=OUTCOMES, said=str(error))
        return
    figures = {
        "rows": int(ours.counts.sum()),
        "first_bins": list(found.bounds),
        "observed": [round(each, _DIGITS) for each in found.observed],
        "expected": [round(each, _DIGITS) for each in found.expected],
    }
    yield _tested(OUTCOMES, found.statistic, figures)
    for name, metric in metrics.items():
        told = {"window": _numbers(metric.window), "reference": _numbers(metric.reference)}
        yield Stream(name=name, p_value=metric.p_value, figures=told)


def _tested(name: str, statistic: Statistic, figures: Mapping[str, Any]) -> Stream:
    return Stream(name=name, p_value=statistic.p_value, excess=statistic.excess, figures=figures)


def _numbers(estimate: Estimate) -> list[float]:
    """Value, low and high."""
    return [round(each, _DIGITS) for each in (estimate.value, estimate.low, estimate.high)]
