"""Where the figures of a watched version are going: a forecast for each stream of a place, from its windows so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from protos.drift import DriftRules
from strategies.analytics.forecasts import MOST_AHEAD, Crossing, crossing, forecast
from strategies.errors import Refused

_METRICS: Final = {"auc": -1.0, "log_loss": 1.0, "brier": 1.0}
"""What is forecast of outcomes, with the sign by which more is worse."""
_DIGITS: Final = 6


def figure_of(stream: dict[str, Any]) -> float | None:
    """The figure that people follow: PSI of inputs and scores, the metric itself of outcomes. None where the window says nothing."""
    if "psi" in stream:
        return float(stream["psi"][0])
    return float(stream["window"][0]) if "window" in stream else None


def forecasts_of(windows: Sequence[dict[str, Any]], rules: DriftRules) -> dict[str, Any]:
    """By stream, from what was found in windows of one place, the oldest first: values, forecast, and when it crosses; or why there is none."""
    names = sorted({name for each in windows for name in each["streams"]})
    return {name: told for name in names if (told := _forecast_of(name, windows, rules)) is not None}


def _forecast_of(name: str, windows: Sequence[dict[str, Any]], rules: DriftRules) -> dict[str, Any] | None:
    streams = [each["streams"][name] for each in windows if name in each["streams"]]
    values = [value for each in streams if (value := figure_of(each)) is not None]
    if not values or ("psi" not in streams[-1] and name not in _METRICS):
        return None
    told: dict[str, Any] = {"values": values, "threshold": _threshold(name, streams, rules)}
    try:
        found = _worse(np.array(values), name, told["threshold"])
    except Refused as error:
        return {**told, "said": str(error)}
    return {**told, **found}


def _threshold(name: str, streams: Sequence[dict[str, Any]], rules: DriftRules) -> float:
    """PSI's is the rules'; a metric's is the reference's, worse by what is tolerated."""
    sign = _METRICS.get(name)
    if sign is None:
        return rules.threshold_psi
    told = next(each for each in reversed(streams) if "reference" in each)
    return round(float(told["reference"][0]) + sign * rules.tolerated_drop, _DIGITS)


def _worse(values: np.ndarray, name: str, threshold: float) -> dict[str, Any]:
    sign = _METRICS.get(name, 1.0)
    found = forecast(sign * values, MOST_AHEAD, root=name not in _METRICS)
    crosses: Crossing = crossing(found, sign * threshold)
    ends = [[round(sign * value, _DIGITS) for value in part] for part in (found.low, found.high)]
    return {
        "middle": [round(sign * each, _DIGITS) for each in found.middle],
        "low": ends[0] if sign > 0 else ends[1],
        "high": ends[1] if sign > 0 else ends[0],
        "windows": found.windows,
        "is_over": bool(sign * values[-1] >= sign * threshold),
        "crosses": asdict(crosses),
    }
