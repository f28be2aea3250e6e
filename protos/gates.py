"""Whether a model passes the gates of its plan: a pure function of what is registered, of what the log has of its run, and of what policies say.

1. A figure that noise may have moved is judged by the bad end of where it lies with 95 % confidence, and so is the difference to a champion. An exact
   one is judged as it is. The confidence is about the noise: what the exact counts of the very same held-out rows would have given.
2. KS and the calibration gap are the largest of several figures: their ends hold for all of these at once (Bonferroni).
3. A figure by protected group is judged by the group that fares worst, and counts the sampling of rows too (`protos.group_gates`).
4. `explanation_stability` is judged by the lower end of the rank correlation between parts (`protos.explanation_gates`).
5. What is not there does not pass: no metrics, no champion, no gates at all.
6. Whoever has the log comes to the same verdict, so it is recomputed there (`log_gate`). Figures may differ in the last bits between machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from protos.contract import Contract
from protos.documents import Document, Part
from protos.explanation_gates import agreement_of_parts
from protos.group_gates import worst_group
from protos.names import Run, Sha256
from protos.plan import Plan
from protos.plan_gates import MOST_GATES, Gate
from protos.plan_privacy import Privacy
from protos.plan_releases import forecast, releases_of
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.noisy import CALIBRATION_GROUPS
from strategies.encoding import json_numbers
from strategies.errors import UsageError
from strategies.ids import Digest, RunId

CONFIDENCE: Final = 0.95
STABLE_OVER: Final = 3
"""How many of the last evaluated rounds `stability` is about."""
LEAST_SHARE: Final = 0.02
"""A group with a smaller share of the rows is too small to show a calibration gap."""
MOST_POLICIES: Final = 1000
LONGEST_FINDING: Final = 500
_CLOSE: Final = 1e-9
_UNREADABLE: Final = (AttributeError, KeyError, OverflowError, TypeError, ValueError)
"""What figures in a log lead to that no version of Covenant has written: their shape is not checked before they are judged."""

Figures = Annotated[dict[str, Any], BeforeValidator(json_numbers)]


class PolicyFinding(Part):
    """What a rule says that blocks where it does not hold."""

    rule: Annotated[str, Field(min_length=1, max_length=200)]
    holds: bool
    words: Annotated[str, Field(max_length=LONGEST_FINDING)] = ""


class Evidence(Part):
    """What is recorded of a run: the metrics of its last round, with a champion's in them, and the AUC of each evaluated round that has one."""

    metrics: Figures | None = None
    aucs: Annotated[tuple[float, ...], Field(max_length=10_000)] = ()

    @classmethod
    def of_rounds(cls, rounds: Mapping[int, Mapping[str, Any]], last: int) -> Evidence:
        """From the recorded metrics of rounds; `last` is the one that the model comes from. Raises UsageError for metrics without an AUC."""
        found, metrics = sorted(rounds.items()), rounds.get(last)
        try:
            aucs = tuple(float(each["auc"]) for _, each in found)
        except _UNREADABLE as error:
            raise UsageError(f"the recorded metrics of a round cannot be read: {error!r}") from error
        return cls(metrics=None if metrics is None else dict(metrics), aucs=aucs)


class GateResult(Part):
    """What one gate came to. `value` is the figure, `noise_std` what noise gives it (None of a figure by group or part, whose interval has more in it), `judged` the end that counts; None where there is no figure."""

    gate: Gate
    passed: bool
    value: float | None = None
    noise_std: float | None = None
    judged: float | None = None
    reason: Annotated[str, Field(max_length=500)]


