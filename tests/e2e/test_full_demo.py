"""The full demo: officers at machines of their own halt and resume a run, and what an auditor reads afterwards, with the coordinator gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protos.egress import child_environment
from simulation.demo.equality import largest_difference  # noqa: F401 (fails here, with its reason, if an extra is missing)
from tests.e2e.test_demo import processes_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_from_officers_machines_to_an_auditors_table(tmp_path: Path) -> None:
    folder = tmp_path / "covenant-demo"
    done = subprocess.run(
        [sys.executable, "-m", "coordinator.main", "demo", "--full", "--json", "--folder", str(folder)],
        env=child_environment() | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
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
    assert (halt["id"], halt["stands"]) == (governed["halt"], False)
    assert len(audit["budgets"]) == len(facts["sites"])
    for each in audit["budgets"]:
        assert (
            0 < each["opened"]["epsilon"] <= each["charged"]["epsilon"] <= each["ceiling"]["epsilon"] == 9.0
        )
    for name in governed["machines"]:
        there = {each.name for each in (folder / "machines" / name).iterdir()}
        own = {"lending-club.yaml", "plan-pilot.yaml", "log.jsonl"}
        assert there - own == {"access", "officer.key", "passphrase", "root.json"}
    assert processes_of(folder) == []
