"""Counts by protected group of where a version runs, added up over the windows of outcomes that its places have released."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlalchemy import Engine, select

from coordinator.db.engine import reading
from coordinator.db.monitor_schema import MonitorRow, WindowRow
from protos.windows import Monitor, Outcomes, Window
from strategies.analytics.noisy import score_bounds
from strategies.analytics.panels import GroupPanel, Panels

Counts = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows by score bin, of label 0 and then of label 1."""
MOST_WINDOWS: Final = 200


def outcome_windows(engine: Engine, name: str, version: int) -> tuple[Monitor | None, Sequence[Window]]:
    """The monitor of a version, if it is watched, and its newest windows of outcomes from all places."""
    with reading(engine, f"reading outcomes of {name}@{version}") as session:
        row = session.get(MonitorRow, (name, version))
        query = select(WindowRow.document).where(
            WindowRow.name == name, WindowRow.version == version, WindowRow.of == "outcomes"
        )
        newest = session.scalars(
            query.order_by(WindowRow.ends.desc(), WindowRow.id.desc()).limit(MOST_WINDOWS)
        )
        windows = [Window.from_canonical(each.encode()) for each in newest]
        return (None if row is None else Monitor.from_canonical(row.monitor.encode())), windows


def production_panels(windows: Sequence[Window], monitor: Monitor, declines_at: float) -> Panels:
    """One panel for each attribute that any window tells of. Scores are divided at the edge of their bins that is nearest to `declines_at`.

    A group that some windows suppress is summed over the others, and has less noise than is said. One that none tells of is suppressed.
    """
    told = [each.outcomes for each in windows if each.outcomes is not None and each.outcomes.groups]
    edges = tuple(score_bounds(monitor.score_bins, monitor.score_scale).tolist())
    declines = 1 + int(np.argmin([abs(each - declines_at) for each in edges[1:-1]]))
    attributes = dict.fromkeys(name for each in told for name in (each.groups or {}))
    return Panels(
        noise_std=math.sqrt(sum(each.noise_std**2 for each in told)),
        groups=tuple(_panel(name, told, edges, declines) for name in attributes),
    )


def _panel(attribute: str, told: Sequence[Outcomes], edges: tuple[float, ...], declines: int) -> GroupPanel:
    counts: dict[str, Counts] = {}
    hidden: dict[str, None] = {}
    for each in told:
        for group, (good, bad) in (each.groups or {}).get(attribute, {}).items():
            before = counts.get(group, ((0,) * len(good), (0,) * len(bad)))
            counts[group] = (_sum(before[0], good), _sum(before[1], bad))
        hidden |= dict.fromkeys((each.suppressed or {}).get(attribute, ()))
    return GroupPanel(
        attribute=attribute,
        edges=edges,
        declines=declines,
        counts=counts,
        suppressed=tuple(each for each in hidden if each not in counts),
    )


def _sum(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
