"""Where score counts of a version are released: its evaluation, with a champion's on the same rows, and the windows of outcomes from where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from coordinator.bootstrap import Centre
from coordinator.registry.lineage import lineage_of
from coordinator.registry.production import outcome_windows
from coordinator.registry.versions import ModelVersion
from protos.plan_releases import releases_of
from protos.windows import Monitor, Window
from strategies.analytics.noisy import score_bounds
from strategies.analytics.panels import ProfilePanel
from strategies.analytics.value import ScoreTable
from strategies.errors import Refused

EVALUATION: Final = "evaluation"
_LABELS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Counts with their title, or why there are none to work with (`cannot`). `champion` scored the same rows."""

    title: str
    table: ScoreTable | None = None
    champion: ScoreTable | None = None
    champion_ref: str = ""
    cannot: str = ""


def sources_of(centre: Centre, version: ModelVersion) -> tuple[Source, ...]:
    """The evaluation, and then each window of outcomes, newest first."""
    return (_evaluated(centre, version), *_in_production(centre, version))


def _evaluated(centre: Centre, version: ModelVersion) -> Source:
    plan_of = lineage_of(centre, version, entries=False)
    title, plan = "held-out rows of the evaluation", plan_of.plan
    panels = version.released
    profile = None if panels is None else panels.profile
    if panels is None or profile is None or len(profile.scores) != _LABELS:
        return Source(title=title, cannot=_no_counts(version, profile))
    scale: Literal["even", "logit"] = "even" if releases_of(plan, plan_of.contract) is None else "logit"
    champion = plan.evaluation.champion
    try:
        table = _table(profile.scores, scale, panels.noise_std)
    except Refused as error:
        return Source(title=title, cannot=str(error))
    if champion is None or len(profile.champion) != _LABELS:
        return Source(title=title, table=table)
    try:
        other = _table(profile.champion, scale, panels.noise_std)
    except Refused:  # its counts may be hidden where the model's own are not
        return Source(title=title, table=table)
    return Source(title=title, table=table, champion=other, champion_ref=champion.model)


def _no_counts(version: ModelVersion, profile: ProfilePanel | None) -> str:
    if version.metrics is None and version.panels is None:
        return f"{version.ref} has no evaluation, so there are no counts to work with"
    if profile is not None:
        return f"the evaluation of {version.ref} has more score bins than are kept; use at most 1002 in the next plan"
    return (
        f"the evaluation of {version.ref} kept its metrics and no score counts, so nothing can be said of thresholds; ask for `evaluation.profile` in the next"
        " plan, which keeps them"
    )


def _in_production(centre: Centre, version: ModelVersion) -> Sequence[Source]:
    monitor, windows = outcome_windows(centre.engine, version.name, version.version)
    return [] if monitor is None else [_window(each, monitor) for each in windows]


def _window(window: Window, monitor: Monitor) -> Source:
    """One window; `outcomes` are those that had arrived when it was released."""
    title = f"window {window.number} at {window.place}, {window.begins:%Y-%m-%d %H:%M} to {window.ends:%Y-%m-%d %H:%M} UTC"
    found = window.outcomes
    if found is None:
        return Source(
            title=title, cannot="no outcomes were released: the place's monitoring budget was spent"
        )
    try:
        return Source(title=title, table=_table(found.counts, monitor.score_scale, found.noise_std))
    except Refused as error:
        return Source(title=title, cannot=str(error))


def _table(counts: Any, scale: Literal["even", "logit"], noise_std: float) -> ScoreTable:  # noqa: ANN401  (tuples of counts, of whichever document)
    found = np.array(counts, dtype=np.int64)
    return ScoreTable(counts=found, bounds=score_bounds(found.shape[1], scale), noise_std=noise_std)
