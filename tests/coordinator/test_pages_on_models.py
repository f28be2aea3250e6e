"""The pages on a model's way and on a model in doubt, typed as they stand, with the real scoring service at the target."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

import httpx
import pytest

from coordinator.cli.options import deploy_desk_at
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.test_runbooks import RUNBOOKS, commands_of
from tests.coordinator.test_scoring_packages import running, until
from tests.trust_for_tests import key_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("heard")]

WAY = RUNBOOKS.parent / "ml-team" / "candidate-to-rollback.md"
MODEL = f"{NAME}@2"


@pytest.fixture
def works(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Works]:
    """Version 1 is approved, version 2 a candidate."""
    works = Works.make_at(tmp_path / "home", migrated_sqlite)
    works.approved(1)
    works.registered(2)
    (tmp_path / "centre").symlink_to(works.home)
    for name in ("root.json", "members.json"):
        copyfile(works.home / name, tmp_path / name)
    for name in ("privacy-1", "risk-1"):
        key_of(name).save(tmp_path / f"{name}.key")
    yield works
    works.centre.engine.dispose()


@pytest.fixture
def covenant(works: Works, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(works.home.parent, monkeypatch, capsys)


@contextmanager
def branch(folder: Path, covenant: Command) -> Iterator[httpx.Client]:
    """The target and its service, with version 1 in full."""
    (folder / "state").mkdir()
    trust = ("--state", "state", "--root", "root.json", "--target", "branch", "--no-auth-on-loopback")
    with running(folder, *trust) as client:
        url = str(client.base_url).rstrip("/")
        (folder / "branch.yaml").write_text(f"kind: local\nstate: state\nurl: {url}\ndecline_at: 0.000001\n")
        assert covenant("deploy", "targets", "add", "branch", "branch.yaml")[0] == 0
        start = ("deploy", "start", f"{NAME}@1", "--target", "branch", "--why", "the first")
        assert covenant(*start)[0] == 0
        settle()
        yield client


def settle() -> None:
    """What the driver of `covenant serve` does meanwhile."""
    desk = deploy_desk_at(None, None)

    def confirmed() -> bool:
        desk.follow("branch")
        return not any(each["waits"] for each in desk.targets())

    until(confirmed)


def typed(covenant: Command, folder: Path, url: str, line: str) -> str:
    """What a line of a page prints; every one of them succeeds."""
    program, *arguments = shlex.split(line.replace("http://127.0.0.1:8080", url))
    if program != "covenant":
        place = Path(sys.executable).parent / program
        command = [str(place) if place.exists() else program, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout
    code, out, err = covenant(*arguments, *(["--yes"] if arguments[1] == "approve" else []))
    assert code == 0, (line, err)
    if arguments[0] == "deploy" or "quarantine" in arguments:
        settle()
    return out + err


def version_that_answers(client: httpx.Client, folder: Path) -> str:
    answer = client.post(f"/v2/models/{NAME}/infer", content=(folder / "application.json").read_bytes())
    version: str = answer.json()["model_version"]
    return version


def stage(covenant: Command) -> str:
    (found,) = [each for each in facts_of(covenant, "model", "list")["models"] if each["version"] == 2]
    said: str = found["stage"]
    return said


def test_a_version_goes_from_candidate_to_production_and_back_as_the_page_says(
    works: Works, covenant: Command
) -> None:
    folder = works.home.parent
    (example,) = re.findall(r"(?s)```json\n(.*?)```", WAY.read_text())
    (folder / "application.json").write_text(example)
    sections = commands_of(str(WAY))
    after: dict[str, tuple[str, str]] = {
        "Judge it": ("validated", "1"),
        "Approve it, twice": ("approved", "1"),
        "Check it without Covenant": ("approved", "1"),
        "Try it, then let it serve": ("deployed", "2"),
        "Score with reasons": ("deployed", "2"),
        "Take it back": ("approved", "1"),
    }
    assert list(sections) == list(after)
    with branch(folder, covenant) as client:
        assert (stage(covenant), version_that_answers(client, folder)) == ("candidate", "1")
        for heading, lines in sections.items():
            for line in lines:
                said = typed(covenant, folder, str(client.base_url).rstrip("/"), line)
                if line.startswith("curl"):
                    assert_reasoned(json.loads(said))
                if " rollback " in line:
                    (seconds,) = re.findall(r"in force after ([0-9.]+) s", said)
                    assert float(seconds) < 3.0  # a second, and what two busy cores take
            assert (stage(covenant), version_that_answers(client, folder)) == after[heading], heading


def assert_reasoned(answer: dict[str, Any]) -> None:
    assert answer["model_version"] == "2"
    scores, reasons = answer["outputs"]
    assert 0.0 < scores["data"][0] < 1.0
    assert (reasons["name"], any(reasons["data"])) == ("reasons", True)


def test_a_model_in_doubt_is_taken_out_of_use_and_looked_at_as_the_runbook_says(
    works: Works, covenant: Command
) -> None:
    folder = works.home.parent
    (example,) = re.findall(r"(?s)```json\n(.*?)```", WAY.read_text())
    (folder / "application.json").write_text(example)
    sections = commands_of("a-model-is-in-doubt.md")
    way = commands_of(str(WAY))
    with branch(folder, covenant) as client:
        url = str(client.base_url).rstrip("/")

        def follow(lines: list[str]) -> str:
            return "".join(typed(covenant, folder, url, line) for line in lines)

        for heading in ("Judge it", "Approve it, twice", "Try it, then let it serve"):
            follow(way[heading])
        assert version_that_answers(client, folder) == "2"
        follow(sections["Take it out of use"])
        assert (stage(covenant), version_that_answers(client, folder)) == ("quarantined", "1")
        assert not facts_of(covenant, "deploy", "inventory")["recalls"]
        assert "branch" in follow(sections["See what it touched"])
        follow(sections["It was nothing"])
        assert (stage(covenant), version_that_answers(client, folder)) == ("candidate", "1")
        assert covenant("model", "quarantine", MODEL, "--why", "it was something")[0] == 0
        follow(sections["It was true"])
        assert (stage(covenant), version_that_answers(client, folder)) == ("retired", "1")
