"""From pooled moments to a scaling, and from pooled counts to metrics: exact where the plan releases exact sums, robust to noise elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import structlog

from coordinator.rounds.question import Pooled, RunDocuments
from protos.plan_releases import moment_cells, releases_of
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.moments import scaling_from
from strategies.analytics.noisy import noisy_metrics, noisy_scaling
from strategies.dp.events import Release
from strategies.dp.mechanisms import MOMENT_BITS, centre_variance, site_variance
from strategies.errors import Refused
from strategies.features import Scaling

_log = structlog.get_logger(__name__)


def scaling_of(documents: RunDocuments, pooled: Pooled) -> Scaling:
    """The scaling that pooled moments give. Raises Refused where exact moments give none; noisy ones always give one."""
    values = pooled.values.astype(np.float64, copy=False)
    releases = releases_of(documents.plan, documents.contract)
    if releases is None:
        return scaling_from(values)
    cells = moment_cells(documents.plan, documents.contract)
    std = _noise_std(releases.prepare, len(pooled.survivors)) * 2.0 ** (-2 * MOMENT_BITS)
    return noisy_scaling(values, cells.optional, std)


def metrics_of(documents: RunDocuments, pooled: Pooled) -> ScoreMetrics:
    """The metrics that pooled counts give, with a champion's beside them. Raises Refused where a class has no rows, or none that the noise lets see."""
    counts = pooled.values.astype(np.int64, copy=False)
    releases = releases_of(documents.plan, documents.contract)
    read = metrics_from
    if releases is not None:
        read = partial(noisy_metrics, noise_std=_noise_std(releases.evaluate, len(pooled.survivors)))
    own, *champion = counts.reshape(documents.plan.evaluation.models, 2, -1)
    metrics = read(own)
    try:
        return replace(metrics, champion=read(champion[0])) if champion else metrics
    except (
        Refused
    ) as hidden:  # what the model's own counts show stays, and a gate that compares finds no champion
        _log.warning("the champion has no metrics", reason=str(hidden))
        return metrics


def _noise_std(release: Release, survivors: int) -> float:
    """Standard deviation of the noise that really is on a sum: every survivor's share, not only those that privacy counts on."""
    return math.sqrt(survivors * site_variance(release) + centre_variance(release))
