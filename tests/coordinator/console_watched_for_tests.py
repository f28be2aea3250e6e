"""A console in front of a model whose evaluation told of groups and features, that runs at two places, was watched for weeks, had two alarms, and is to be retrained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import select

from coordinator.db import writing
from coordinator.db.schema import Round
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from coordinator.governance.log import open_log
from coordinator.governance.witnesses import WitnessBook
from coordinator.office import monitoring
from coordinator.office.actors import here
from protos.drift import DriftRules
from protos.windows import Window
from protos.witness import Evidence
from strategies.analytics.panels import NOT_GIVEN, AttributionPanel, Panels
from tests.coordinator.cli_for_tests import open_accounts
from tests.coordinator.conftest import RUN
from tests.coordinator.console_deployed_for_tests import Desk, desk
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.loop_for_tests import leave_history, leave_weights
from tests.coordinator.monitor_for_tests import (
    Place,
    Population,
    Watch,
    features,
    metrics_of,
    numbers,
    tilted,
)
from tests.protos.test_gates import NOISY
from tests.strategies.analytics.explanations_for_tests import contributions
from tests.strategies.analytics.explanations_for_tests import panel as attributions
from tests.strategies.analytics.fairness_for_tests import panel as groups
from tests.strategies.analytics.fairness_for_tests import rows

PLACES: Final = ("branch", "north")
MODEL: Final = f"{NAME}@1"
_QUIET_DAYS, _DRIFT_DAYS = 12, 14
_BAD: Final = {"under 25": 0.3, "25 to 60": 0.1, "over 60": 0.12, NOT_GIVEN: 0.15}
_SIZES: Final = {"under 25": 900, "25 to 60": 6000, "over 60": 2400, NOT_GIVEN: 700}
_NOISE: Final = 6.0


@dataclass(frozen=True, slots=True)
class Watched:
    """The desk, and the draft that waits."""

    desk: Desk
    draft: str


@contextmanager
def watched_desk(home: Path, migrated: Path) -> Iterator[Watched]:
    """All of it, served."""
    with desk(home, migrated) as at:
        works, rng, usual = at.works, np.random.default_rng(5), Population.usual()
        works.approved(1, _metrics(usual, rng))
        for place in PLACES:
            with works.serving(place):
                works.start(1, place)
                works.drive(place)
        leave_weights(works.centre)
        leave_history(works.centre)
        open_accounts(works.centre)
        _evaluated_rounds(at, usual)
        watch = Watch.of(
            works, usual, rng, DriftRules(false_alarm_rate=0.01, horizon=60), protected=("band",)
        )
        _windows(at, watch, usual)
        (draft,) = draft_due(works.centre)
        _fork(at)
        yield Watched(at, draft)


def _metrics(usual: Population, rng: np.random.Generator) -> dict[str, Any]:
    """What an evaluation released: metrics, and panels of groups, features and inputs."""
    metrics = metrics_of(usual, rng)["panels"]
    panels = Panels.from_facts(metrics)
    whole = replace(
        panels,
        groups=(replace(groups(rows(1, _SIZES, _BAD), noise_std=_NOISE), suppressed=("other",)),),
        attributions=_attributions(1),
    )
    found: dict[str, Any] = json.loads(json.dumps({**asdict(NOISY), "panels": asdict(whole)}))
    return found


def _attributions(seed: int) -> AttributionPanel:
    names = features()
    scales = tuple(0.9 / (place + 1) for place in range(len(names)))
    means = tuple((-1.0) ** place * 0.2 / (place + 1) for place in range(len(names)))
    return attributions(
        [contributions(2 * seed + part, 4000, scales, means) for part in range(2)],
        noise_std=_NOISE,
        features=names,
    )


def _evaluated_rounds(at: Desk, usual: Population) -> None:
    with writing(at.works.centre.engine, "evaluated rounds") as session:
        for row in session.scalars(select(Round).where(Round.run_id == RUN)):
            metrics = _metrics(usual, np.random.default_rng(row.number))
            metrics["panels"]["attributions"] = json.loads(json.dumps(asdict(_attributions(row.number))))
            row.metrics = metrics


def _windows(at: Desk, watch: Watch, usual: Population) -> None:
    """Quiet days, a day on which a column was empty, quiet days again, and then a population that moves a little more every day."""
    centre, (branch, north) = at.works.centre, (watch.place(name) for name in PLACES)

    def told(place: Place, population: Population) -> Window:
        window = place.decisions(population)
        receive(centre, window)
        return window

    for _ in range(_QUIET_DAYS):
        for place in (branch, north):
            told(place, usual)
    empty, feature = Population.usual(), numbers()[0]
    empty.inputs[feature] = np.append(usual.inputs[feature][:-1] * 0.4, 0.6 + 0.4 * 0.02)
    empty.inputs[feature] /= empty.inputs[feature].sum()
    told(branch, empty)
    (alarm,) = views.alarms(centre.engine, only_open=True)
    monitoring.acknowledge(centre, here(), alarm["id"], "the feed of branch sent no values; mended")
    for day in range(_DRIFT_DAYS):
        moved = Population.usual()
        moved.inputs[feature] = tilted(usual.inputs[feature], 0.02 + 0.01 * day * day)
        for place in (branch, north):
            told(place, moved)
    for number in (1, 2, 3, 14, 20):
        receive(centre, _by_group(branch, branch.outcomes(usual, number)))
    receive(centre, branch.decisions(usual, counted=None))


def _by_group(place: Place, window: Window) -> Window:
    """Outcomes of a window, also by group, with one group too small to be told of."""
    assert window.outcomes is not None
    shares = {"under 25": 0.1, "25 to 60": 0.6, "over 60": 0.3}
    told = {
        name: tuple(tuple(int(share * each) for each in label) for label in window.outcomes.counts)
        for name, share in shares.items()
    }
    outcomes = window.outcomes.model_copy(
        update={"groups": {"band": told}, "suppressed": {"band": (NOT_GIVEN,)}}
    )
    return window.model_copy(update={"outcomes": outcomes})


def _fork(at: Desk) -> None:
    """A head that a site has signed and that the log does not have."""
    centre = at.works.centre
    note = open_log(centre.engine, centre.settings, centre.clock).checkpoint().encoded
    WitnessBook(centre.engine, centre.clock).add(RUN, Evidence(shows="split", site="west", notes=(note,)))
