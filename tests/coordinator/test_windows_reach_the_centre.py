"""Windows of a scoring service as it counts, charges and releases them, judged at the centre: the same bins, digests and numbers on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest

from coordinator.bootstrap import Centre
from coordinator.db import open_database
from coordinator.db.deploy_schema import RunningEvent, TargetRow
from coordinator.db.engine import writing
from coordinator.db.schema import Model
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.scoring.windows.bins import Bins
from coordinator.office.actors import here
from coordinator.office.monitoring import watch
from protos.drift import DriftRules
from protos.log_made import CONTRACT_FILE
from protos.model_stages import Stage
from protos.windows import Window
from strategies.analytics.panels import Panels, ProfilePanel
from tests.coordinator.conftest import RUN
from tests.coordinator.deploy_for_tests import Works
from tests.coordinator.windows_for_tests import AGREED, BEGINS, Place, monitor, place

INPUTS = ("amount", "income", "term")
DECISIONS = 400


@pytest.fixture
def centre(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Centre]:
    copyfile(migrated_sqlite, tmp_path / "covenant.db")
    works = Works.make(tmp_path / "works", open_database(f"sqlite:///{tmp_path / 'covenant.db'}"))
    yield replace(works.centre, clock=lambda: BEGINS + timedelta(days=30))
    works.centre.engine.dispose()


def registered(centre: Centre, told: Window, panels: Panels) -> None:
    """The version that the service answered with, as this centre has registered and deployed it."""
    name, _, version = told.model.partition("@")
    at = centre.clock()
    with writing(centre.engine, "registering") as session:
        session.add(
            Model(
                name=name,
                version=int(version),
                stage=Stage.DEPLOYED,
                run_id=RUN,
                digest=told.version_digest,
                artifacts={CONTRACT_FILE: AGREED.digest},
                metrics={"panels": asdict(panels)},
                created_at=at,
            )
        )
        session.add(TargetRow(name="branch", kind="local", settings="{}", added_by="x", added_at=at))
        session.flush()
        session.add(
            RunningEvent(
                target="branch",
                arm="stable",
                event="begins",
                name=name,
                version=int(version),
                digest=told.version_digest,
                sequence=1,
                revision=1,
                at=at,
            )
        )


def day_of(service: Place, rng: np.random.Generator, number: int, *, low: float, high: float) -> Window:
    """Applications for amounts between two bounds, and what the day's window tells."""
    for each in range(DECISIONS):
        service.one(f"d{number}-{each}", float(rng.uniform(low, high)))
    (told,) = service.next_day()
    return told


def test_a_shift_of_what_is_asked_for_is_an_alarm_about_that_input(centre: Centre, tmp_path: Path) -> None:
    rng, agreed = (
        np.random.default_rng(1),
        monitor(privacy="{noise: 2.0, limit: {epsilon: 50, delta: 1e-6}, period: 365d}"),
    )
    with place(tmp_path / "place", agreed) as service:
        usual = day_of(service, rng, 1, low=0.0, high=500.0)
        assert usual.counted is not None
        bins = Bins.of(agreed, AGREED, INPUTS)
        # An evaluation of as many rows as ten such days, without noise: what the day would be on average.
        profile = {
            name: tuple(max(0, each) * 10 for each in counts)
            for name, counts in usual.counted.profile.items()
        }
        scores = tuple(max(0, each) * 10 for each in usual.counted.scores)
        panel = ProfilePanel(
            counts=profile,
            labels=bins.profile.labels,
            noise_std=10 * usual.counted.noise_std,
            scores=(scores, scores),
        )
        registered(centre, usual, Panels(noise_std=10 * usual.counted.noise_std, profile=panel))
        watch(centre, here(), "lending", 3, agreed, DriftRules(), "a test")
        assert receive(centre, usual).alarm is None
        shifted = day_of(service, rng, 2, low=500.0, high=1000.0)
        assert receive(centre, shifted).alarm is not None
        assert receive(centre, shifted).new is False
    (alarm,) = views.alarms(centre.engine)
    assert "input amount" in alarm["moved"]
    assert "input term" not in alarm["moved"]
    assert "amount" in alarm["words"]
