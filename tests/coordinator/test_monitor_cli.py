"""`covenant monitor` at the coordinator and over the control API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from coordinator.api.monitor_desk import RemoteMonitorDesk
from coordinator.cli.log_words import words_of
from coordinator.cli.monitor_tables import sparkline
from coordinator.db.deploy_schema import RunningEvent, TargetRow
from coordinator.db.engine import reading, writing
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.watched import reference_of
from coordinator.governance.log import open_log
from coordinator.office.monitor_desk import LocalMonitorDesk
from coordinator.registry.versions import register
from protos.contract import Contract
from protos.documents import read_document
from protos.drift import DriftReference, DriftRules
from protos.log_entries import LogEntry
from protos.log_made import CONTRACT_FILE
from protos.windows import Monitor, Windows
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, serving
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of, membership
from tests.coordinator.conftest import RUN
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.gate_for_tests import gated_run
from tests.coordinator.monitor_for_tests import MONITOR, Place, Population, Watch, metrics_of, numbers, tilted
from tests.private_plan_for_tests import CONTRACT

pytestmark = pytest.mark.usefixtures("heard")


@pytest.fixture
def works(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Works]:
    works = Works.make_at(tmp_path / "home", migrated_sqlite)
    yield works
    works.centre.engine.dispose()


@pytest.fixture
def covenant(works: Works, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(works.home.parent, monkeypatch, capsys)


@pytest.mark.slow
def test_from_a_version_that_is_watched_to_an_alarm_that_is_acknowledged(
    works: Works, covenant: Command, tmp_path: Path
) -> None:
    population, rng = Population.usual(), np.random.default_rng(4)
    works.approved(1, metrics_of(population, rng))
    monitor, rules, out = tmp_path / "monitor.yaml", tmp_path / "rules.yaml", tmp_path / "reference.json"
    monitor.write_text(MONITOR)
    rules.write_text("covenant: drift-rules/v1\nfalse_alarm_rate: 0.01\nhorizon: 30\n")
    model = f"{NAME}@1"
    added = facts_of(
        covenant, "monitor", "add", model, str(monitor), "--rules", str(rules), "--why", "it decides"
    )
    watched = read_document(MONITOR, Monitor, "monitor")
    assert added["monitor"] == watched.digest
    facts_of(covenant, "monitor", "reference", model, "--out", str(out))
    reference = DriftReference.from_canonical(out.read_bytes())
    place = Watch(works, population, reference, watched, rng).place()
    with works.serving() as service:
        works.start(1, "branch")
        works.drive("branch")
        drifted = Population.usual()
        drifted.inputs[numbers()[0]] = tilted(drifted.inputs[numbers()[0]], 0.6)
        service.windows = [*(place.decisions(population) for _ in range(11)), place.decisions(drifted)]
        (taken,) = facts_of(covenant, "monitor", "collect")["places"]
        assert (taken["new"], len(taken["alarms"])) == (12, 1)
    (status,) = facts_of(covenant, "monitor", "status")["monitors"]
    assert (status["windows"], status["alarm"]["cause"]) == (12, "population shift")
    (alarm,) = facts_of(covenant, "monitor", "alarms")["alarms"]
    shown = {
        "status": "at most 0.01 in 30 windows",
        "windows": "nothing moved further than is tolerated",
        "alarms": "probably another population at branch",
        "alerts": "alerts",
    }
    for command, said in shown.items():
        code, _, told = covenant("monitor", command, *([model] if command == "windows" else []))
        assert code == 0
        assert said in " ".join(told.split()), told
    facts_of(covenant, "monitor", "acknowledge", alarm["id"], "--why", "we retrain")
    assert facts_of(covenant, "monitor", "alarms")["alarms"] == []
    assert len(facts_of(covenant, "monitor", "alarms", "--all")["alarms"]) == 1
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    lines = [words_of(LogEntry.from_canonical(each.body).what) for each in log.entries()]
    assert any(
        "false alarms at most 0.01 in 30 windows, PSI 0.02 and metrics worse by 0.02 tolerated" in each
        for each in lines
    )
    assert lines[-1] == f"{alarm['id']} of {NAME} is acknowledged by an operator: we retrain"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("windows", f"{NAME}@1"), 2, "is not watched"),
        (("acknowledge", "alarm-" + "ab" * 8, "--why", "x"), 2, "there is no alarm"),
        (("collect",), 2, "there is no target of kind local"),
        (("alerts", "--retry", "alarm-" + "ab" * 8), 2, "was given up"),
        (("reference", "model", "--out", "x"), 2, "names no version"),
    ],
)
def test_what_cannot_be_done_is_said(covenant: Command, words: tuple[str, ...], code: int, said: str) -> None:
    got, _, told = covenant("monitor", *words)
    assert (got, said in " ".join(told.split())) == (code, True), told


def test_a_series_is_shown_as_blocks_up_to_its_threshold() -> None:
    assert sparkline([0.0, 0.1, 0.2], 0.2) == "▁▅█"
    assert sparkline([0.4, 0.2], 0.2) == "█▅"
    assert sparkline([0.0], 0.0) == "▁"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path, accounts=False)


def desk(bank: Bank, name: str) -> RemoteMonitorDesk:
    return RemoteMonitorDesk(bank.client(name))


def test_officers_watch_and_look_as_their_roles_say(bank: Bank) -> None:
    monitor = read_document(MONITOR, Monitor, "monitor")
    for name in ("privacy-1", "admin-1", "auditor-1", "operator-1"):
        with pytest.raises(Refused, match=f"{name} is .*takes ml_engineer or model_risk"):
            desk(bank, name).watch(NAME, 1, monitor, DriftRules(), "why")
        with pytest.raises(Refused, match=f"{name} is .*takes ml_engineer or model_risk"):
            desk(bank, name).acknowledge("alarm-" + "ab" * 8, "why")
    for name in ("author-1", "risk-1"):
        with pytest.raises(UsageError, match=f"there is no model {NAME}@1"):
            desk(bank, name).watch(NAME, 1, monitor, DriftRules(), "why")
        with pytest.raises(UsageError, match="there is no alarm"):
            desk(bank, name).acknowledge("alarm-" + "ab" * 8, "why")
    for name in ("author-1", "privacy-1", "risk-1", "auditor-1"):
        remote = desk(bank, name)
        assert (remote.monitors(), remote.alarms(only_open=True), remote.alerts(waiting=False)) == (
            [],
            [],
            [],
        )
        with pytest.raises(UsageError, match="is not watched"):
            remote.windows(NAME, 1)
    with pytest.raises(UsageError, match="there is no target 'branch'"):
        desk(bank, "author-1").import_windows(Windows(place="branch", last=0))
    with pytest.raises(UsageError, match="was given up"):
        desk(bank, "admin-1").try_again("alarm-" + "ab" * 8)
    with pytest.raises(Refused, match="admin-1 is"):
        desk(bank, "admin-1").monitors()


def test_an_engineer_watches_and_sees_the_same_from_another_machine(bank: Bank) -> None:
    centre, rng, population = bank.centre, np.random.default_rng(3), Population.usual()
    files = {CONTRACT_FILE: read_document(CONTRACT, Contract, "contract").canonical}
    with writing(centre.engine, "registering") as session:
        session.add(gated_run())
    version = register(
        centre.engine,
        centre.artifacts,
        name=NAME,
        run_id=RUN,
        files=files,
        weights=membership().digest,
        metrics=metrics_of(population, rng),
        clock=centre.clock,
    )
    with writing(centre.engine, "running") as session:
        at = centre.clock()
        session.add(TargetRow(name="branch", kind="local", settings="{}", added_by="x", added_at=at))
        session.flush()
        facts = {"target": "branch", "arm": "stable", "event": "begins", "name": NAME, "version": 1}
        session.add(RunningEvent(**facts, digest=version.digest, sequence=1, revision=1, at=at))
    engineer, local = desk(bank, "author-1"), LocalMonitorDesk(centre)
    monitor = read_document(MONITOR, Monitor, "monitor")
    engineer.watch(NAME, 1, monitor, DriftRules(), "in production")
    with reading(centre.engine, "looking") as session:
        reference = reference_of(session, NAME, 1)
    begins = centre.clock().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=30)
    place = Place("branch", reference, monitor, begins, rng)
    drifted = Population.usual()
    drifted.inputs[numbers()[0]] = tilted(drifted.inputs[numbers()[0]], 0.6)
    raised = receive(centre, place.decisions(drifted)).alarm
    assert raised is not None
    assert engineer.monitors() == local.monitors()
    assert engineer.windows(NAME, 1) == local.windows(NAME, 1)
    assert engineer.alarms(only_open=True) == local.alarms(only_open=True)
    desk(bank, "risk-1").acknowledge(raised, "seen")
    (alarm,) = engineer.alarms(only_open=False)
    assert (alarm["acknowledged_by"], alarm["why"]) == ("risk-1", "seen")
    assert [type(each).__name__ for each in bank.told("monitor-added")] == ["MonitorAdded"]
