"""The full demo: officers at machines of their own halt and resume a run, and what an auditor reads afterwards, with the coordinator gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protos.contract import Contract
from protos.documents import load_document
from protos.egress import child_environment
from simulation.demo.equality import largest_difference  # noqa: F401 (fails here, with its reason, if an extra is missing)
from tests.e2e.test_demo import processes_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def reasons_of(contract: Path) -> set[str]:
    columns = load_document(contract, Contract).columns.values()
    return {each.reason for each in columns if each.reason is not None}


def require_loop(drift: dict[str, Any], retraining: dict[str, Any], serves: str) -> None:
    assert (drift["model"], drift["places"], drift["cause"]) == (serves, ["branch"], "population shift")
    assert drift["features"][0] == "funded_amnt"
    assert (drift["false_alarm_rate"], drift["horizon"]) == (0.05, 60)
    assert 0 < drift["epsilon"] <= 8.0
    assert (
        drift["outcomes"] >= 4000
    )  # two windows of the campaign, and on a busy machine one of others' before
    moved = {
        what: [each["moved"] for each in drift["windows"] if each["applicants"] == what]
        for what in ("ordinary", "of the campaign")
    }
    assert not any(moved["ordinary"])
    assert any("input funded_amnt" in each for each in moved["of the campaign"])

    first, again = retraining["first"], retraining
    assert (first["alarm"], first["drafted_by"]) == (drift["alarm"], "an alarm")
    assert "no outcomes have arrived" in first["said"]
    assert (again["author"], again["champion"]) == ("ml-engineer", serves)
    assert first["draft"] != again["draft"]
    assert again["rounds"] > 0
    assert len(again["plan"]) == 64
    assert again["gain"]["windows"] >= 2


def test_from_officers_machines_to_an_auditors_table(tmp_path: Path) -> None:
    folder = tmp_path / "covenant-demo"
    done = subprocess.run(
        [sys.executable, "-m", "coordinator.main", "demo", "--full", "--json", "--folder", str(folder)],
        env=child_environment() | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    governed, audit = facts["governed"], facts["audit"]
    assert 2 <= governed["halted_after"] < governed["rounds"] == 24
    assert governed["stopped_within_s"] < 1.5  # a second, and what a look at a busy machine takes
    assert governed["lifted_by"] == ["privacy-officer", "model-risk"]

    assert (audit["verified"], audit["gaps"]) == (True, [])
    first, second = audit["runs"]
    assert (second["run"], second["state"], second["rounds"]) == (governed["run"], "completed", 24)
    assert second["plan_digest"] == governed["plan"]
    approvers = [
        {"officer": "model-risk", "role": "model_risk"},
        {"officer": "privacy-officer", "role": "privacy_officer"},
    ]
    for run in (first, second):
        assert (run["author"], run["approved_by"]) == ("ml-engineer", approvers)
        assert run["witnessed_by"] == sorted(facts["sites"])
    assert [each["run"] for each in audit["models"]] == [first["run"], second["run"]]
    (halt,) = audit["halts"]
    deployed = facts["deployment"]
    assert 0 < deployed["rolled_back_within_s"] < 3.0  # a second, and what two busy cores take
    assert deployed["approved_by"] == ["model-risk", "privacy-officer"]
    assert sum(deployed["canary_answered"].values()) == 40
    assert all(deployed["canary_answered"].values())
    for answered, version in ((deployed["declined"], 2), (deployed["after_rollback"], 1)):
        assert (answered["version"], answered["probability"] >= deployed["decline_at"]) == (version, True)
        assert set(answered["reasons"]) <= reasons_of(folder / "lending-club.yaml")
        assert answered["reasons"]
    assert "succeeded" in deployed["model_signing"]
    (target,) = audit["deployments"]
    assert (target["target"], target["serves"], target["digest"]) == (
        deployed["target"],
        deployed["first"],
        deployed["digests"][0],
    )
    assert (target["orders"], target["confirmed"]) == (4, 4)
    assert [(each["model"], each["state"]) for each in target["rollouts"]] == [
        (deployed["first"], "full"),
        (deployed["second"], "rolled_back"),
    ]
    assert [(each["model"], each["stage"], len(each["approved_by"])) for each in audit["models"]] == [
        (deployed["first"], "deployed", 2),
        (deployed["second"], "approved", 2),
    ]
    assert audit["models"][0]["aliases"] == ["champion"]
    assert (halt["id"], halt["stands"]) == (governed["halt"], False)
    assert len(audit["budgets"]) == len(facts["sites"])
    for each in audit["budgets"]:
        assert (
            0 < each["opened"]["epsilon"] <= each["charged"]["epsilon"] <= each["ceiling"]["epsilon"] == 9.0
        )
    require_loop(facts["drift"], facts["retraining"], deployed["first"])
    for name in governed["machines"]:
        there = {each.name for each in (folder / "machines" / name).iterdir()}
        own = {"lending-club.yaml", "plan-pilot.yaml", "monitor.yaml", "log.jsonl"}
        assert there - own == {"access", "officer.key", "passphrase", "root.json"}
    assert processes_of(folder) == []
