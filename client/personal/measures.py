"""How good models are on the same rows, and whether a difference between two of them is more than chance.

1. Units are drawn with replacement, all rows of each together, and the same draws are used for every model: so differences are paired.
2. An interval is the estimate and the bootstrap's standard error times the normal quantile (Efron and Tibshirani 1993, chapter 13).
3. The level is 1 - 0.05 / looks: whoever looks twice asks more of each look (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from client.personal.fitting import losses
from client.personal.parts import Rows
from strategies.encoding import Vector

DRAWS: Final = 400
_MISTAKES: Final = 0.05
_GROUPS: Final = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and where it lies with the level's confidence."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """How far it reaches to either side of the estimate."""
        return (self.high - self.low) / 2

    @property
    def is_above_zero(self) -> bool:
        """Positive, by more than chance."""
        return self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Negative, by more than chance."""
        return self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model: `mean_score` beside the rate of positives, and the mean distance of both over ten groups of equal size by score."""

    auc: Interval
    loss: Interval
    mean_score: float
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Gain:
    """One model against another: how much less loss, and how much more AUC."""

    loss: Interval
    auc: Interval

    @property
    def is_better(self) -> bool:
        """Less loss by more than chance, and no worse order that chance does not explain."""
        return self.loss.is_above_zero and not self.auc.is_below_zero

    @property
    def is_worse(self) -> bool:
        """The other one is better."""
        return self.loss.is_below_zero and not self.auc.is_above_zero


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models on the same rows, by name; draws are (draws, models)."""

    names: tuple[str, ...]
    measured: Mapping[str, Measured]
    looks: int
    _losses: Vector
    _aucs: Vector
    _drawn_losses: npt.NDArray[np.float64]
    _drawn_aucs: npt.NDArray[np.float64]

    def gain(self, name: str, over: str) -> Gain:
        """What `name` gains over another model."""
        a, b = self.names.index(name), self.names.index(over)
        z = _quantile(self.looks)
        return Gain(
            _interval(
                self._losses[b] - self._losses[a], self._drawn_losses[:, b] - self._drawn_losses[:, a], z
            ),
            _interval(self._aucs[a] - self._aucs[b], self._drawn_aucs[:, a] - self._drawn_aucs[:, b], z),
        )


def compare(
    scores: Mapping[str, Vector], rows: Rows, *, seed: int, looks: int = 1, draws: int = DRAWS
) -> Comparison:
    """Measure models by their `scores`, (n,) each, on `rows` of both classes. Equal arguments give equal results."""
    names = tuple(scores)
    each_loss = [losses(scores[name], rows) for name in names]
    order = [_Ranking(scores[name], rows.y) for name in names]
    source = np.random.Generator(np.random.Philox(seed))
    drawn_losses, drawn_aucs = np.empty((draws, len(names))), np.empty((draws, len(names)))
    for draw in range(draws):
        weight = np.bincount(source.integers(0, rows.units, rows.units), minlength=rows.units)[
            rows.unit
        ].astype(np.float64)
        total = weight.sum()
        drawn_losses[draw] = [float(weight @ each) / total for each in each_loss]
        drawn_aucs[draw] = [each.auc(weight) for each in order]
    losses_, aucs = np.array([each.mean() for each in each_loss]), np.array([each.auc() for each in order])
    z = _quantile(looks)
    measured = {
        name: Measured(
            auc=_interval(aucs[place], drawn_aucs[:, place], z),
            loss=_interval(losses_[place], drawn_losses[:, place], z),
            mean_score=float(scores[name].mean()),
            calibration_error=_calibration_error(scores[name], rows.y),
        )
        for place, name in enumerate(names)
    }
    return Comparison(names, measured, looks, losses_, aucs, drawn_losses, drawn_aucs)


def level(looks: int) -> float:
    """The confidence of an interval after so many looks."""
    return 1.0 - _MISTAKES / looks


class _Ranking:
    """Rows in the order of one model's scores, sorted once for all draws."""

    def __init__(self, scores: Vector, y: Vector) -> None:
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        self._positive = y[self._order]

    def auc(self, weight: Vector | None = None) -> float:
        """Share of pairs of a negative and a positive that are ranked rightly, ties half; NaN without both."""
        w = np.ones(len(self._order)) if weight is None else weight[self._order]
        positives = np.add.reduceat(w * self._positive, self._starts)
        negatives = np.add.reduceat(w * (1.0 - self._positive), self._starts)
        pairs = positives.sum() * negatives.sum()
        below = np.cumsum(negatives) - negatives / 2  # ties half
        return float(positives @ below / pairs) if pairs else np.nan


def _interval(value: float, drawn: Vector, z: float) -> Interval:
    error = float(np.nanstd(drawn, ddof=1))
    return Interval(float(value), float(value - z * error), float(value + z * error))


def _quantile(looks: int) -> float:
    return NormalDist().inv_cdf((1.0 + level(looks)) / 2)


def _calibration_error(scores: Vector, y: Vector) -> float:
    order = np.argsort(scores, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order)))
    return float(sum(len(rows) * abs(scores[rows].mean() - y[rows].mean()) for rows in groups) / len(order))
