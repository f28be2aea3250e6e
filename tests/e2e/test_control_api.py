"""Officers at machines of their own: a folder with what they were given and their own key, and a real coordinator that they reach by its API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.access import grant, request
from protos.documents import load_document
from protos.log_export import verify_file
from protos.root import SignedRoot
from tests.e2e.conftest import ROUNDS, Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]


class Machine:
    """The machine of one officer: nothing on it is the coordinator's but what `access grant` gave."""

    def __init__(self, federation: Federation, folder: Path, name: str) -> None:
        self.federation, self.folder, self.name = federation, folder / name, name
        self.folder.mkdir()
        officers = federation.deployment.officers
        shutil.copy(officers.key(name), self.folder / "officer.key")
        shutil.copy(officers.passphrase(name), self.folder / "passphrase")
        shutil.copy(officers.root, self.folder / "root.json")

    def let_in(self) -> None:
        deployment, access = self.federation.deployment, self.folder / "access"
        key, passphrase = self.folder / "officer.key", self.folder / "passphrase"
        request(self.name, deployment.federation, key, access, passphrase)
        grant(access / f"{self.name}.access.json", access, home=deployment.home)

    @property
    def key(self) -> tuple[str, ...]:
        return ("--key", "officer.key", "--passphrase-file", "passphrase")

    @property
    def signs(self) -> tuple[str, ...]:
        return ("--officer", self.name, *self.key, "--root", "root.json")

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVENANT")}
        done = subprocess.run(
            [sys.executable, "-m", "coordinator.main", *arguments],
            cwd=self.folder,
            env=environment | {"COVENANT_ACCESS": "access", "https_proxy": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def facts(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json").stdout)
        return found


def test_a_plan_is_proposed_approved_launched_and_watched_from_other_machines(
    federation: Federation, tmp_path: Path
) -> None:
    author, privacy, risk = (
        Machine(federation, tmp_path, name) for name in ("ml-engineer", "privacy-officer", "model-risk")
    )
    for each in (author, privacy, risk):
        each.let_in()
    plan = federation.variant("from-elsewhere", seed="77")
    for file in (plan, plan.with_name("lending-club.yaml")):
        shutil.copy(file, author.folder)
    author.run("plan", "sign", plan.name, *author.signs)
    (listed,) = privacy.facts("plan", "list")["plans"]
    assert "has 0 of the 1 approvals" in author.run("plan", "launch", listed["digest"], code=3).stderr
    privacy.run("plan", "approve", listed["digest"], "--as", "privacy_officer", *privacy.signs, "--yes")
    risk.run("plan", "approve", listed["digest"][:12], "--as", "model_risk", *risk.signs, "--yes")
    assert author.facts("plan", "status", listed["digest"])["approved"] is True
    run = author.facts("plan", "launch", listed["digest"])["run"]
    finished = risk.facts("run", "watch", run)
    assert (finished["state"], finished["committed"]) == ("completed", ROUNDS)
    assert [each["run"] for each in author.facts("model", "list")["models"]] == [run]
    privacy.run("log", "export", "log.jsonl")
    pinned = load_document(federation.deployment.officers.root, SignedRoot)
    story = verify_file(privacy.folder / "log.jsonl", pinned).story
    assert dict(story.runs)[run].state == "completed"
    assert sorted(each.name for each in privacy.folder.iterdir()) == [
        "access",
        "log.jsonl",
        "officer.key",
        "passphrase",
        "root.json",
    ]