class Verdict(Document):
    """What the gates say of one version, with all that they went by."""

    covenant: Literal["verdict/v1"] = "verdict/v1"
    model: Annotated[str, Field(max_length=80)]
    artifacts: Sha256
    """The version's digest."""
    returned: Annotated[int, Field(ge=1)] | None = None
    """How often the version had come back from quarantine, if ever: so no approval that was given on a verdict of before counts on one of after."""
    run: Run
    plan: Sha256
    contract: Sha256
    confidence: float = CONFIDENCE
    evidence: Evidence
    gates: Annotated[tuple[GateResult, ...], Field(max_length=MOST_GATES)]
    policies: Annotated[tuple[PolicyFinding, ...], Field(max_length=MOST_POLICIES)] = ()
    passed: bool

    @property
    def failures(self) -> tuple[str, ...]:
        """Why it did not pass, one sentence each."""
        found = [each.reason for each in self.gates if not each.passed]
        found += [f"rule {each.rule} does not hold: {each.words}" for each in self.policies if not each.holds]
        return (
            tuple(found)
            if self.gates
            else ("the plan has no gates, so nothing says what is good enough", *found)
        )

    def is_like(self, other: Verdict) -> bool:
        """Whether both say the same, but for the last bits of figures."""
        return _is_like(self.model_dump(mode="json"), other.model_dump(mode="json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The version that is judged: `ref` and `digest` as registered, the documents of its run, and how often it came back from quarantine."""

    ref: str
    digest: Digest
    run: RunId
    plan: Plan
    contract: Contract
    returned: int = 0


def judge(subject: Subject, evidence: Evidence, policies: Sequence[PolicyFinding] = ()) -> Verdict:
    """The verdict on `subject`. Raises UsageError for metrics that no version of Covenant has recorded."""
    try:
        metrics = None if evidence.metrics is None else ScoreMetrics.from_facts(evidence.metrics)
        results = tuple(_judged(gate, subject, evidence, metrics) for gate in subject.plan.gates or ())
    except _UNREADABLE as error:
        raise UsageError(f"the recorded metrics of {subject.ref} cannot be read: {error!r}") from error
    return Verdict(
        model=subject.ref,
        artifacts=subject.digest,
        returned=subject.returned or None,
        run=subject.run,
        plan=subject.plan.digest,
        contract=subject.contract.digest,
        evidence=evidence,
        gates=results,
        policies=tuple(policies),
        passed=bool(results)
        and all(each.passed for each in results)
        and all(each.holds for each in policies),
    )


@dataclass(frozen=True, slots=True)
class _Figure:
    """A value, the standard deviation that noise gives it, and how many figures it is the largest of."""

    value: float
    std: float = 0.0
    choices: int = 1

    def end(self, side: str) -> float:
        """The bad end for a bound on `side`."""
        if not self.std:
            return self.value
        reach = NormalDist().inv_cdf(1.0 - (1.0 - CONFIDENCE) / self.choices) * self.std
        return self.value - reach if side == "at_least" else self.value + reach


def _judged(gate: Gate, subject: Subject, evidence: Evidence, metrics: ScoreMetrics | None) -> GateResult:
    if gate.group is not None and metrics is not None:
        return _judged_by_group(gate, metrics)
    if gate.metric == "explanation_stability" and metrics is not None:
        return _judged_by_parts(gate, metrics)
    figure = _figure(gate, subject, evidence, metrics)
    if isinstance(figure, str):
        return _not_judged(gate, figure)
    judged = figure.end(gate.side)
    return GateResult(
        gate=gate,
        passed=_passes(gate, judged),
        value=figure.value,
        noise_std=figure.std,
        judged=judged,
        reason=f"{gate.words}: it is {figure.value:.6g}{_sure(gate, judged) if figure.std else ''}",
    )


def _judged_by_group(gate: Gate, metrics: ScoreMetrics) -> GateResult:
    worst = worst_group(gate, metrics.panels)
    if isinstance(worst, str):
        return _not_judged(gate, worst)
    return GateResult(
        gate=gate,
        passed=_passes(gate, worst.judged),
        value=worst.value,
        judged=worst.judged,
        reason=f"{gate.words}: of {worst.group} it is {worst.value:.6g}{_sure(gate, worst.judged)}",
    )


def _judged_by_parts(gate: Gate, metrics: ScoreMetrics) -> GateResult:
    found = agreement_of_parts(metrics.panels)
    if isinstance(found, str):
        return _not_judged(gate, found)
    return GateResult(
        gate=gate,
        passed=_passes(gate, found.low),
        value=found.value,
        judged=found.low,
        reason=f"{gate.words}: it is {found.value:.6g}{_sure(gate, found.low)}",
    )


def _not_judged(gate: Gate, why: str) -> GateResult:
    return GateResult(gate=gate, passed=False, reason=f"{gate.words}: {why}"[:LONGEST_FINDING])


def _passes(gate: Gate, judged: float) -> bool:
    """Phrased so that NaN does not pass."""
    return judged >= gate.bound if gate.side == "at_least" else judged <= gate.bound


def _sure(gate: Gate, judged: float) -> str:
    return f", and with {CONFIDENCE:.0%} confidence {gate.side.replace('_', ' ')} {judged:.6g}"


def _figure(gate: Gate, subject: Subject, evidence: Evidence, metrics: ScoreMetrics | None) -> _Figure | str:
    """The figure that a gate is about, or why there is none."""
    match gate.metric:
        case "epsilon":
            return _epsilon(subject)
        case metric if metrics is None:
            return f"the last evaluation gave no metrics, so there is no {metric}"
        case "stability":
            return _stability(evidence)
        case "calibration":
            return _calibration(metrics, subject.plan.evaluation.score_bins)
        case metric if gate.over is None:
            return _metric(metrics, metric, subject.plan.evaluation.score_bins)
        case metric:
            return _difference(metrics, metric, subject.plan)


def _metric(metrics: ScoreMetrics, metric: str, bins: int) -> _Figure:
    std = 0.0 if metrics.noise_std is None else float(metrics.noise_std[metric])
    return _Figure(float(getattr(metrics, metric)), std, bins if metric == "ks" else 1)


def _difference(metrics: ScoreMetrics, metric: str, plan: Plan) -> _Figure | str:
    """Ours less the champion's: each has noise of its own on its own counts, so variances add up; the ends of two largest figures add up as they are."""
    if metrics.champion is None:
        return "the last evaluation gave no metrics of the champion"
    bins = plan.evaluation.score_bins
    ours, theirs = (_metric(each, metric, bins) for each in (metrics, metrics.champion))
    if metric == "ks":
        return _Figure(ours.value - theirs.value, ours.std + theirs.std, 2 * bins)
    return _Figure(ours.value - theirs.value, math.hypot(ours.std, theirs.std))


def _calibration(metrics: ScoreMetrics, bins: int) -> _Figure | str:
    """The largest gap among groups that may be large enough. A group that noise hides may have any gap, so together those must be small."""
    noise, least = metrics.noise_std, LEAST_SHARE * metrics.rows
    std, of_group = (0.0, 0.0) if noise is None else (float(noise["calibration"]), float(noise["group"]))
    hidden = min(CALIBRATION_GROUPS, bins) - len(metrics.calibration) if of_group else 0
    choices = 2 * len(metrics.calibration) + min(hidden, 1)
    unseen = metrics.rows - sum(each.rows for each in metrics.calibration)
    if hidden and _Figure(unseen, of_group * math.sqrt(hidden), choices).end("at_most") >= least:
        return f"noise hides groups that may have {LEAST_SHARE:.0%} of the held-out rows, and so any gap"
    groups = [
        each
        for each in metrics.calibration
        if _Figure(each.rows, of_group, max(1, choices)).end("at_most") >= least
    ]
    if not groups:
        return "no group of held-out rows is large enough to show a gap"
    return _Figure(max(abs(each.mean_score - each.observed) for each in groups), std, choices)


def _stability(evidence: Evidence) -> _Figure | str:
    last = evidence.aucs[-STABLE_OVER:]
    if len(last) < 2:  # noqa: PLR2004 (one does not lie apart)
        return f"{len(last)} evaluated rounds have metrics, and it takes two to compare"
    return _Figure(max(last) - min(last))


def _epsilon(subject: Subject) -> _Figure | str:
    planned, privacy = releases_of(subject.plan, subject.contract), subject.plan.privacy
    if planned is None or not isinstance(privacy, Privacy):
        return "the plan has no privacy, so no epsilon is finite"
    if planned.exempt:
        return f"{planned.exempt[0].what} are released without noise, so no epsilon is finite"
    return _Figure(forecast(planned, privacy).epsilon)


def _is_like(one: object, other: object) -> bool:
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case (int() | float(), int() | float()):
            return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
        case (dict(), dict()):
            return one.keys() == other.keys() and all(_is_like(each, other[key]) for key, each in one.items())
        case (list(), list()):
            return len(one) == len(other) and all(map(_is_like, one, other))
    return one == other
