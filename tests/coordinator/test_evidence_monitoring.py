"""Evidence tells how a version is watched: its rules, its alarms with their cause, who has seen them, and the plans that were drafted because of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.db import reading, writing
from coordinator.deploy.monitoring.watched import reference_of
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form
from coordinator.governance.evidence.write import story_here, story_in
from coordinator.governance.exports import export_log
from coordinator.governance.log import append
from protos.documents import read_document
from protos.drift import DriftRules
from protos.log_loop import RetrainingDecided, RetrainingDrafted
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded, alarm_of
from protos.windows import Monitor
from strategies.encoding import digest_of
from tests.coordinator.monitor_for_tests import MONITOR
from tests.coordinator.private_for_tests import Templates, private_plan, templates
from tests.coordinator.registry_for_tests import NAME, Registry
from tests.coordinator.test_evidence import Evidenced, bare, facts_of, plain, shown_by
from tests.coordinator.test_log_export import log_of, pinned_by

__all__ = ["bare", "templates"]
WINDOWS = {alarm_of(each): each for each in (digest_of({"window": number}) for number in (1, 2))}
(FIRST, SECOND), DRAFT = WINDOWS, "draft-" + "c3" * 8
DAY = timedelta(days=1)
PROFILED = {"evaluation: {every: 2,": "evaluation: {every: 2, profile: {bins: 4},"}
WORDS = "probably another population: <b>income</b> has moved"


def _alarm(registry: Registry, alarm: str, **changes: Any) -> DriftAlarm:
    at = registry.federation.centre.clock()
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    told = {
        "alarm": alarm,
        "model": NAME,
        "version": 1,
        "place": "branch",
        "window": WINDOWS[alarm],
        "number": 3,
        "begins": midnight - DAY,
        "ends": midnight,
        "moved": tuple(f"feature_{each}" for each in range(12)),
        "cause": "population shift",
        "words": WORDS,
        "evidence": ("income: PSI 0.31 (0.22 to 0.41)",),
    }
    return DriftAlarm(**{**told, **changes})


@pytest.fixture(scope="module")
def drifted(templates: Templates) -> Iterator[Evidenced]:
    """A version whose log tells of a monitor, two alarms of which one was seen, and a draft that was dismissed."""
    registry = Registry.of(templates.copy(private_plan(PROFILED)))
    centre, version = registry.federation.centre, registry.version
    monitor = read_document(
        MONITOR.replace("lending-default", NAME) + "protected: [band]\n", Monitor, "monitor"
    )
    plan, contract = registry.federation.documents.plan, registry.federation.documents.contract
    with reading(centre.engine, "looking") as session:
        reference = reference_of(session, NAME, 1)
    entries = (
        MonitorAdded(
            model=NAME,
            version=1,
            digest=version.digest,
            contract=contract.digest,
            monitor=monitor,
            rules=DriftRules(false_alarm_rate=0.01, horizon=30),
            reference=reference.digest,
            why="it decides",
            by="engineer-1",
        ),
        _alarm(registry, FIRST),
        RetrainingDrafted(
            draft=DRAFT,
            model=NAME,
            version=1,
            alarm=FIRST,
            text=plan.canonical.decode(),
            plan=plan.digest,
            contract=contract.digest,
            says=("4 of 4 sites",),
            gain={"said": "nothing"},
            by="an alarm",
        ),
        DriftAcknowledged(alarm=FIRST, model=NAME, why="we look", by="engineer-1"),
        RetrainingDecided(draft=DRAFT, model=NAME, decision="dismissed", why="too early", by="author-1"),
        _alarm(registry, SECOND, cause="data fault", words="income is missing", evidence=()),
    )
    with writing(centre.engine, "what monitoring tells") as session:
        append(session, centre.clock(), iter(entries))
    yield Evidenced(registry, story_here(centre, NAME))
    registry.federation.close()


def test_card_and_dossier_tell_rules_alarms_and_drafts(drifted: Evidenced) -> None:
    for kind in (EvidenceKind.CARD, EvidenceKind.DOSSIER):
        told = facts_of(drifted.story, kind)
        (rate,) = (
            each for name, each in told.items() if name.startswith("watched.") and name.endswith(".rate")
        )
        assert rate.value == 0.01
        assert told[f"alarms.{FIRST}.words"].shown == WORDS
        assert told[f"alarms.{FIRST}.cause"].shown == "population shift"
        assert told[f"alarms.{FIRST}.moved"].shown.endswith("feature_7 and 4 more")
        assert told[f"alarms.{FIRST}.evidence.1"].shown == "income: PSI 0.31 (0.22 to 0.41)"
        assert told[f"alarms.{FIRST}.seen"].shown == "engineer-1"
        assert f"alarms.{SECOND}.seen" not in told
        assert told[f"drafts.{DRAFT}.alarm"].shown == FIRST
        assert (told[f"drafts.{DRAFT}.then"].shown, told[f"drafts.{DRAFT}.why"].shown) == (
            "dismissed",
            "too early",
        )
        lacks = {each.what for each in document(drifted.story, kind).missing()}
        assert "Whether it drifts where it runs" not in lacks
    assert not any(name.startswith("alarms.") for name in facts_of(drifted.story, EvidenceKind.PRIVACY))


def test_every_fact_names_the_entry_that_has_it(drifted: Evidenced) -> None:
    by_place = {each.seq: each.what.kind for each in drifted.story.told}
    told = facts_of(drifted.story, EvidenceKind.CARD)
    kinds = {
        f"alarms.{FIRST}.words": "drift-alarm",
        f"alarms.{FIRST}.seen": "drift-acknowledged",
        f"drafts.{DRAFT}.plan": "retraining-drafted",
        f"drafts.{DRAFT}.then": "retraining-decided",
    }
    assert {name: by_place[told[name].entries[0]] for name in kinds} == kinds


@pytest.mark.parametrize("form", [pytest.param(each, id=each) for each in Form])
def test_all_forms_have_alarms(drifted: Evidenced, form: Form) -> None:
    card = document(drifted.story, EvidenceKind.CARD)
    shown = shown_by(card, form)
    for each in (WORDS, "engineer-1", "too early", SECOND):
        assert plain(each) in shown


def test_an_export_tells_the_same(drifted: Evidenced, tmp_path: Path) -> None:
    federation, file = drifted.registry.federation, tmp_path / "log.jsonl"
    export_log(log_of(federation), "demo", file)
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(federation.centre.artifacts.get(drifted.story.model.artifacts["model.onnx"]))
    story = story_in(file, pinned_by(federation), None, NAME, onnx)
    assert document(story, EvidenceKind.CARD).view() == document(drifted.story, EvidenceKind.CARD).view()


def test_a_version_that_nobody_watches_is_said_to_be_none(bare: Evidenced) -> None:
    card = document(bare.story, EvidenceKind.CARD)
    assert "nobody who watches this version" in str(card.view())
    lacks = {each.what: each.supply for each in card.missing()}
    assert lacks["Whether it drifts where it runs"] == f"covenant monitor add {NAME}@1"
