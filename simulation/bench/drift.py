"""`covenant bench drift`: how often windows without drift raise an alarm, whether a shift is found, and whether forecasts' intervals cover.

Windows are histograms of ten bins and one of missing values, drawn and given noise as a place's are; the reference is noisy as a private evaluation's.
Forecasts are tested on what follows, in four courses: nothing moves, a drift that grows, one that wanders, and one that comes and goes with the year.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulation.bench.report import BenchResult
from strategies.analytics.drift import Drift, drift_between, moved_streams, window_level
from strategies.analytics.forecasts import MOST_AHEAD, forecast
from strategies.analytics.two_histograms import Histogram
from strategies.encoding import Vector

COURSES: Final = ("still", "grows", "wanders", "seasons")
RATE, HORIZON, TOLERATED_PSI, PLANTED_PSI = 0.05, 12, 0.02, 0.2
_REFERENCE_ROWS, _REFERENCE_NOISE = 20_000, 20.0
_USUAL: Final = np.append(np.exp(-(((np.arange(10) - 4) / 2.5) ** 2)), 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """`rows` of each window, `noise` of each of its counts, and how many `streams` a window has."""

    rows: int
    noise: float
    streams: int
    rng: np.random.Generator

    def reference(self) -> Histogram:
        """What an evaluation released."""
        return self._drawn(_leaning(0.0), _REFERENCE_ROWS, _REFERENCE_NOISE)

    def compared(self, reference: Histogram, lean: float, tolerated: float = TOLERATED_PSI) -> Drift:
        """One stream of a window whose population leans."""
        window = self._drawn(_leaning(lean), self.rows, self.noise)
        return drift_between(reference, window, tolerated_psi=tolerated, ordered=True)

    def _drawn(self, shares: Vector, rows: int, noise: float) -> Histogram:
        counts = self.rng.multinomial(rows, shares) + np.rint(self.rng.normal(0.0, noise, shares.size))
        return Histogram(counts, noise)


def measure(*, months: int, series: int, rows: int, noise: float, streams: int, seed: int) -> BenchResult:
    """`months` windows without drift, as many with a planted one, and `series` forecasts in each course."""
    windows = Windows(rows=rows, noise=noise, streams=streams, rng=np.random.default_rng(seed))
    began = time.perf_counter()
    years = max(1, months // HORIZON)
    alarmed = sum(_alarms(windows) for _ in range(years))
    found = [_found_after(windows) for _ in range(years)]
    hits = {course: [_hits(windows, course) for _ in range(series)] for course in COURSES}
    everything = [hit for course in COURSES for one in hits[course] for hit in one]
    return BenchResult(
        bench="drift",
        ours={
            "null_months": float(years * HORIZON),
            "false_alarms_stated": RATE,
            "horizons_with_false_alarm": alarmed / years,
            "planted_psi_found_within_two": sum(each <= 2 for each in found) / years,  # noqa: PLR2004
            "forecasts": float(series * len(COURSES)),
            "coverage_stated": 0.8,
            "coverage": float(np.mean(everything)),
            **{f"coverage_{course}": float(np.mean(hits[course])) for course in COURSES},
            "seconds": time.perf_counter() - began,
        },
    )


def _alarms(windows: Windows) -> bool:
    """Whether one horizon of windows raises any alarm, tested against no drift at all: the rate's whole allowance."""
    references = [windows.reference() for _ in range(windows.streams)]
    return any(_moves(windows, references, 0.0, 0.0) for _ in range(HORIZON))


def _found_after(windows: Windows) -> int:
    """How many windows it takes until a planted shift of the first stream raises the alarm, by the rules as they come."""
    references, lean = [windows.reference() for _ in range(windows.streams)], _lean_of(PLANTED_PSI)
    return next((each for each in range(1, 4) if _moves(windows, references, lean, TOLERATED_PSI)), 4)


def _moves(windows: Windows, references: list[Histogram], lean: float, tolerated: float) -> bool:
    leans = (lean, *(0.0 for _ in references[1:]))
    p_values = {
        str(place): windows.compared(each, how, tolerated).statistic.p_value
        for place, (each, how) in enumerate(zip(references, leans, strict=True))
    }
    return bool(moved_streams(p_values, window_level(RATE, HORIZON)))


def _hits(windows: Windows, course: str) -> list[bool]:
    """Whether each of the windows after a forecast is in its interval."""
    past = int(windows.rng.integers(15, 37))
    reference = windows.reference()
    leans = list(_leans(course, past + MOST_AHEAD, windows.rng))
    values = np.array([windows.compared(reference, each).psi.value for each in leans])
    found = forecast(values[:past], root=True)
    after = values[past:]
    return [low <= value <= high for low, value, high in zip(found.low, after, found.high, strict=True)]


def _leans(course: str, count: int, rng: np.random.Generator) -> Iterator[float]:
    lean, pace, phase = 0.15, rng.uniform(0.005, 0.03), rng.uniform(0.0, 2.0 * math.pi)
    for place in range(count):
        match course:
            case "grows":
                lean += pace
            case "wanders":
                lean = abs(lean + rng.normal(0.0, 0.03))
            case "seasons":
                lean = 0.3 + 0.2 * math.sin(2.0 * math.pi * place / 12.0 + phase)
        yield lean


def _leaning(lean: float) -> Vector:
    shares = _USUAL * np.exp(lean * np.linspace(-1.0, 1.0, _USUAL.size))
    found: Vector = shares / shares.sum()
    return found


def _lean_of(psi: float) -> float:
    """How far a population leans at that PSI from one that does not."""
    low, high, still = 0.0, 20.0, _leaning(0.0)
    for _ in range(60):
        middle = (low + high) / 2.0
        shares = _leaning(middle)
        apart = float(((shares - still) * np.log(shares / still)).sum())
        low, high = (middle, high) if apart < psi else (low, middle)
    return high
