"""Forecasts: intervals that a backtest shows to be honest, and when a threshold is crossed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.tsa.holtwinters import Holt

from strategies.analytics import forecasts
from strategies.analytics.forecasts import COVERAGE, LEAST_WINDOWS, crossing, forecast
from strategies.errors import Refused, UsageError


def series(kind: str, windows: int, rng: np.random.Generator) -> np.ndarray:
    place, chance = np.arange(windows), rng.normal(0.0, 1.0, windows)
    match kind:
        case "level":
            return 0.05 + 0.01 * chance
        case "trend":
            return 0.02 + 0.006 * place + 0.01 * chance
        case "walk":
            return 0.3 + np.cumsum(0.01 * chance)
        case "season":
            return 0.2 + 0.03 * np.sin(2.0 * math.pi * place / 12.0 + rng.uniform(0.0, 6.0)) + 0.01 * chance
    raise AssertionError(kind)


@pytest.mark.parametrize("windows", [18, 36])
def test_80_percent_intervals_cover_75_to_85_percent(windows: int) -> None:
    rng, ahead, hits = np.random.default_rng(1), 4, []
    for kind in ("level", "trend", "walk", "season"):
        for _ in range(100):
            values = series(kind, windows + ahead, rng)
            found = forecast(values[:windows], ahead)
            after = values[windows:]
            hits += [
                low <= value <= high for low, value, high in zip(found.low, after, found.high, strict=True)
            ]
    assert 0.75 <= np.mean(hits) <= 0.85, np.mean(hits)
    assert COVERAGE == 0.8


def test_each_trend_is_holts_with_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    values = series("trend", 20, np.random.default_rng(2))
    alpha, beta, damping = 0.4, 0.3, 0.9
    # Holt's beta is of the trend's change by alpha: here it is of the level's.
    monkeypatch.setattr(forecasts, "_TRENDS", ((alpha, beta, damping),))
    known = Holt(
        values, damped_trend=True, initialization_method="known", initial_level=values[0], initial_trend=0.0
    )
    fitted = known.fit(smoothing_level=alpha, smoothing_trend=beta, damping_trend=damping, optimized=False)
    assert forecast(values, 4).middle == pytest.approx(fitted.forecast(4), rel=1e-9)


def test_a_drift_that_goes_on_crosses_and_a_level_does_not() -> None:
    rng = np.random.default_rng(3)
    rising = 0.02 + 0.01 * np.arange(14) + rng.normal(0.0, 0.002, 14)
    found = crossing(forecast(rising), 0.19)
    assert found.likely is not None
    assert found.earliest is not None
    assert found.earliest <= found.likely
    assert found.likely in {4, 5, 6}
    level = crossing(forecast(0.05 + rng.normal(0.0, 0.002, 14)), 0.2)
    assert (level.earliest, level.likely, level.latest) == (None, None, None)


def test_figures_that_cannot_be_negative_are_forecast_by_their_root() -> None:
    values = (0.05 + 0.03 * np.arange(12)) ** 2
    found = forecast(values, root=True)
    assert min(found.low) >= 0.0
    assert found.middle[0] == pytest.approx(0.41**2, rel=0.05)


def test_few_windows_and_bad_figures_give_no_forecast() -> None:
    with pytest.raises(Refused, match=f"there are 9 windows to forecast from; from {LEAST_WINDOWS} on"):
        forecast(np.zeros(9))
    for values, ahead in (
        (np.zeros((3, 4)), 3),
        (np.array([math.nan] * 12), 3),
        (np.zeros(12), 7),
        (np.zeros(12), 0),
    ):
        with pytest.raises(UsageError, match="finite figures and 1 to 6 windows"):
            forecast(values, ahead)
