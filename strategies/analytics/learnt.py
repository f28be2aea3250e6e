"""What the history of runs says about the next one: how long rounds may take, how many sites will answer, which sites stay away. Pure.

1. A deadline is a bound on a quantile of round times that holds at a stated confidence whatever their distribution (Wilks 1941): an order statistic. It
   takes `LEAST_ROUNDS` rounds; below, nothing is proposed.
2. How often a site stays away has a Jeffreys interval. It takes `LEAST_ASKED` times of asking.
3. That a round has too few sites is computed as if sites stayed away independently of each other; a fault that they share makes it likelier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from strategies.errors import UsageError

QUANTILE: Final = 0.9
CONFIDENCE: Final = 0.95
LEAST_ROUNDS: Final = math.ceil(math.log(1.0 - CONFIDENCE) / math.log(QUANTILE))
"""The fewest rounds, 29, whose slowest is such a bound."""
LEAST_ASKED: Final = 20
MARGIN: Final = 2.0
"""A deadline is this many times the bound."""
OFTEN: Final = 0.25
"""A site stays away often if it surely does so more than this share of the times that it is asked."""
WANTED: Final = 0.95
"""The probability with which a round is to have enough sites."""
_STEPS: Final = (10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
_HOUR: Final = 3600


def bound_on_quantile(seconds: Sequence[float]) -> float | None:
    """A bound on the `QUANTILE` of what `seconds` are a sample of, that holds with probability `CONFIDENCE`; None where they are too few."""
    values = np.sort(np.asarray(seconds, dtype=np.float64))
    if values.size < LEAST_ROUNDS:
        return None
    from scipy.stats import binom  # a second or two, which other commands need not wait

    # The k-th smallest is above the quantile unless k or more values are below it.
    places = np.arange(1, values.size + 1)
    fine = binom.cdf(places - 1, values.size, QUANTILE) >= CONFIDENCE
    return float(values[int(fine.argmax())])


def deadline_from(bound: float) -> int:
    """The deadline, in whole seconds, that leaves `MARGIN` over a bound: a round number, and at least ten seconds."""
    wanted = MARGIN * bound
    if wanted > _STEPS[-1]:
        return math.ceil(wanted / _HOUR) * _HOUR
    return next(each for each in _STEPS if each >= wanted)


@dataclass(frozen=True, slots=True)
class Absence:
    """How often a site brought nothing of use of the times that it was asked."""

    asked: int
    missed: int

    def __post_init__(self) -> None:
        if not 0 <= self.missed <= self.asked:
            raise UsageError(f"a site was asked {self.asked} times and missed {self.missed}")

    @property
    def is_known(self) -> bool:
        """Whether it was asked often enough to say anything."""
        return self.asked >= LEAST_ASKED

    @property
    def probability(self) -> float:
        """The mean of the posterior under Jeffreys' prior."""
        return (self.missed + 0.5) / (self.asked + 1.0)

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high, 90 % between them."""
        from scipy.stats import beta

        low, high = beta.ppf((0.05, 0.95), self.missed + 0.5, self.asked - self.missed + 0.5)
        return (0.0 if not self.missed else float(low)), (1.0 if self.missed == self.asked else float(high))

    @property
    def is_often(self) -> bool:
        """Whether it stays away more often than `OFTEN`, beyond chance."""
        return self.is_known and self.interval[0] > OFTEN


def enough_with(absences: Sequence[float], minimum: int) -> float:
    """The probability that at least `minimum` sites answer, each staying away with its own of `absences`."""
    law = np.ones(1)
    for each in absences:
        law = np.convolve(law, (each, 1.0 - each))
    return float(np.clip(law[max(0, minimum) :].sum(), 0.0, 1.0))


def largest_minimum(absences: Sequence[float], least: int) -> int | None:
    """The largest minimum, `least` or above, that is reached with probability `WANTED`; None where not even `least` is."""
    fitting = [each for each in range(least, len(absences) + 1) if enough_with(absences, each) >= WANTED]
    return max(fitting, default=None)


def largest_batch(seconds_per_unit: Sequence[float], deadline: float) -> int | None:
    """The largest batch whose round keeps to `deadline` with `MARGIN`, if time grows with the batch; None where rounds are too few.

    All of a round's time is taken to grow with its batch: what does not grow makes the truth larger than what is said.
    """
    bound = bound_on_quantile(seconds_per_unit)
    return None if bound is None else max(1, math.floor(deadline / (MARGIN * max(bound, 1e-9))))
