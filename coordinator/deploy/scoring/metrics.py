"""What the scoring service tells Prometheus: counts per arm and model, readiness, and the state in force. No value of an application."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.deploy.scoring.arms import Arm
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import LATENCY_BOUNDS_MS, SCORE_BINS

_LABELS = ("arm", "model", "version")


def exposition(scorer: Scorer) -> bytes:
    """The metrics of one service as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Arms(scorer))
    return generate_latest(registry)


class _Arms(Collector):
    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def collect(self) -> Iterable[Metric]:
        scorer, arms = self._scorer, self._scorer.in_force.arms
        yield GaugeMetricFamily(
            "covenant_scoring_ready",
            "Whether a request would be scored",
            value=scorer.why_not_ready() is None,
        )
        yield GaugeMetricFamily(
            "covenant_scoring_revision", "The serving state in force", value=scorer.in_force.revision
        )
        yield GaugeMetricFamily(
            "covenant_scoring_state_refused",
            "Whether the newest serving state was refused",
            value=scorer.refused is not None,
        )
        if scorer.watch is not None:
            yield GaugeMetricFamily(
                "covenant_scoring_watched",
                "Whether decisions are counted in windows",
                value=scorer.watch.failed is None,
            )
        yield CounterMetricFamily(
            "covenant_scoring_refused_requests", "Requests refused", value=scorer.refused_requests
        )
        for name, about in (
            ("requests", "Requests scored"),
            ("rows", "Applications scored"),
            ("declined", "Applications at or above the threshold"),
            ("errors", "Requests that an arm failed to score"),
        ):
            family = CounterMetricFamily(f"covenant_scoring_{name}", about, labels=_LABELS)
            for arm in arms:
                family.add_metric(_labels(arm), getattr(arm.counts, name))
            yield family
        yield _latencies(arms)
        yield _scores(arms)


def _labels(arm: Arm) -> tuple[str, str, str]:
    return arm.role, arm.loaded.name, str(arm.loaded.version)


def _latencies(arms: Iterable[Arm]) -> Metric:
    family = HistogramMetricFamily(
        "covenant_scoring_latency_seconds", "From a request read to its answer ready", labels=_LABELS
    )
    bounds = [*(f"{bound / 1000:g}" for bound in LATENCY_BOUNDS_MS), "+Inf"]
    for arm in arms:
        family.add_metric(
            _labels(arm), _cumulative(bounds, arm.counts.latencies), arm.counts.latency_sum_ms / 1000
        )
    return family


def _scores(arms: Iterable[Arm]) -> Metric:
    family = HistogramMetricFamily("covenant_scoring_score", "Scores, in bands", labels=_LABELS)
    bounds = [*(f"{place / SCORE_BINS:g}" for place in range(1, SCORE_BINS)), "+Inf"]
    for arm in arms:
        # A band's middle stands for its scores in the sum.
        counts = arm.counts.scores.tolist()
        total = sum(count * (place + 0.5) / SCORE_BINS for place, count in enumerate(counts))
        family.add_metric(_labels(arm), _cumulative(bounds, counts), total)
    return family


def _cumulative(bounds: list[str], counts: list[int]) -> list[tuple[str, float]]:
    running, found = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        running += count
        found.append((bound, float(running)))
    return found
