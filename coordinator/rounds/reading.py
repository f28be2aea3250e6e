"""From pooled moments to a scaling, and from pooled counts to metrics: exact where the plan releases exact sums, robust to noise elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import structlog

from coordinator.rounds.question import Pooled, RunDocuments
from protos.panels_told import panels_of, whole
from protos.plan import Plan
from protos.plan_panels import evaluation_cells
from protos.plan_releases import moment_cells, releases_of
from strategies.aggregation import Contribution, admitted, total
from strategies.analytics.histograms import Counts, ScoreMetrics, metrics_from
from strategies.analytics.moments import robust_scaling, scaling_from
from strategies.analytics.noisy import noisy_metrics, noisy_scaling
from strategies.analytics.panels import Panels
from strategies.dp.events import Release
from strategies.dp.mechanisms import MOMENT_BITS, centre_variance, site_variance
from strategies.encoding import Vector
from strategies.errors import Refused
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.update_rules import RobustRule

_log = structlog.get_logger(__name__)


def pooled_moments(plan: Plan, sent: Mapping[SiteName, Vector]) -> Pooled:
    """What sites sent in the clear, (3k,) each: their sum, or under a rule that compares sites the moments of each, (n, 3k), in the order of their names."""
    each = [Contribution(site, moments) for site, moments in sent.items()]
    if isinstance(plan.aggregation.update_rule, RobustRule):
        values = np.stack([item.vector for item in admitted(each)])
    else:
        values = total(each)
    return Pooled(tuple(sorted(sent)), values)


def scaling_of(documents: RunDocuments, pooled: Pooled) -> Scaling:
    """The scaling that pooled moments give. Raises Refused where exact moments give none; noisy ones always give one."""
    values = pooled.values.astype(np.float64, copy=False)
    releases = releases_of(documents.plan, documents.contract)
    if releases is None and isinstance(documents.plan.aggregation.update_rule, RobustRule):
        return robust_scaling(values)
    if releases is None:
        return scaling_from(values)
    cells = moment_cells(documents.plan, documents.contract)
    std = _noise_std(releases.prepare, len(pooled.survivors)) * 2.0 ** (-2 * MOMENT_BITS)
    return noisy_scaling(values, cells.optional, std)


def metrics_of(documents: RunDocuments, pooled: Pooled) -> ScoreMetrics:
    """The metrics that pooled counts give, with panels and a champion's beside them; what is in no panel is kept nowhere. Raises Refused where a class has no rows, or none that the noise lets see."""
    plan, contract = documents.plan, documents.contract
    cells = evaluation_cells(plan, contract)
    blocks = cells.blocks(pooled.values.astype(np.int64, copy=False))
    releases = releases_of(plan, contract)
    std = None if releases is None else _noise_std(releases.evaluate, len(pooled.survivors))

    def read(of_one: Counts) -> ScoreMetrics:
        return metrics_from(of_one) if std is None else noisy_metrics(of_one, std / cells.steps)

    own, *champion = whole(blocks.scores, cells.steps)
    metrics = replace(read(own), panels=panels_of(plan, contract, blocks, std or 0.0))
    try:
        return replace(metrics, champion=read(champion[0])) if champion else metrics
    except Refused as hidden:
        # What the model's own counts show stays, and a gate that compares finds no champion.
        _log.warning("the champion has no metrics", reason=str(hidden))
        return metrics


def panels_alone(documents: RunDocuments, pooled: Pooled) -> Panels | None:
    """What pooled counts say beside scores where `metrics_of` refuses them: other cells of one release, charged with it. None where the plan asks for no panels."""
    plan, contract = documents.plan, documents.contract
    blocks = evaluation_cells(plan, contract).blocks(pooled.values.astype(np.int64, copy=False))
    releases = releases_of(plan, contract)
    std = 0.0 if releases is None else _noise_std(releases.evaluate, len(pooled.survivors))
    return panels_of(plan, contract, blocks, std)


def _noise_std(release: Release, survivors: int) -> float:
    """Standard deviation of the noise that really is on a sum: every survivor's share, not only those that privacy counts on."""
    return math.sqrt(survivors * site_variance(release) + centre_variance(release))
