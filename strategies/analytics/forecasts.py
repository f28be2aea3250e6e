"""Where a figure that comes once a window is going, with intervals from how wrong the same forecast has been before; and when it will cross a threshold.

1. The forecast is a mean of a few damped local trends (Gardner and McKenzie 1985) with fixed constants, each weighted by how little it has missed lately
   (Bates and Granger 1969): nothing is fitted to more than the past.
2. An interval is conformal: the forecast is made again at each earlier window, and the interval for h windows ahead is as wide as the errors that so
   many windows ahead had, at the rank that covers (Vovk, Gammerman and Shafer 2005). It assumes that coming windows are as hard to foresee as past ones.
3. Too few windows give no forecast. Figures that cannot be negative and grow with the square of a shift, as PSI does, are forecast by their root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

COVERAGE: Final = 0.8
LEAST_WINDOWS: Final = 10
MOST_AHEAD: Final = 6
_TRENDS: Final = ((0.3, 0.0, 0.0), (0.8, 0.0, 0.0), (0.3, 0.1, 0.98), (0.5, 0.3, 0.98), (0.8, 0.5, 0.98))
"""Smoothing of level and of trend, and damping; the first two have no trend."""
_MEMORY: Final = 0.8
"""How much of a trend's past misses counts one window later."""
_LEAST_MISSED: Final = 1e-12
_WARM: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Figures 1, 2, ... windows ahead with their interval, (h,) each, and how many windows it rests on."""

    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    windows: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """In how many windows a threshold is reached: by the forecast, by the upper and by the lower end of its interval. None is later than was looked."""

    likely: int | None
    earliest: int | None
    latest: int | None


def forecast(values: Vector, ahead: int = MOST_AHEAD, *, root: bool = False) -> Forecast:
    """Forecast the next windows of `values`, (n,), oldest first; with `root`, of figures that are never negative. Fewer than `ahead` where history is short.

    Raises UsageError, and Refused for fewer than `LEAST_WINDOWS`.
    """
    if values.ndim != 1 or not np.isfinite(values).all() or not 1 <= ahead <= MOST_AHEAD:
        raise UsageError(f"forecasts take (n,) finite figures and 1 to {MOST_AHEAD} windows ahead")
    if values.size < LEAST_WINDOWS:
        raise Refused(
            f"there are {values.size} windows to forecast from; from {LEAST_WINDOWS} on a forecast can say how wrong it may be"
        )
    known = np.sqrt(np.clip(values, 0.0, None)) if root else values
    steps = min(ahead, values.size - _WARM - 4)
    made = _forecasts(known, steps)
    half = np.array([_reach(made, known, step) for step in range(1, steps + 1)])
    middle, low, high = made[-1], made[-1] - half, made[-1] + half
    if root:
        middle, low, high = (np.clip(each, 0.0, None) ** 2 for each in (middle, low, high))
    return Forecast(
        middle=tuple(middle.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        windows=values.size,
    )


def crossing(found: Forecast, threshold: float) -> Crossing:
    """When a figure that grows reaches `threshold`."""
    return Crossing(*(_first(each, threshold) for each in (found.middle, found.high, found.low)))


def _first(values: tuple[float, ...], threshold: float) -> int | None:
    return next((place + 1 for place, value in enumerate(values) if value >= threshold), None)


def _forecasts(values: Vector, steps: int) -> npt.NDArray[np.float64]:
    """What would have been forecast after each window, (n, steps)."""
    found, weights = np.zeros((values.size, steps)), np.zeros((values.size, 1))
    for alpha, beta, damping in _TRENDS:
        reach = np.cumsum(damping ** np.arange(1, steps + 1))
        level, trend, missed = float(values[0]), 0.0, 0.0
        for place, value in enumerate(values):
            before, ahead = level, level + damping * trend
            missed = _MEMORY * missed + (value - ahead) ** 2
            level = ahead + alpha * (value - ahead)
            trend = damping * trend + beta * (level - before - damping * trend)
            weight = 1.0 / max(missed, _LEAST_MISSED)
            found[place] += weight * (level + reach * trend)
            weights[place] += weight
    return found / weights


def _reach(made: npt.NDArray[np.float64], values: Vector, step: int) -> float:
    """How wide the interval is on either side: between the ranks of past errors that cover a new one, were they exchangeable."""
    errors = np.sort(np.abs(values[_WARM - 1 + step :] - made[_WARM - 1 : values.size - step, step - 1]))
    rank = COVERAGE * (errors.size + 1) - 1.0
    return float(np.interp(rank, np.arange(errors.size), errors))
