"""What retraining would gain where inputs and outcomes have moved: a simulation on released counts, which says what it leaves out.

1. Rows are drawn feature by feature from the window's profile, independently: nobody has joint counts. Within a bin all unit values are alike.
2. Outcomes are drawn by the share that outcomes had in the score bin of the model that serves. Without outcomes nothing is said: where no labels have
   arrived, no gain is known.
3. The retrained model is a logistic one, fitted without privacy noise. So what is found is what fitting outcomes by score would gain: an order of
   magnitude. A feature that has changed its meaning at equal scores cannot show.
4. The same is done with the reference's own counts. A gain that is not above what is found there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from strategies.analytics.noisy import LOGIT_RANGE
from strategies.analytics.outcome_drift import OutcomeCounts, ScoreScale
from strategies.analytics.profiles import Profile
from strategies.analytics.two_histograms import Histogram
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature, Scaling
from strategies.models import sigmoid

SEEDS: Final = 20
ROWS: Final = 4000
_PRIOR: Final = 10.0
"""A bin with no outcomes is taken to be as the model says, with the weight of so many rows."""
_RIDGE: Final = 1.0
_STEPS: Final = 12
_FLAG_VALUES: Final = 2
_ENDS: Final = (0.1, 0.9)
_LEAST: Final = 1e-12

Logits = Callable[[npt.NDArray[np.float32]], Vector]
"""Of encoded rows, (n, width), under the model that serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Counts of one population: `profile` by feature, and outcomes by score bin."""

    profile: Mapping[str, Histogram]
    outcomes: OutcomeCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The model that serves: how values become its inputs, its logits, and how its scores are counted."""

    profile: Profile
    features: FeatureSpec
    scaling: Scaling
    logits: Logits
    scale: ScoreScale


@dataclass(frozen=True, slots=True)
class SeedQuantiles:
    """Median over seeds, and the quantiles between which the middle 80 % of them lie: no confidence interval."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> SeedQuantiles:
        """Over the first axis of `values`, (seeds,)."""
        low, high = np.quantile(values, _ENDS)
        return cls(float(np.median(values)), float(low), float(high))

    def facts(self) -> list[float]:
        """Middle, low, high."""
        return [round(each, 6) for each in (self.middle, self.low, self.high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much log loss (nats a row) falls: in the window, and by the same simulation in the reference. `now` is that of the model that serves."""

    now: SeedQuantiles
    window: SeedQuantiles
    reference: SeedQuantiles
    seeds: int
    rows: int

    @property
    def is_clear(self) -> bool:
        """Whether the window's gain is above what the same simulation finds where nothing has moved."""
        return self.window.low > max(0.0, self.reference.high)

    @property
    def words(self) -> str:
        """For people."""
        ends = f"{self.window.middle:.4f} ({self.window.low:.4f} to {self.window.high:.4f} over {self.seeds} seeds)"
        about = f"log loss, {self.now.middle:.4f} now, would fall by {ends}; where nothing has moved the same simulation finds {self.reference.middle:.4f}"
        found = "a gain" if self.is_clear else "no gain that can be told from chance"
        return f"{found}: {about}. Simulated from counts by feature and outcomes by score, without joint counts and without privacy noise"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "clear": self.is_clear,
            "log_loss_now": self.now.facts(),
            "falls_by": self.window.facts(),
            "in_reference": self.reference.facts(),
            "seeds": self.seeds,
            "rows": self.rows,
            "words": self.words,
        }


def expected_gain(
    serving: Serving, reference: Side, window: Side, *, seeds: int = SEEDS, rows: int = ROWS, seed: int = 0
) -> Gain:
    """By how much the log loss of decisions as in `window` would fall, beside the same simulation for `reference`: `seeds` draws of `rows` rows to fit and as many to judge by.

    Raises UsageError for counts of other features or bins, Refused where either side has too few rows to speak of.
    """
    window.outcomes.require_rows("the windows since the alarm")
    reference.outcomes.require_rows("the reference")
    if reference.outcomes.counts.shape != window.outcomes.counts.shape:
        raise UsageError(
            "the windows and the reference have other score bins; compare counts of the same bins"
        )
    sources = [np.random.default_rng([seed, each]) for each in range(seeds)]
    there = np.array([_one(serving, window, source, rows) for source in sources])
    here = np.array([_one(serving, reference, source, rows) for source in sources])
    return Gain(
        now=SeedQuantiles.of(there[:, 0]),
        window=SeedQuantiles.of(there[:, 0] - there[:, 1]),
        reference=SeedQuantiles.of(here[:, 0] - here[:, 1]),
        seeds=seeds,
        rows=rows,
    )


