"""Where every model is in its loop: by command, over the control API, and in the console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from coordinator.api.client import ControlClient
from coordinator.api.loop_desk import RemoteLoopDesk
from coordinator.bootstrap import Centre
from coordinator.db import writing
from coordinator.db.engine import reading
from coordinator.db.monitor_schema import AlertRow
from coordinator.db.schema import Run, RunState
from coordinator.deploy.monitoring.alerts.channels import Alerts, Mail
from coordinator.deploy.monitoring.alerts.outbox import alerts
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from coordinator.deploy.monitoring.retraining.status import STEPS, loop_status
from coordinator.office import retraining as office
from coordinator.office.actors import here
from coordinator.office.loop_desk import LocalLoopDesk
from coordinator.office.monitoring import acknowledge
from protos.documents import load_document, read_document
from protos.plan import Plan
from strategies.errors import Refused
from tests.coordinator.api_for_tests import Bank
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.gate_for_tests import gated_run
from tests.coordinator.loop_for_tests import leave_weights, loop_events, raise_alarm, ready, row_of
from tests.coordinator.monitor_for_tests import Watch, made, watched
from tests.coordinator.test_api_roles import bank
from tests.private_plan_for_tests import private_plan

pytestmark = pytest.mark.slow

__all__ = ["bank", "made", "watched"]


def states(centre: Centre) -> dict[str, str]:
    (found,) = loop_status(centre.engine)
    assert tuple(each["step"] for each in found["steps"]) == STEPS
    return {"at": found["at"], **{each["step"]: each["state"] for each in found["steps"]}}


def step(centre: Centre, name: str) -> dict[str, Any]:
    (found,) = loop_status(centre.engine, NAME)
    return next(each for each in found["steps"] if each["step"] == name)


def test_a_model_goes_round_the_loop(watched: Watch) -> None:
    centre = ready(watched).works.centre
    found = states(centre)
    assert found == {
        "at": "monitored",
        "trained": "done",
        "judged": "done",
        "approved": "done",
        "deployed": "done",
        "monitored": "done",
        "alarm": "none",
        "draft": "none",
        "retraining": "none",
    }
    assert step(centre, "monitored")["says"] == "version 1; no window has come yet"
    receive(centre, watched.place("north").decisions(watched.population))
    last = step(centre, "monitored")["facts"]["last"]
    assert (last["place"], last["moved"]) == ("north", [])
    assert step(centre, "deployed")["facts"]["places"] == [
        {"target": "branch", "version": 1, "arm": "stable", "share": 1.0},
        {"target": "north", "version": 1, "arm": "stable", "share": 1.0},
    ]
    alarm = raise_alarm(watched)
    assert (states(centre)["at"], step(centre, "alarm")["facts"]["alarm"]) == ("alarm", alarm)
    (draft,) = draft_due(centre)
    assert states(centre)["draft"] == "waits"
    assert step(centre, "draft")["facts"]["draft"] == draft
    acknowledge(centre, here(), alarm, "we retrain")
    office.adopt(centre, here(), draft, "we retrain")
    found = states(centre)
    assert (found["at"], found["alarm"], found["draft"], found["retraining"]) == (
        "retraining",
        "none",
        "done",
        "waits",
    )
    run = gated_run("run-" + "cd" * 8)
    run.submitted_at = centre.clock()
    with writing(centre.engine, "launching") as session:
        session.add(run)
    assert states(centre)["retraining"] == "going"
    assert step(centre, "retraining")["facts"]["as_drafted"] is False
    with writing(centre.engine, "ending") as session:
        session.get_one(Run, run.id).state = RunState.FAILED
    assert states(centre)["retraining"] == "bad"


def test_a_fault_in_the_data_says_why_nothing_is_drafted(watched: Watch) -> None:
    centre = ready(watched).works.centre
    raise_alarm(watched)
    with writing(centre.engine, "as if") as session:
        from coordinator.db.monitor_schema import AlarmRow

        session.query(AlarmRow).update({"cause": "data fault"})
    assert draft_due(centre) == ()
    assert "is mended, and not trained on" in step(centre, "draft")["says"]


def test_a_draft_is_told_to_the_channels_in_its_transaction(watched: Watch) -> None:
    found = ready(watched).works.centre
    mail = Mail(host="127.0.0.1", port=1, security="none", sender="a@bank.example", to=("b@bank.example",))
    config = found.settings.config.model_copy(update={"alerts": Alerts(mail=mail)})
    centre = replace(found, settings=replace(found.settings, config=config))
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    (told,) = alerts(centre, waiting=True)
    assert told["about"] == draft
    assert told["title"] == f"{draft}: a plan to retrain {NAME}"
    with reading(centre.engine, "looking") as session:
        body = session.query(AlertRow).one().body
    assert "text" not in body["facts"]
    assert f"covenant loop show {draft}" in body["lines"][-1]


# --- commands -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def works(watched: Watch, tmp_path: Path) -> Works:
    """As watched, in a home where commands find it."""
    ready(watched)
    raise_alarm(watched)
    home = tmp_path / "home"
    copytree(watched.works.home, home)
    watched.works.centre.engine.dispose()
    (tmp_path / "watched.db").replace(home / "covenant.db")
    return Works.opened(home, f"sqlite:///{home / 'covenant.db'}")


@pytest.fixture
def covenant(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    yield commands_in(tmp_path, monkeypatch, capsys)
    works.centre.engine.dispose()


def test_commands_draft_show_adopt_and_dismiss(covenant: Command, tmp_path: Path) -> None:
    drafted = facts_of(covenant, "loop", "draft", NAME)
    draft = drafted["id"]
    assert covenant("loop", "draft", NAME)[0] == 3
    assert [each["id"] for each in facts_of(covenant, "loop", "drafts")["drafts"]] == [draft]
    code, _, err = covenant("loop", "show", draft)
    assert code == 0
    assert 'covenant: "plan/v1"' in err
    status = facts_of(covenant, "loop", "status")["models"]
    assert [each["model"] for each in status] == [NAME]
    code, _, err = covenant("loop", "status", NAME)
    assert code == 0
    assert "WAITS" in err
    assert covenant("loop", "status", "cards")[0] == 2
    taken = facts_of(covenant, "loop", "adopt", draft, "--out", "again.yaml")
    plan = load_document(tmp_path / "again.yaml", Plan)
    assert plan.digest == taken["plan"] == drafted["plan"]
    checked = facts_of(covenant, "plan", "check", "again.yaml")
    assert checked["digest"] == plan.digest  # the contract lies beside it
    assert covenant("loop", "adopt", draft, "--out", "again.yaml")[0] == 2
    assert covenant("loop", "dismiss", draft, "--reason", "no")[0] == 3
    assert covenant("loop", "show", "draft-1")[0] == 2
    other = facts_of(covenant, "loop", "draft", NAME)["id"]
    (tmp_path / "lending-club.yaml").write_text(
        (tmp_path / "lending-club.yaml").read_text().replace("36", "40")
    )
    code, _, err = covenant("loop", "adopt", other, "--out", "other.yaml")
    assert code == 3
    assert "is another contract" in err
    assert not (tmp_path / "other.yaml").exists()
    assert facts_of(covenant, "loop", "dismiss", other, "--reason", "not now") == {"draft": other}
    assert facts_of(covenant, "loop", "drafts") == {"drafts": []}
    assert len(facts_of(covenant, "loop", "drafts", "--all")["drafts"]) == 2


# --- over the control API ---------------------------------------------------------------------------------------------


def test_the_api_gives_engineers_the_same_and_others_less(bank: Bank) -> None:
    def client(name: str) -> RemoteLoopDesk:
        found: ControlClient = bank.client(name)
        return RemoteLoopDesk(found)

    engineer, auditor = client("author-1"), client("auditor-1")
    assert auditor.status() == LocalLoopDesk(bank.centre).status() == []
    assert auditor.drafts(only_open=False) == []
    advice = engineer.advice(private_plan())
    assert advice == LocalLoopDesk(bank.centre).advice(private_plan())
    with pytest.raises(Refused):
        auditor.draft(NAME)
    with pytest.raises(Refused):
        client("operator-1").status()
    with pytest.raises(Refused):
        client("risk-1").adopt("draft-" + "ab" * 8, "why")


def test_a_watched_model_is_drafted_and_adopted_by_an_engineer_over_the_api(watched: Watch) -> None:
    """The functions of the API, called as the server calls them."""
    from coordinator.api.calls import Caller
    from coordinator.api.loop import Loop
    from coordinator.office.actors import Actor
    from protos import loop_pb2 as wire

    centre = ready(watched).works.centre
    raise_alarm(watched)
    from coordinator.documents import read_members

    officer = read_members(centre.settings)[1].members.officer("author-1")
    call: Any = Caller(actor=Actor(officer))
    api = Loop(centre)
    draft = api.draft(wire.DraftRetrainingRequest(model=NAME), call).draft
    text = __import__("json").loads(api.draft_facts(wire.GetDraftRequest(draft=draft), call).facts)["text"]
    assert read_document(text, Plan, "text").name == NAME
    api.adopt(wire.DecideDraftRequest(draft=draft, why="yes"), call)
    row = row_of(centre, draft)
    assert (row.state, row.decided_by, row.drafted_by) == ("adopted", "author-1", "author-1")
    assert len(loop_events(centre)) == 2


def test_a_model_without_weights_has_a_loop_too(watched: Watch) -> None:
    assert states(watched.works.centre)["at"] == "monitored"
    leave_weights(watched.works.centre)
    assert states(watched.works.centre)["at"] == "monitored"
