"""Windows at the centre: taken in once, judged, and the one alarm that comes of those that moved."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db import writing
from coordinator.db.engine import reading
from coordinator.db.monitor_schema import AlarmRow, AlertRow, WindowRow
from coordinator.db.schema import Model
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.receiving import Received, receive
from coordinator.documents import read_root
from coordinator.governance.log import append_again, open_log
from coordinator.governance.replay import Replay
from coordinator.office.actors import here
from coordinator.office.monitoring import acknowledge, watch
from protos.drift import DriftReference, DriftRules
from protos.log_audit import Audit, AuditRefused
from protos.log_entries import LogEntry, ModelRegistered
from protos.log_made import require_reference
from protos.log_monitor import (
    DriftAcknowledged,
    DriftAlarm,
    MonitorAdded,
    MonitorEvent,
    MonitorStory,
)
from protos.windows import Monitor, Window
from strategies.analytics.panels import Panels, ProfilePanel, released_panels
from strategies.errors import CovenantError, Refused, UsageError
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.gate_for_tests import gated_run
from tests.coordinator.monitor_for_tests import Population, Watch, made, numbers, tilted, watched
from tests.coordinator.recovery_for_tests import told

__all__ = ["made", "watched"]


def take(watched: Watch, window: Window) -> Received:
    return receive(watched.works.centre, window)


def shifted(feature: str, psi: float = 0.6) -> Population:
    found = Population.usual()
    found.inputs[feature] = tilted(found.inputs[feature], psi)
    return found


def count(engine: Engine, table: Any) -> int:
    with reading(engine, "counting") as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)


def events(watched: Watch) -> list[MonitorEvent]:
    log = open_log(watched.works.centre.engine, watched.works.centre.settings, watched.works.centre.clock)
    found = [LogEntry.from_canonical(each.body).what for each in log.entries()]
    return [each for each in found if isinstance(each, MonitorEvent)]


def test_windows_of_the_usual_population_raise_nothing_and_say_what_they_would_find(watched: Watch) -> None:
    place = watched.place()
    for _ in range(8):
        got = take(watched, place.decisions(watched.population))
        assert got.new
        assert got.alarm is None
    (found,) = views.windows(watched.works.centre.engine, NAME, 1)["places"]
    stream = found["windows"][-1]["streams"][f"input {numbers()[0]}"]
    assert stream["psi"][1] <= 0.01 <= stream["psi"][2] + 0.01
    assert 0.0 < stream["finds_psi"] < 0.2
    assert stream["rows"] == pytest.approx(4000, abs=150)


def test_a_shift_raises_one_alarm_with_the_feature_in_the_log_until_it_is_acknowledged(
    watched: Watch,
) -> None:
    feature, place, centre = numbers()[0], watched.place(), watched.works.centre
    take(watched, place.decisions(watched.population))
    first = take(watched, place.decisions(shifted(feature)))
    assert first.alarm is not None
    second = take(watched, place.decisions(shifted(feature)))
    assert second.new
    assert second.judged is not None
    assert second.judged.moved
    assert second.alarm is None
    (alarm,) = views.alarms(centre.engine, only_open=True)
    assert alarm["moved"] == [f"input {feature}"]
    assert alarm["cause"] == "population shift"
    assert feature in alarm["words"]
    acknowledge(centre, here(), first.alarm, "we saw it")
    with pytest.raises(Refused, match="was acknowledged by an operator: we saw it"):
        acknowledge(centre, here(), first.alarm, "again")
    third = take(watched, place.decisions(shifted(feature)))
    assert third.alarm not in {None, first.alarm}
    kinds = [type(each) for each in events(watched)]
    assert kinds[-3:] == [DriftAlarm, DriftAcknowledged, DriftAlarm]


def test_the_same_window_again_changes_nothing_and_another_under_its_number_is_refused(
    watched: Watch,
) -> None:
    place = watched.place()
    window = place.decisions(shifted(numbers()[0]))
    assert take(watched, window).alarm is not None
    before = told(watched.works.centre.engine), len(events(watched))
    assert take(watched, window) == Received(new=False)
    assert (told(watched.works.centre.engine), len(events(watched))) == before
    place.sequence, place.numbers["decisions"] = 0, 0
    with pytest.raises(Refused, match="told another window before"):
        take(watched, place.decisions(watched.population))
    place.numbers["decisions"] = 0
    with pytest.raises(Refused, match="one window is told once"):
        take(watched, place.decisions(watched.population))
    assert count(watched.works.centre.engine, WindowRow) == 1


@pytest.mark.parametrize("field", ["version_digest", "contract", "monitor"])
def test_counts_of_another_model_contract_or_monitor_are_not_taken_for_these(
    watched: Watch, field: str
) -> None:
    with pytest.raises(Refused, match="are not taken for the other's"):
        take(watched, watched.place().decisions(watched.population, **{field: "ab" * 32}))


def test_what_is_not_watched_never_ran_there_or_is_not_over_is_refused(watched: Watch) -> None:
    with pytest.raises(Refused, match="lending-default@7 is not watched"):
        take(watched, watched.place().decisions(watched.population, model=f"{NAME}@7"))
    with pytest.raises(Refused, match="never ran on elsewhere"):
        take(watched, watched.place("elsewhere").decisions(watched.population))
    later = watched.works.centre.clock() + timedelta(hours=5)
    with pytest.raises(Refused, match="is not over; partial windows are not looked at"):
        take(watched, watched.place().decisions(watched.population, ends=later))
    window = watched.place().decisions(watched.population)
    assert window.counted is not None
    short = window.counted.model_copy(update={"scores": window.counted.scores[:-1]})
    with pytest.raises(Refused, match="has 19 bins of score, and 20 are expected"):
        take(watched, window.model_copy(update={"counted": short}))
    assert count(watched.works.centre.engine, WindowRow) == 0


def test_no_traffic_few_rows_and_a_spent_budget_are_said_and_raise_nothing(watched: Watch) -> None:
    place = watched.place()
    assert take(watched, place.decisions(watched.population, rows=0)).judged.said is not None
    few = take(watched, place.decisions(watched.population, rows=60)).judged
    assert take(watched, place.decisions(watched.population, counted=None)).judged.said.startswith(
        "the place's monitoring budget of this period is spent"
    )
    assert few.said is not None
    said = [
        each["said"] for each in views.windows(watched.works.centre.engine, NAME, 1)["places"][0]["windows"]
    ]
    assert "shows no traffic" in said[0]
    assert not views.alarms(watched.works.centre.engine)


def missing(feature: str) -> Population:
    found = Population.usual()
    found.inputs[feature] = found.inputs[feature] * 0.6
    found.inputs[feature][-1] += 0.4
    return found


def in_another_unit(feature: str) -> Population:
    """As in thousands: everything is in the first bin."""
    found = Population.usual()
    found.inputs[feature] = np.eye(found.inputs[feature].size)[0] * 0.98 + 0.02 / found.inputs[feature].size
    return found


def stuck(feature: str) -> Population:
    found = Population.usual()
    found.inputs[feature] = np.eye(found.inputs[feature].size)[4] * 0.95 + found.inputs[feature] * 0.05
    return found


@pytest.mark.parametrize(
    ("planted", "evidence"),
    [
        (missing, "values are missing"),
        (in_another_unit, "values lie at the end of their range"),
        (stuck, "one value takes nearly all"),
    ],
)
def test_a_planted_fault_is_called_a_fault_with_its_evidence_and_its_place(
    watched: Watch, planted: Any, evidence: str
) -> None:
    feature, centre = numbers()[1], watched.works.centre
    take(watched, watched.place("north").decisions(watched.population))
    assert take(watched, watched.place().decisions(planted(feature))).alarm is not None
    (alarm,) = views.alarms(centre.engine)
    assert alarm["cause"] == "data fault"
    assert alarm["evidence"][0].startswith(f"{feature}: {evidence}")
    assert "at branch" in alarm["words"]
    assert "no other place moved" in alarm["words"]


def test_outcomes_that_move_while_inputs_do_not_are_concept_drift(watched: Watch) -> None:
    place, centre = watched.place(), watched.works.centre
    take(watched, place.decisions(watched.population))
    same = take(watched, place.outcomes(watched.population, 1))
    assert same.alarm is None
    drifted = Population.usual()
    drifted.outcomes = np.clip(drifted.outcomes + 0.15, 0.0, 0.99)
    take(watched, place.decisions(watched.population))
    raised = take(watched, place.outcomes(drifted, 2))
    assert raised.alarm is not None
    (alarm,) = views.alarms(centre.engine)
    assert alarm["cause"] == "concept drift"
    assert "outcomes" in alarm["moved"]
    outcomes = next(
        each for each in views.windows(centre.engine, NAME, 1)["places"] if each["of"] == "outcomes"
    )
    auc = outcomes["windows"][0]["streams"]["auc"]
    assert auc["window"][1] <= auc["reference"][0] <= auc["window"][2]


def test_a_shift_at_all_places_is_not_one_places_fault(watched: Watch) -> None:
    feature = numbers()[0]
    assert take(watched, watched.place("north").decisions(shifted(feature))).alarm is not None
    acknowledge(watched.works.centre, here(), views.alarms(watched.works.centre.engine)[0]["id"], "seen")
    assert take(watched, watched.place().decisions(shifted(feature))).alarm is not None
    alarm = views.alarms(watched.works.centre.engine, only_open=True)[0]
    assert "at branch, north" in alarm["words"]
    assert "no other place" not in alarm["words"]


def test_a_version_without_a_profile_or_with_other_bins_is_not_watched(watched: Watch) -> None:
    centre, monitor = watched.works.centre, watched.monitor
    with pytest.raises(
        UsageError, match="the monitor has 30 score bins, the evaluation of lending-default@1 had 20"
    ):
        watch(centre, here(), NAME, 1, monitor.model_copy(update={"score_bins": 30}), DriftRules(), "why")
    watched.works.registered(2)
    with pytest.raises(Refused, match="released no profile of inputs and scores"):
        watch(centre, here(), NAME, 2, monitor, DriftRules(), "why")
    with pytest.raises(UsageError, match="there is no model lending-default@9"):
        watch(centre, here(), NAME, 9, monitor, DriftRules(), "why")


def test_metrics_that_were_changed_in_the_registry_are_no_reference(watched: Watch) -> None:
    with writing(watched.works.centre.engine, "tampering") as session:
        row = session.get_one(Model, (NAME, 1))
        panels = dict(row.metrics["panels"])
        row.metrics = {**row.metrics, "panels": {**panels, "noise_std": 1000.0}}
    with pytest.raises(Refused, match="the registry's metrics were changed since"):
        take(watched, watched.place().decisions(watched.population))


def test_the_log_brings_monitors_and_alarms_back(watched: Watch, engine: Engine) -> None:
    centre = watched.works.centre
    got = take(watched, watched.place().decisions(shifted(numbers()[0])))
    assert got.alarm is not None
    acknowledge(centre, here(), got.alarm, "seen")
    with writing(engine, "submitting") as session:
        session.add(gated_run())
    log = open_log(centre.engine, centre.settings, centre.clock)
    with engine.begin() as connection, Session(bind=connection, expire_on_commit=False) as session:
        replay = Replay(session, engine, read_root(centre.settings))
        for seq, each in enumerate(log.entries()):
            append_again(session, [each.body])
            replay.take(seq, each.body)
        session.commit()
    before, after = told(centre.engine), told(engine)
    for table in ("drift_monitors", "drift_alarms"):
        assert after[table] == before[table]
        assert before[table]


def test_the_story_of_monitoring_is_judged_by_whoever_reads_the_log(watched: Watch) -> None:
    centre = watched.works.centre
    got = take(watched, watched.place().decisions(shifted(numbers()[0])))
    assert got.alarm is not None
    log = open_log(centre.engine, centre.settings, centre.clock)
    entries = [LogEntry.from_canonical(each.body) for each in log.entries()]
    registered = {
        (each.what.name, each.what.version, each.what.digest)
        for each in entries
        if isinstance(each.what, ModelRegistered)
    }
    added = next(each for each in entries if isinstance(each.what, MonitorAdded))
    alarm = next(each for each in entries if isinstance(each.what, DriftAlarm))
    story = MonitorStory()
    with pytest.raises(Refused, match="is not watched"):
        story.take(alarm.what, registered, alarm.at)
    with pytest.raises(Refused, match="is not registered"):
        story.take(added.what, set(), added.at)
    story.take(added.what, registered, added.at)
    renamed = alarm.what.model_copy(update={"alarm": "alarm-" + "ab" * 8})
    with pytest.raises(Refused, match="is of window"):
        story.take(renamed, registered, alarm.at)
    longer = alarm.what.model_copy(update={"begins": alarm.what.begins - timedelta(days=1)})
    shifted_ = alarm.what.model_copy(
        update={each: getattr(alarm.what, each) - timedelta(hours=1) for each in ("begins", "ends")}
    )
    for lie in (longer, shifted_):
        with pytest.raises(Refused, match="is of no window of the monitor"):
            story.take(lie, registered, alarm.at)
    story.take(alarm.what, registered, alarm.at)
    other = alarm.what.model_copy(update={"window": "ab" * 32, "alarm": "alarm-" + "ab" * 8})
    with pytest.raises(Refused, match="whose alarm is alarm-abababababababab"):
        story.take(alarm.what.model_copy(update={"window": "ab" * 32}), registered, alarm.at)
    with pytest.raises(Refused, match="has an open alarm already"):
        story.take(other, registered, alarm.at)
    seen = DriftAcknowledged(alarm=alarm.what.alarm, model=NAME, why="seen", by="risk-1")
    story.take(seen, registered, alarm.at)
    with pytest.raises(Refused, match="is raised twice"):
        story.take(alarm.what, registered, alarm.at)
    with pytest.raises(Refused, match="is not the open alarm"):
        story.take(seen, registered, alarm.at)
    with pytest.raises(Refused, match="of a window that is not over"):
        story.take(other, registered, alarm.what.begins)


def test_a_crash_before_the_alarm_is_kept_leaves_no_window_either(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alarm, window, entry and alerts are one transaction."""
    from coordinator.deploy.monitoring import receiving

    window, engine = watched.place().decisions(shifted(numbers()[0])), watched.works.centre.engine

    def dies(*_: Any) -> None:
        raise CovenantError("the power failed")

    with monkeypatch.context() as patched:
        patched.setattr(receiving, "put_in", dies)
        with pytest.raises(CovenantError, match="the power failed"):
            take(watched, window)
    assert [count(engine, each) for each in (WindowRow, AlarmRow, AlertRow)] == [0, 0, 0]
    assert take(watched, window).alarm is not None


