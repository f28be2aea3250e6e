"""Who tries to tell which canaries are in the sums of a run: a white-box adversary that an audit measures a mechanism with.

1. It knows all that is opened or public: each opened sum, the model that the sum was computed at, plan, contract, scaling, the rows of the
   crowd and of all canaries. It knows neither which canaries are in, nor samples and noise.
2. It believes something of the code: that the noise has a scale, 1 being the plan's, and that gradients are clipped or are not. Beliefs make it
   better or worse at guessing; what its guesses prove does not depend on them.
3. A canary's score is the logarithm of a likelihood ratio, added up over rounds: of the sum seen with the canary in it, sampled as the plan says,
   to without. All else in the sum, the other canaries and the crowd, counts as Gaussian of the mean and covariance that it has.

This is the inner product of a sum with the canary's clipped gradient (Steinke, Nasr and Jagielski 2023, section 6, the white-box attack), freed
from what others add along that gradient, and aware that a sampled canary is in some sums and not in others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.dp.audit import Sample
from strategies.dp.clipping import ClassWeights
from strategies.encoding import Vector
from strategies.models import DenseModel, sigmoid

Matrix = npt.NDArray[np.float64]
_SPREAD: Final = 8.0
"""How many standard deviations of the number of times that a canary is sampled are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """A unit is taken with probability `rate`, independently, each of `times` times a round: once for each step at each site that has it."""

    rate: float
    times: int

    @property
    def mean(self) -> float:
        """How often a unit that is in is taken in a round."""
        return self.rate * self.times

    @property
    def variance(self) -> float:
        """Of that number."""
        return self.mean * (1.0 - self.rate)

    def law(self) -> tuple[Vector, Vector]:
        """The likely numbers of times, (k,), and the logarithm of the probability of each."""
        reach = _SPREAD * math.sqrt(self.variance) + 1.0
        low, high = max(0, math.floor(self.mean - reach)), min(self.times, math.ceil(self.mean + reach))
        if self.rate == 1.0:
            return np.array([float(self.times)]), np.zeros(1)
        n = self.times
        logs = [
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(self.rate) + (n - k) * math.log1p(-self.rate)
            for k in range(low, high + 1)
        ]  # fmt: skip
        return np.arange(low, high + 1, dtype=np.float64), np.array(logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One round as the adversary knows it, in clipping norms, uphill.

    `opened` is the sum, (d,); `canaries`, (m, d), and `crowd`, (u, d), are gradients at the round's model, not clipped, of which the crowd's stand
    for `weights`, (u,), rows each.
    """

    opened: Vector
    canaries: Matrix
    crowd: Matrix
    weights: Vector


@dataclass(frozen=True, slots=True)
class Signals:
    """How well m canaries can be heard in T rounds: `strength`, (T, m), of which the share of the plan's noise is `noise`, (T, m).

    What a round tells of canary i is a number that is `strength` times the number of times it was taken, and Gaussian about that: with
    variance `strength` if the belief is right, and `noise` more or less for each unit of scale squared that it is wrong.
    """

    strength: Matrix
    noise: Matrix


@dataclass(frozen=True, slots=True)
class Belief:
    """What an adversary takes the code to do: noise of `scale` times the plan's, and clipping, or none."""

    scale: float = 1.0
    clips: bool = True

    def gradients(self, raw: Matrix) -> Matrix:
        """`raw` gradients, (n, d) in clipping norms, as they are believed to enter a sum."""
        if not self.clips:
            return raw
        return np.asarray(raw / np.maximum(1.0, np.linalg.norm(raw, axis=1, keepdims=True)))


@dataclass
class Adversary:
    """Listens round by round. `deviation` is that of the plan's noise on a sum, in clipping norms."""

    canary: Sampling
    row: Sampling
    deviation: float
    belief: Belief
    scores: Vector = field(init=False)
    """(m,) after the first round."""
    _strength: list[Vector] = field(default_factory=list)
    _noise: list[Vector] = field(default_factory=list)

    def listen(self, heard: Heard) -> None:
        """Add what a round tells to the scores."""
        mean = self.canary.mean / 2.0
        canaries, crowd = self.belief.gradients(heard.canaries), self.belief.gradients(heard.crowd)
        usual = mean * canaries.sum(axis=0) + self.row.mean * (heard.weights @ crowd)
        variance = (self.canary.variance + self.canary.mean**2) / 2.0 - mean**2
        spread = np.concatenate((np.full(len(canaries), variance), self.row.variance * heard.weights))
        noise = (self.belief.scale * self.deviation) ** 2
        told, inner, squares = _filtered(canaries, crowd, heard.opened - usual, spread, noise)
        # Each canary is heard against all others: the covariance without its own part, by the Sherman-Morrison formula.
        alone = 1.0 / (1.0 - variance * inner)
        strength = inner * alone
        told = (told + mean * inner) * alone
        ratio = _log_ratio(told, strength, self.canary)
        self.scores = self.scores + ratio if self._strength else ratio
        self._strength.append(strength)
        self._noise.append(self.deviation**2 * squares * alone**2)

    @property
    def signals(self) -> Signals:
        """How well each canary could be heard."""
        return Signals(np.array(self._strength), np.array(self._noise))

    def imagine(self, signals: Signals, scale: float, source: np.random.Generator) -> Sample:
        """Scores of canaries that can be heard so well, half of them in, if the noise really is `scale` times the plan's."""
        rounds, canaries = signals.strength.shape
        included = np.arange(canaries) % 2 == 0
        taken = source.binomial(self.canary.times, self.canary.rate, (rounds, canaries)) * included
        variance = signals.strength + (scale**2 - self.belief.scale**2) * signals.noise
        told = signals.strength * taken
        told += np.sqrt(np.maximum(variance, 0.0)) * source.standard_normal((rounds, canaries))
        scores = sum(
            (_log_ratio(*each, self.canary) for each in zip(told, signals.strength, strict=True)),
            start=np.zeros(canaries),
        )
        return Sample(inside=scores[included], outside=scores[~included])

    def undisturbed(self, rounds: int, lengths: Vector) -> Signals:
        """As if canaries' gradients, of `lengths`, (m,) in clipping norms, were orthogonal to each other and to the crowd's."""
        signal = np.minimum(lengths, 1.0) if self.belief.clips else lengths
        strength = np.tile((signal / (self.belief.scale * self.deviation)) ** 2, (rounds, 1))
        return Signals(strength, strength / self.belief.scale**2)


def gradients(
    model: DenseModel, vector: Vector, x: npt.NDArray[np.float32], y: Vector, weights: ClassWeights
) -> Matrix:
    """Each row's gradient of the cross-entropy, not clipped: (n, d) float64. The adversary's own arithmetic, not the sites'."""
    parameters = model.split(vector)
    values = [x.astype(np.float64)]
    for weight, bias in parameters[:-1]:
        values.append(np.maximum(values[-1] @ weight.T + bias, 0.0))
    weight, bias = parameters[-1]
    slope = sigmoid(values[-1] @ weight.T + bias) - y[:, None]
    slope *= np.where(y > 0, weights.positive, weights.negative)[:, None]
    parts: list[Matrix] = []
    for place in reversed(range(len(parameters))):
        outer = np.einsum("ni,nj->nij", slope, values[place]).reshape(len(x), -1)
        parts = [outer, slope, *parts]
        if place:
            slope = (slope @ parameters[place][0]) * (values[place] > 0)
    return np.nan_to_num(np.concatenate(parts, axis=1))


def _filtered(
    canaries: Matrix, crowd: Matrix, gap: Vector, spread: Vector, noise: float
) -> tuple[Vector, Vector, Vector]:
    """For C = `noise` I + A' D A, where A, (n, d), is `canaries` and then `crowd`, and D the diagonal of `spread`, (n,): of each canary g the inner
    products of C^-1 g with `gap` and with g, and its square, all (m,).

    Where n is smaller, by A C^-1 = (noise I + A A' D)^-1 A.
    """
    everybody, m = np.concatenate((canaries, crowd)), len(canaries)
    if len(everybody) <= len(gap):
        gram = everybody @ everybody.T
        inverse = np.linalg.inv(gram * spread + noise * np.eye(len(gram)))
        filtered = inverse @ gram
        squares = np.einsum("ij,ij->i", filtered, inverse)
        return (inverse @ (everybody @ gap))[:m], np.diagonal(filtered)[:m], squares[:m]
    filters = np.linalg.solve((everybody.T * spread) @ everybody + noise * np.eye(len(gap)), canaries.T)
    return gap @ filters, np.einsum("ij,ji->i", canaries, filters), np.einsum("ij,ij->j", filters, filters)


def _log_ratio(told: Vector, strength: Vector, sampling: Sampling) -> Vector:
    """The logarithm of how much likelier `told`, (m,), is with the canary in, taken a random number of times, than without."""
    times, logs = sampling.law()
    terms = logs[:, None] + times[:, None] * told - (times**2 / 2.0)[:, None] * strength
    highest = terms.max(axis=0)
    ratio: Vector = highest + np.log(np.exp(terms - highest).sum(axis=0))
    return ratio
