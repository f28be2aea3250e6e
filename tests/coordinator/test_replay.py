"""Replaying the whole log into an empty database gives what the log told of: the same ledger, runs, rounds and models."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from coordinator.db import open_database, reading, writing
from coordinator.deploy.gate import validate
from coordinator.deploy.monitoring.watched import reference_of
from coordinator.ledger.ceilings import Proposal
from coordinator.registry.explanations import explained_version
from coordinator.registry.publish import publish
from coordinator.registry.stages import move, set_alias
from coordinator.registry.versions import find_version
from coordinator.rounds.record import RoundConflict
from protos.frames import Stage
from protos.log_audit import audit
from protos.log_entries import LogEntry
from protos.log_run_events import RoundEvaluated
from protos.model_stages import Stage as Stages
from strategies.errors import CovenantError
from tests.coordinator.gate_for_tests import PRIVATE, gated, passed
from tests.coordinator.private_for_tests import MODES, Make, Private, make, templates
from tests.coordinator.recovery_for_tests import replayed, told
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import decide, log_of, open_again, pinned_by

__all__ = ["make", "templates"]


def completed(federation: Private) -> None:
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")


def stopped_and_resumed(federation: Private) -> None:
    federation.wire.before = lambda ask: (
        federation.store.finish("stopped", "a person") if ask.stage is Stage.EVALUATE else None
    )
    with pytest.raises(RoundConflict):
        federation.drive()
    federation.wire.before = lambda _: None
    open_again(federation)
    completed(federation)


def moved(federation: Private) -> None:
    """A model that came through all stages, was taken back, and one alias."""
    completed(federation)
    name, at = federation.plan.name, federation.centre.clock()
    for to in (Stages.QUARANTINED, Stages.CANDIDATE):
        with writing(federation.engine, "moving") as session:
            move(session, name, 1, to, why="a test", by="model-risk", at=at)
    passed(federation.centre, name, 1)
    set_alias(federation.centre, name, "next", 1, by="ml-engineer")
    set_alias(federation.centre, name, "best", 1, by="ml-engineer")
    set_alias(federation.centre, name, "best", None, by="ml-engineer")


def given_up(federation: Private) -> None:
    federation.wire.before = lambda ask: (
        federation.store.finish("failed", "a disk") if ask.number == 2 else None
    )
    with pytest.raises(CovenantError):
        federation.drive()
    federation.ledger.release_run(RUN, "nobody wants it any more")


def decided(federation: Private) -> None:
    """Ceilings raised, lowered and with alerts, one of which is reached at once."""
    site = federation.sites[0]
    population = federation.plan.population_of(site)
    unit = next(each.key for each in federation.ledger.accounts() if each.key.site == site)
    before = federation.ledger.show(site, population)
    assert before.key == unit
    for epsilon, alerts in ((60.0, [0.01, 0.9]), (55.0, None)):
        proposal = Proposal(
            epsilon=epsilon,
            delta=before.ceiling.delta,
            unit=before.ceiling.unit,
            reason="a year's plans",
            alert_at=alerts,
        )
        decide(federation, site, population, proposal, "ledger-1", "ledger-2")
    completed(federation)


def with_losses(seed: int) -> Callable[[Private], None]:
    def lived(federation: Private) -> None:
        source = Random(seed)
        federation.wire.request_lost = lambda site, ask: source.random() < 0.015
        federation.wire.reply_lost = lambda site, ask: source.random() < 0.015
        try:
            completed(federation)
        except CovenantError as error:
            federation.store.finish("failed", str(error))

    return lived


HIDING = {
    "evaluation: 1.0": "evaluation: 400.0",
    'salt: "1"}}': 'salt: "1"}, explanations: {clip: 1.5, parts: none}, profile: {bins: 5}}',
}
"""Panels beside counts with so much noise that neither class is seen."""
STORIES: dict[str, Callable[[Private], None]] = {
    "completed": completed,
    "stopped and resumed": stopped_and_resumed,
    "given up": given_up,
    "moved": moved,
    "ceilings": decided,
    "losses": with_losses(1),
}


def require_same(federation: Private, folder: str) -> None:
    before = told(federation.engine)
    again = open_database(f"sqlite:///{folder}/replayed.db")
    try:
        replayed(again, [each.body for each in log_of(federation).entries()], pinned_by(federation))
        after = told(again)
    finally:
        again.dispose()
    for table, rows in before.items():
        assert after[table] == rows, table


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(
            each, marks=[] if each in {"stopped and resumed", "given up", "moved"} else pytest.mark.slow
        )
        for each in STORIES
    ],
)
def test_the_whole_log_replayed_gives_the_same_tables(story: str, make: Make, tmp_path: object) -> None:
    federation = make(gated(PRIVATE))
    STORIES[story](federation)
    require_same(federation, str(tmp_path))
    audit((each.body for each in log_of(federation).entries()), pinned_by(federation))


def test_panels_of_an_evaluation_that_hides_a_class_are_kept_told_and_replayed(
    make: Make, tmp_path: object
) -> None:
    """They are cells of one release, charged with those that show nothing; the version is refused by its gates and watched by its reference."""
    federation = make(gated("[{metric: auc, at_least: 0.5}]") | HIDING)
    completed(federation)
    engine, name = federation.engine, federation.plan.name
    version = find_version(engine, f"{name}@1")
    assert version.metrics is None
    assert version.released is not None
    assert version.released.profile is not None
    explained = explained_version(engine, version)
    assert explained.explanation is not None
    assert explained.explanation.features or explained.explanation.cannot
    with reading(engine, "looking") as session:
        reference = reference_of(session, name, 1)
    assert set(reference.profile) == set(federation.plan.features)
    verdict = validate(federation.centre, version, why="a test", by="gate")
    assert not verdict.passed
    assert "gave no metrics" in verdict.failures[0]
    require_same(federation, str(tmp_path))
    found = [
        each.what
        for each in map(LogEntry.from_canonical, (each.body for each in log_of(federation).entries()))
        if isinstance(each.what, RoundEvaluated)
    ]
    assert [(each.metrics, each.panels is None) for each in found] == [(None, False)]
    audit((each.body for each in log_of(federation).entries()), pinned_by(federation))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_on_the_way_the_log_replayed_gives_the_same_tables(
    mode: str, seed: int, make: Make, tmp_path: object
) -> None:
    federation = make(MODES[mode])
    with_losses(seed)(federation)
    require_same(federation, str(tmp_path))
