"""Gates: what a simulated run has to reach, such as `auc >= 0.70`, and whether it did.

1. A gate is matched by a pattern; nothing of its text is ever evaluated.
2. A measure that is absent or NaN passes no gate.
3. A run that did not complete has no quality, and its sums so far (epsilon, traffic) bound nothing; only `rounds`, `sites`,
   `parameters` and `elapsed_s` are facts of it all the same.
4. The number in a verdict's sentence is printed with as many digits as it takes to agree with the verdict.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from simulation.result import SimulationResult
from strategies.analytics.histograms import ScoreMetrics
from strategies.errors import UsageError

MEGABYTE: Final = 1e6
_SHOWN_DECIMALS: Final = range(4, 18)
_ACCEPTED: Final = "METRIC OPERATOR NUMBER, such as 'auc >= 0.70'"
_GATE: Final = re.compile(r"\s*([^\s<>=]+)\s*([<>=]+)\s*([^\s<>=]\S*)\s*")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

Comparison = Callable[[float, float], bool]
# Every one of them is false for NaN, which is what rule 2 rests on: none may be replaced by the negation of another.
_OPERATORS: Final[Mapping[str, tuple[Comparison, str]]] = {
    ">=": (operator.ge, "at least"),
    "<=": (operator.le, "at most"),
    ">": (operator.gt, "more than"),
    "<": (operator.lt, "less than"),
    "==": (operator.eq, "exactly"),
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on one metric. Made by `parse_gate`, which alone knows that the metric exists and the threshold is finite."""

    metric: str
    operator: str
    threshold: float

    def __str__(self) -> str:
        """As it would be typed."""
        return f"{self.metric} {self.operator} {_plain(self.threshold)}"

    @property
    def demand(self) -> str:
        """What is asked for, in words: `at least 0.7`."""
        return f"{_OPERATORS[self.operator][1]} {_plain(self.threshold)}"

    def holds(self, measured: float) -> bool:
        """Whether `measured` is within the bound; never for NaN."""
        return _OPERATORS[self.operator][0](measured, self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A gate against a run. `measured` is None for what the run does not have, and infinite for epsilon without privacy."""

    gate: Gate
    measured: float | None
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Metric:
    """What a gate may name: its meaning for people, how it is read off a run (None: not there), and why it may be absent."""

    meaning: str
    read: Callable[[SimulationResult], float | None]
    absent: str = "the run was not evaluated"


def parse_gate(text: str) -> Gate:
    """Read `METRIC OPERATOR NUMBER`; spaces are free. Raises UsageError, which says what would be accepted."""
    found = _GATE.fullmatch(text)
    if not found:
        raise UsageError(f"{text!r} is not a gate; write {_ACCEPTED}")
    metric, sign, number = found.groups()
    if metric not in METRICS:
        nearest = difflib.get_close_matches(metric.lower(), METRICS, n=1, cutoff=0.0)[0]
        raise UsageError(
            f"the gate {text!r} names the unknown metric {metric!r}; the nearest is {nearest}, and the known ones are "
            + ", ".join(METRICS)
        )
    if sign not in _OPERATORS:
        raise UsageError(f"the gate {text!r} compares by {sign!r}; use one of {', '.join(_OPERATORS)}")
    # float() alone would also take nan, inf, 1_000 and the digits of other scripts.
    if not _NUMBER.fullmatch(number) or not math.isfinite(float(number)):
        raise UsageError(
            f"the gate {text!r} has the threshold {number!r}; use a finite decimal number, such as 0.70"
        )
    return Gate(metric, sign, float(number))


def judge(result: SimulationResult, gates: Iterable[Gate]) -> tuple[Verdict, ...]:
    """One verdict a gate, in their order."""
    return tuple(_judged(result, gate) for gate in gates)


def _judged(result: SimulationResult, gate: Gate) -> Verdict:
    measured = METRICS[gate.metric].read(result)
    passed = measured is not None and gate.holds(measured)
    return Verdict(
        gate=gate, measured=measured, passed=passed, sentence=_sentence(result, gate, measured, passed=passed)
    )


def _sentence(result: SimulationResult, gate: Gate, measured: float | None, *, passed: bool) -> str:
    if measured is None:
        return f"{_why_absent(result, gate.metric)}, so there is no {gate.metric} that could be {gate.demand}"
    if math.isnan(measured):
        return f"{gate.metric} is not a number (NaN), which passes no gate; {gate.demand} is asked for"
    what = f"{gate.metric} is {_agreeing(measured, gate)}"
    if gate.metric == "epsilon" and math.isinf(measured):
        what = "no privacy: nothing bounds what the model tells of a person, epsilon is infinite"
    elif gate.metric == "epsilon":
        what = f"{what} {result.whose}"
    return f"{what}, as asked for: {gate.demand}" if passed else f"{what}, but {gate.demand} is asked for"


def _why_absent(result: SimulationResult, metric: str) -> str:
    if result.completed:
        return METRICS[metric].absent
    return "the run did not complete" + (f" ({result.reason})" if result.reason else "")


def _agreeing(measured: float, gate: Gate) -> str:
    """`measured` in four decimals, or more where four would read as the other verdict: 0.69996 is not 0.7000."""
    if measured.is_integer() or not math.isfinite(measured):
        return _plain(measured)
    for decimals in _SHOWN_DECIMALS:
        shown = f"{measured:.{decimals}f}"
        if gate.holds(float(shown)) == gate.holds(measured):
            return shown
    return repr(measured)


def _plain(value: float) -> str:
    """The shortest decimal that reads back as `value`, without a needless `.0`."""
    return repr(value).removesuffix(".0")


def _score(read: Callable[[ScoreMetrics], float]) -> Callable[[SimulationResult], float | None]:
    return lambda result: None if result.metrics is None else float(read(result.metrics))


def _epsilon(result: SimulationResult) -> float | None:
    if result.privacy == "none":
        return math.inf  # whatever a run wrote into its rounds
    return result.epsilon if result.completed else None


def dropouts_survived(result: SimulationResult) -> float | None:
    """Mean share of the roster that was lost in a committed round, 0 to 1; None for a run that did not complete."""
    if not result.completed or not result.rounds:
        return None
    # In fractions: ten rounds that each lose 1 of 10 have a float mean below 0.1, and would fail `dropouts_survived >= 0.1`.
    lost = sum((Fraction(each.roster - each.survivors, each.roster) for each in result.rounds), Fraction())
    return float(lost / len(result.rounds))


def _site_auc_min(result: SimulationResult) -> float | None:
    known = [site.auc for site in result.sites if site.auc is not None]
    if not known or not result.completed:
        return None
    return math.nan if any(map(math.isnan, known)) else min(known)  # min() may pass over a NaN


def _traffic_mb(result: SimulationResult) -> float | None:
    return sum(each.traffic for each in result.rounds) / MEGABYTE if result.completed else None


METRICS: Final[Mapping[str, Metric]] = {
    "auc": Metric("area under the ROC curve on the held-out rows of all sites", _score(lambda m: m.auc)),
    "log_loss": Metric("log loss on these rows, nats a row", _score(lambda m: m.log_loss)),
    "ks": Metric("Kolmogorov-Smirnov distance on these rows", _score(lambda m: m.ks)),
    "brier": Metric("mean squared error on these rows", _score(lambda m: m.brier)),
    "rows": Metric("held-out rows that the metrics count", _score(lambda m: m.rows)),
    "rounds": Metric("committed rounds", lambda result: float(len(result.rounds))),
    "epsilon": Metric("privacy spent; infinite without privacy", _epsilon),
    "dropouts_survived": Metric(
        "mean share of the roster that a round lost and still committed, 0 to 1",
        dropouts_survived,
        "no round was committed",
    ),
    "sites": Metric("sites", lambda result: float(len(result.sites))),
    "parameters": Metric("parameters of the model", lambda result: float(result.parameters)),
    "traffic_mb": Metric("bytes of frames in all rounds, in 1e6", _traffic_mb),
    "site_auc_min": Metric(
        "smallest AUC of a site on its own held-out rows; a site whose rows hold one class has none",
        _site_auc_min,
        "no site's held-out rows hold both classes",
    ),
    "elapsed_s": Metric("seconds from start to end on this machine", lambda result: result.elapsed_s),
}
