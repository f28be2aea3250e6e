"""What retraining would gain, from the reference and the windows since an alarm; or why that cannot be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.monitor_schema import AlarmRow, WindowRow
from coordinator.deploy.monitoring.watched import Watched, watched_version
from coordinator.registry.champions import champion_of
from protos.contract import Contract
from protos.plan import Plan
from protos.windows import Counted, Outcomes, Window
from strategies.analytics.gain import Serving, Side, expected_gain
from strategies.analytics.outcome_drift import OutcomeCounts
from strategies.analytics.two_histograms import Histogram
from strategies.errors import CovenantError, Refused, UsageError

MOST_WINDOWS: Final = 200
_CANNOT: Final = "expected gain cannot be said"


def gain_facts(
    centre: Centre, plan: Plan, contract: Contract, alarm: AlarmRow | None, seed: int
) -> dict[str, Any]:
    """The gain as JSON, or `said` why there is none. `plan` names as its champion what serves."""
    if alarm is None:
        return {"said": f"{_CANNOT}: no alarm says since when anything moved"}
    try:
        return _simulated(centre, plan, contract, alarm, seed)
    except (Refused, UsageError) as error:
        return {"said": f"{_CANNOT}: {error}"}


def _simulated(centre: Centre, plan: Plan, contract: Contract, alarm: AlarmRow, seed: int) -> dict[str, Any]:
    champion, sent = plan.evaluation.champion, champion_of(centre.engine, centre.artifacts, plan)
    if champion is None or sent is None:
        raise Refused("the weights of what serves are not in this database")
    if champion.model != f"{alarm.name}@{alarm.version}":
        raise Refused(f"{champion.model} serves, and the alarm is of {alarm.name}@{alarm.version}")
    with reading(centre.engine, f"reading windows since {alarm.id}") as session:
        watched = watched_version(session, alarm.name, alarm.version)
        windows = list(_since(session, watched, alarm.begins))
    features = contract.feature_spec(champion.features)
    shape = champion.dense_model(features.width)
    found = expected_gain(
        Serving(
            profile=contract.profile(champion.features, watched.monitor.profile_bins),
            features=features,
            scaling=sent.scaling,
            logits=lambda rows: shape.logits(sent.model, rows),
            scale=watched.monitor.score_scale,
        ),
        _reference(watched),
        _window(windows),
        seed=seed,
    )
    return found.facts() | {"windows": len(windows)}


def _since(session: Session, watched: Watched, begins: datetime) -> Iterator[Window]:
    query = select(WindowRow.document).where(
        WindowRow.name == watched.name, WindowRow.version == watched.version, WindowRow.begins >= begins
    )
    for document in session.scalars(query.order_by(WindowRow.begins, WindowRow.id).limit(MOST_WINDOWS)):
        yield Window.from_canonical(document.encode())


def _reference(watched: Watched) -> Side:
    reference = watched.reference
    return Side(
        profile={name: reference.histogram(name) for name in reference.profile}, outcomes=reference.outcomes()
    )


def _window(windows: Sequence[Window]) -> Side:
    """All windows since, added up: noise adds in variance. Raises Refused where no outcomes, or no decisions, are known."""
    decisions = [each.counted for each in windows if each.counted is not None]
    outcomes = [each.outcomes for each in windows if each.outcomes is not None]
    if not outcomes:
        raise Refused(
            "no outcomes have arrived for decisions since the alarm, and without them no gain is known"
        )
    if not decisions:
        raise Refused("no window since the alarm has counts of inputs")
    names = decisions[0].profile
    return Side(
        profile={name: _added(decisions, name) for name in names},
        outcomes=_outcomes(outcomes),
    )


def _added(decisions: Sequence[Counted], name: str) -> Histogram:
    try:
        counts = np.sum([each.profile[name] for each in decisions], axis=0)
    except (KeyError, ValueError) as error:
        raise CovenantError(f"windows of one version have other bins of {name}") from error
    return Histogram(counts, float(np.sqrt(sum(each.noise_std**2 for each in decisions))))


def _outcomes(outcomes: Sequence[Outcomes]) -> OutcomeCounts:
    counts = np.sum([each.counts for each in outcomes], axis=0)
    return OutcomeCounts(counts, float(np.sqrt(sum(each.noise_std**2 for each in outcomes))))
