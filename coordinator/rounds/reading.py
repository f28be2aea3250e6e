"""From pooled moments to a scaling, and from pooled counts to metrics: exact where the plan releases exact sums, robust to noise elsewhere."""

from __future__ import annotations

from coordinator.rounds.question import RunDocuments
from protos.plan_releases import moment_cells, releases_of
from strategies.analytics.histograms import Counts, ScoreMetrics, metrics_from
from strategies.analytics.moments import scaling_from
from strategies.analytics.noisy import noisy_metrics, noisy_scaling
from strategies.dp.mechanisms import MOMENT_BITS
from strategies.encoding import Vector
from strategies.features import Scaling


def scaling_of(documents: RunDocuments, pooled: Vector) -> Scaling:
    """The scaling that pooled moments give. Raises Refused where exact moments give none; noisy ones always give one."""
    releases = releases_of(documents.plan, documents.contract)
    if releases is None:
        return scaling_from(pooled)
    cells = moment_cells(documents.plan, documents.contract)
    std = releases.prepare.variance**0.5 * 2.0 ** (-2 * MOMENT_BITS)
    return noisy_scaling(pooled, cells.optional, std)


def metrics_of(documents: RunDocuments, pooled: Counts) -> ScoreMetrics:
    """The metrics that pooled counts give. Raises Refused where a class has no rows, or none that the noise lets see."""
    releases = releases_of(documents.plan, documents.contract)
    if releases is None:
        return metrics_from(pooled)
    return noisy_metrics(pooled, releases.evaluate.variance**0.5)