def _one(serving: Serving, side: Side, source: np.random.Generator, rows: int) -> tuple[float, float]:
    """Log loss on fresh rows of the model that serves, and of one that was fitted to others."""
    rates = _rates(side.outcomes, serving.scale, source)
    inputs, logits, labels = _drawn(serving, side, rates, source, 2 * rows)
    weights = _fitted(inputs[:rows], labels[:rows])
    then = _with_one(inputs[rows:]) @ weights
    return _log_loss(logits[rows:], labels[rows:]), _log_loss(then, labels[rows:])


def _rates(outcomes: OutcomeCounts, scale: ScoreScale, source: np.random.Generator) -> Vector:
    """The share of outcome 1 by score bin, as one draw of what the noisy counts leave open."""
    bins = outcomes.counts.shape[1]
    noisy = outcomes.counts + source.normal(0.0, outcomes.noise_std, outcomes.counts.shape)
    zeros, ones = np.clip(noisy, 0.0, None)
    middles = (np.arange(bins) + 0.5) / bins
    if scale == "logit":
        middles = sigmoid((middles - 0.5) * 2.0 * LOGIT_RANGE)
    drawn: Vector = source.beta(ones + _PRIOR * middles + _LEAST, zeros + _PRIOR * (1.0 - middles) + _LEAST)
    return drawn


def _drawn(
    serving: Serving, side: Side, rates: Vector, source: np.random.Generator, rows: int
) -> tuple[npt.NDArray[np.float32], Vector, npt.NDArray[np.int64]]:
    """Encoded rows, their logits under the model that serves, and their outcomes."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for feature, size in zip(serving.profile.features, serving.profile.sizes, strict=True):
        known = side.profile.get(feature.name)
        if known is None or known.counts.size != size:
            raise UsageError(f"the counts of {feature.name} are not those of the model's features and bins")
        places = _places(feature, known, source, rows)
        columns[feature.name] = _values(serving.profile, feature, places, size, source)
    inputs = serving.features.encode(columns, serving.scaling)
    logits = serving.logits(inputs)
    labels = (source.random(rows) < rates[_bins(logits, rates.size, serving.scale)]).astype(np.int64)
    return inputs, logits, labels


def _places(
    feature: NumericFeature | CategoricalFeature, known: Histogram, source: np.random.Generator, rows: int
) -> npt.NDArray[np.int64]:
    shares = np.clip(known.counts.astype(np.float64), 0.0, None)
    if isinstance(feature, NumericFeature) and feature.missing == "refuse":
        shares[-1] = 0.0  # no row without a value is scored, or trained on
    if not shares.sum() > 0.0:
        shares[:-1] = 1.0
    return source.choice(shares.size, size=rows, p=shares / shares.sum())


def _values(
    profile: Profile,
    feature: NumericFeature | CategoricalFeature,
    places: npt.NDArray[np.int64],
    size: int,
    source: np.random.Generator,
) -> npt.NDArray[Any]:
    """Values in the contract's unit that lie in bins `places` of `size`."""
    if isinstance(feature, CategoricalFeature):
        words = np.array([*feature.vocabulary, ""], dtype=object)
        return words[places]
    if feature.name in profile.booleans:
        units = places / (_FLAG_VALUES - 1.0)
    else:
        units = (places + source.random(places.size)) / (size - 1)
    above = np.clip(units, 0.0, 1.0)
    width = feature.high - feature.low
    value = np.expm1(above * np.log1p(width)) if feature.transform == "log1p" else above * width
    return np.where(places == size - 1, np.nan, feature.low + value)


def _bins(logits: Vector, bins: int, scale: ScoreScale) -> npt.NDArray[np.int64]:
    unit = (
        sigmoid(logits)
        if scale == "even"
        else np.clip(logits, -LOGIT_RANGE, LOGIT_RANGE) / (2.0 * LOGIT_RANGE) + 0.5
    )
    return np.clip(np.floor(unit * bins), 0, bins - 1).astype(np.int64)


def _fitted(inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Vector:
    """Logistic regression with a small ridge, by Newton's method; (width + 1,), the intercept last."""
    rows = _with_one(inputs)
    ridge = np.full(rows.shape[1], _RIDGE)
    weights = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        chance = sigmoid(rows @ weights)
        slope = rows.T @ (chance - labels) + ridge * weights
        spread = np.clip(chance * (1.0 - chance), 1e-6, None)
        weights = weights - np.linalg.solve((rows * spread[:, None]).T @ rows + np.diag(ridge), slope)
    return weights


def _with_one(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.column_stack((inputs.astype(np.float64), np.ones(len(inputs))))


def _log_loss(logits: Vector, labels: npt.NDArray[np.int64]) -> float:
    return float((np.logaddexp(0.0, logits) - labels * logits).mean())
