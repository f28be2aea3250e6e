"""What guesses about canaries show of a mechanism: a lower bound on epsilon, and how low a bound must be expected to be.

1. Each canary is in the data by a fair coin of its own. A guess says of one canary that it was in, or that it was not; of the rest nothing is
   said. How many guesses are made is fixed before the run, and so is the confidence.
2. The bound holds whatever canaries, scores and attack are: a poor attack shows less, it never shows too much.
3. A bound is one-sided: it may prove a claim wrong, and can never prove one right. So it stands beside its power, which is what the same
   test would typically show of a mechanism that leaks exactly what is claimed, or of one with a known fault.

Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2: of r guesses about m canaries, made from the output
of a mechanism that is (epsilon, delta)-private under adding or removing one canary, at least v are right with a probability of at most
P[B >= v] + 2 m delta max over i of P[v > B >= v - i] / i, where B is binomial with r trials of e^epsilon / (1 + e^epsilon). Several
runs on canaries of their own are one mechanism in this sense, since each canary is in one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import UsageError

MOST_CANARIES: Final = 1_000_000
LARGEST_EPSILON: Final = 500.0
"""Above it nothing is told apart: no audit has so many canaries."""
_HALVINGS: Final = 60
_CHOICES: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """`right` of `made` guesses about `canaries` were right. Raises UsageError for numbers that cannot be."""

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 1 <= self.canaries <= MOST_CANARIES:
            raise UsageError(f"there are {self.canaries} canaries; use 1 to {MOST_CANARIES}")
        if not 0 <= self.right <= self.made <= self.canaries:
            raise UsageError(
                f"{self.right} of {self.made} guesses about {self.canaries} canaries are right; right guesses are some of those made, and "
                "there is at most one a canary"
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """Scores that are typical of canaries that were in, `inside`, (n,), and of canaries that were not, `outside`, (n,)."""

    inside: Vector
    outside: Vector


def p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """The most likely that so many right guesses are if the mechanism is (`epsilon`, `delta`)-private: from 0 to 1.

    Raises UsageError for an epsilon below 0, or a delta that is not from 0 to below 1.
    """
    if not epsilon >= 0.0:  # phrased, here and below, so that NaN is refused
        raise UsageError(f"epsilon is {epsilon}; it is at least 0")
    if not 0.0 <= delta < 1.0:
        raise UsageError(f"delta is {delta}; use a number from 0 to below 1")
    made, right = guesses.made, guesses.right
    if right == 0:
        return 1.0
    success = -math.log1p(math.exp(-epsilon))
    number = np.arange(made + 1)
    law = np.exp(_log_choose(made) + number * success + (made - number) * (success - epsilon))
    below = np.cumsum(law[:right][::-1]) / np.arange(1, right + 1)
    value = math.fsum(law[right:].tolist()) + 2.0 * guesses.canaries * delta * float(below.max())
    return min(1.0, value)


def epsilon_lower_bound(guesses: Guesses, *, delta: float, confidence: float) -> float:
    """The largest epsilon that is refuted at `delta`: the mechanism's is larger, but for a chance of 1 - `confidence`. 0 if none is.

    Every epsilon with so small a `p_value` is refuted, and with it all smaller ones. Raises UsageError for a confidence that is not above 0
    and below 1, and as `p_value` does.
    """
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"the confidence is {confidence}; use a number above 0 and below 1, such as 0.95")
    chance = 1.0 - confidence
    refuted, possible = 0.0, LARGEST_EPSILON
    for _ in range(_HALVINGS):
        middle = (refuted + possible) / 2.0
        if p_value(guesses, epsilon=middle, delta=delta) <= chance:
            refuted = middle
        else:
            possible = middle
    return refuted


def guesses_to_refute(epsilon: float, confidence: float) -> int:
    """How many guesses refute pure `epsilon`-privacy if all are right. Raises UsageError for numbers outside their bounds."""
    if not 0.0 <= epsilon <= LARGEST_EPSILON or not 0.0 < confidence < 1.0:
        raise UsageError(
            f"epsilon {epsilon} with confidence {confidence}; use 0 to {LARGEST_EPSILON:g}, and above 0 to below 1"
        )
    return math.ceil(math.log(1.0 - confidence) / -math.log1p(math.exp(-epsilon)))


def right_guesses(scores: Vector, included: Flags, made: int) -> int:
    """How many of `made` guesses are right: that the canaries with the highest of `scores`, (m,), were in, and those with the lowest were not.

    Half of the guesses are of either kind. Raises UsageError for scores that are not all numbers, or more guesses than canaries.
    """
    if np.isnan(scores).any() or not 0 <= made <= len(scores) == len(included):
        raise UsageError(f"{made} guesses about {len(scores)} scores, which must be numbers, one a canary")
    order = np.argsort(scores, kind="stable")
    low = made // 2
    high = made - low
    return int(
        np.count_nonzero(included[order[len(order) - high :]]) + np.count_nonzero(~included[order[:low]])
    )


def typical_bound(sample: Sample, *, canaries: int, made: int, delta: float, confidence: float) -> float:
    """The lower bound that `made` guesses about `canaries` whose scores are like `sample` typically give: that of the expected right ones."""
    scores = np.concatenate((sample.inside, sample.outside))
    included = np.arange(len(scores)) < len(sample.inside)
    tried = max(1, round(made / canaries * len(scores)))
    share = right_guesses(scores, included, tried) / tried
    typical = Guesses(canaries=canaries, made=made, right=math.floor(share * made))
    return epsilon_lower_bound(typical, delta=delta, confidence=confidence)


def most_telling(sample: Sample, *, canaries: int, delta: float, confidence: float) -> int:
    """The number of guesses about `canaries` with which a mechanism whose scores are like `sample` typically gives the highest bound."""
    choices = sorted({max(1, round(share * canaries)) for share in _CHOICES}, reverse=True)
    return max(
        choices,
        key=lambda made: typical_bound(
            sample, canaries=canaries, made=made, delta=delta, confidence=confidence
        ),
    )


def gaussian_separation(epsilon: float, delta: float) -> float:
    """How far apart, in standard deviations, the two outputs of a Gaussian mechanism are that is exactly (`epsilon`, `delta`)-private.

    Balle and Wang 2018, theorem 8; epsilon above 500 counts as 500. Raises UsageError for an epsilon below 0 or a delta outside (0, 1).
    """
    if not (epsilon >= 0.0 and 0.0 < delta < 1.0):
        raise UsageError(
            f"epsilon {epsilon} at delta {delta}; use at least 0, and a delta above 0 and below 1"
        )
    epsilon = min(epsilon, LARGEST_EPSILON)
    near, far = 0.0, 2.0 * math.sqrt(2.0 * LARGEST_EPSILON) + 20.0
    for _ in range(_HALVINGS):
        middle = (near + far) / 2.0
        if _gaussian_delta(middle, epsilon) <= delta:
            near = middle
        else:
            far = middle
    return near


def gaussian_sample(separation: float, size: int) -> Sample:
    """`size` scores of either kind at equal steps of probability: Gaussian, of deviation 1, with means `separation` apart."""
    steps = (np.arange(size) + 0.5) / size
    normal = NormalDist()
    scores = np.array([normal.inv_cdf(step) for step in steps.tolist()])
    return Sample(inside=scores + separation, outside=scores)


@lru_cache(maxsize=64)
def _log_choose(made: int) -> Vector:
    """The logarithm of each binomial coefficient, (made + 1,)."""
    factorials = np.array([math.lgamma(number + 1.0) for number in range(made + 1)])
    return np.asarray(factorials[-1] - factorials - factorials[::-1])


def _gaussian_delta(separation: float, epsilon: float) -> float:
    """The delta of a Gaussian mechanism at `epsilon`."""
    if separation == 0.0:
        return 0.0
    half, shift = separation / 2.0, epsilon / separation
    return _normal(half - shift) - math.exp(epsilon) * _normal(-half - shift)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