def test_a_monitor_is_of_its_own_model(watched: Watch) -> None:
    other = Monitor(**{**dict(watched.monitor), "model": "cards"})
    with pytest.raises(UsageError, match="this monitor is of cards"):
        watch(watched.works.centre, here(), NAME, 1, other, DriftRules(), "why")


def test_an_evaluation_of_more_bins_than_a_window_has_is_no_reference() -> None:
    profile = ProfilePanel(counts={"age": (5, 5)}, labels={"age": ("0 to 1", "missing")}, noise_std=0.0)
    with pytest.raises(Refused, match="had more score bins than the 1002 that a window can have"):
        DriftReference.of_panels(
            Panels(noise_std=0.0, profile=profile),
            model=f"{NAME}@1",
            version_digest="a" * 64,
            contract="b" * 64,
        )


def test_an_auditor_holds_the_reference_to_what_the_evaluation_released(watched: Watch) -> None:
    centre = watched.works.centre
    log = open_log(centre.engine, centre.settings, centre.clock)
    entries = [LogEntry.from_canonical(each.body) for each in log.entries()]
    added = next(each.what for each in entries if isinstance(each.what, MonitorAdded))
    made = next(
        each.what
        for each in entries
        if isinstance(each.what, ModelRegistered) and each.what.version == added.version
    )
    with reading(centre.engine, "looking") as session:
        metrics = session.get_one(Model, (NAME, added.version)).metrics
    assert metrics is not None
    told_of = json.loads(json.dumps(metrics))
    for metrics, alone in ((told_of, None), (None, told_of["panels"])):
        require_reference(added, made, released_panels(metrics, alone))
    with pytest.raises(Refused, match="is watched by reference"):
        require_reference(
            added.model_copy(update={"contract": "ab" * 32}), made, released_panels(told_of, None)
        )
    next(iter(told_of["panels"]["profile"]["counts"].values()))[0] += 1
    with pytest.raises(Refused, match="released comes to"):
        require_reference(added, made, released_panels(told_of, None))
    with pytest.raises(Refused, match="released no profile"):
        require_reference(added, made, None)


def test_an_auditor_judges_alarms_with_the_rest_of_the_log(watched: Watch) -> None:
    """Beside a model that is in the log: its run, of rows alone, is judged elsewhere."""
    centre = watched.works.centre
    got = take(watched, watched.place().decisions(shifted(numbers()[0])))
    log = open_log(centre.engine, centre.settings, centre.clock)
    entries = [LogEntry.from_canonical(each.body) for each in log.entries()]
    audit = Audit(read_root(centre.settings))
    audit.models += [each.what for each in entries if isinstance(each.what, ModelRegistered)]
    told = [each for each in entries if isinstance(each.what, MonitorEvent)]
    for seq, each in enumerate(told):
        audit.take(seq, each.canonical)
    assert audit.monitors.open == {NAME: got.alarm}
    with pytest.raises(AuditRefused, match=r"entry 9 \(drift-alarm\): alarm-[0-9a-f]+ is raised twice"):
        audit.take(9, told[-1].canonical)
