"""The spread that noise gives a metric is what finite differences, and noise itself, say it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.noisy import middles_of, noisy_metrics
from strategies.analytics.spread import gap_spread, spread_of

Floats = npt.NDArray[np.float64]
COUNTS: Floats = np.array(
    [[500, 400, 300, 150, 60, 20, 10, 5], [20, 40, 60, 80, 90, 100, 80, 60]], dtype=float
)
MIDDLES = middles_of(8)


def area(counts: Floats) -> float:
    below = np.cumsum(counts[0]) - counts[0] / 2
    return float((counts[1] * below).sum() / np.prod(counts.sum(axis=1)))


def log_loss(counts: Floats) -> float:
    return float(-(counts[0] * np.log1p(-MIDDLES) + counts[1] * np.log(MIDDLES)).sum() / counts.sum())


def brier(counts: Floats) -> float:
    return float((counts[0] * MIDDLES**2 + counts[1] * (1 - MIDDLES) ** 2).sum() / counts.sum())


def gradient(metric: Callable[[Floats], float], counts: Floats, step: float = 1e-3) -> Floats:
    found = np.zeros_like(counts)
    for place in np.ndindex(counts.shape):
        up, down = counts.copy(), counts.copy()
        up[place] += step
        down[place] -= step
        found[place] = (metric(up) - metric(down)) / (2 * step)
    return found


@pytest.mark.parametrize(("name", "metric"), [("auc", area), ("log_loss", log_loss), ("brier", brier)])
def test_spreads_are_the_length_of_the_gradient(name: str, metric: Callable[[Floats], float]) -> None:
    found = spread_of(COUNTS, MIDDLES, area(COUNTS), 2.0)[name]
    assert found == pytest.approx(2.0 * np.linalg.norm(gradient(metric, COUNTS)), rel=1e-6)


def test_the_spread_of_ks_covers_every_threshold() -> None:
    def apart(at: int) -> Callable[[Floats], float]:
        return lambda counts: float(
            counts[0, :at].sum() / counts[0].sum() - counts[1, :at].sum() / counts[1].sum()
        )

    largest = max(np.linalg.norm(gradient(apart(at), COUNTS)) for at in range(1, 9))
    assert spread_of(COUNTS, MIDDLES, area(COUNTS), 2.0)["ks"] == pytest.approx(2.0 * largest, rel=1e-6)


def test_the_spread_of_a_gap_is_the_length_of_its_gradient() -> None:
    def gap(counts: Floats) -> float:
        return float(
            (counts.sum(axis=0) * MIDDLES[2:5]).sum() / counts.sum() - counts[1].sum() / counts.sum()
        )

    inside = COUNTS[:, 2:5]
    assert gap_spread(inside, MIDDLES[2:5], 3.0) == pytest.approx(
        3.0 * np.linalg.norm(gradient(gap, inside)), rel=1e-6
    )


def metrics_with_noise(draws: int, std: float) -> list[ScoreMetrics]:
    source = np.random.default_rng(5)
    return [
        noisy_metrics(np.rint(COUNTS + source.normal(0, std, COUNTS.shape)).astype(np.int64), std)
        for _ in range(draws)
    ]


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier"])
def test_noise_moves_a_metric_by_its_spread(name: str) -> None:
    found = metrics_with_noise(800, 3.0)
    spread = np.std([getattr(each, name) for each in found])
    assert found[0].noise_std is not None
    assert spread == pytest.approx(found[0].noise_std[name], rel=0.15)


def test_exact_counts_have_no_spread() -> None:
    found = noisy_metrics(COUNTS.astype(np.int64), 0.0).noise_std
    assert found is not None
    assert set(found.values()) == {0.0}
    assert set(found) == {"auc", "ks", "brier", "log_loss", "calibration", "group"}
