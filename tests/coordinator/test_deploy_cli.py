"""`covenant deploy` at the coordinator and over the control API, and the runbook's commands as they stand there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from coordinator.cli.log_words import words_of
from coordinator.cli.options import deploy_desk_at
from coordinator.governance.log import open_log
from protos.keys import SigningKey
from protos.log_entries import LogEntry
from protos.rollouts import RolloutRules
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.deploy_for_tests import Serving, Works, serve
from tests.coordinator.test_runbooks import commands_of

pytestmark = pytest.mark.usefixtures("heard")  # which would else stand among what commands print


@pytest.fixture
def works(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Works]:
    works = Works.make_at(tmp_path / "home", migrated_sqlite)
    yield works
    works.centre.engine.dispose()


@pytest.fixture
def covenant(works: Works, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(works.home.parent, monkeypatch, capsys)


@pytest.fixture
def service(works: Works, covenant: Command) -> Iterator[Serving]:
    state = works.home.parent / "state"
    state.mkdir()
    with serve(works, "branch", state) as service, service.watching():
        settings = works.home.parent / "branch.yaml"
        settings.write_text(f"kind: local\nstate: {state}\nurl: {service.url}\n")
        assert covenant("deploy", "targets", "add", "branch", str(settings))[0] == 0
        works.approved(1)
        yield service


def started(covenant: Command, version: int, *more: str, code: int = 0) -> dict[str, Any]:
    names = ("deploy", "start", f"lending-default@{version}", "--target", "branch", "--why", "a test")
    facts: dict[str, Any] = facts_of(covenant, *names, *more, code=code)
    return facts


def settled(covenant: Command, target: str = "branch") -> dict[str, Any]:
    """The target once its newest order is confirmed: what the coordinator's driver does meanwhile is done here."""
    desk = deploy_desk_at(None, None)
    for _ in range(200):
        desk.follow(target)
        found: dict[str, Any] = facts_of(covenant, "deploy", "show", target)
        if not found["target"]["waits"]:
            return found
    raise AssertionError("never confirmed")


def test_from_an_approved_version_to_what_serves(works: Works, service: Serving, covenant: Command) -> None:
    rollout = started(covenant, 1)["rollout"]
    found = settled(covenant)
    assert (found["rollouts"][0]["id"], found["rollouts"][0]["state"]) == (rollout, "full")
    (running,) = facts_of(covenant, "deploy", "inventory")["running"]
    assert (running["target"], running["arm"], running["version"]) == ("branch", "stable", 1)
    works.approved(2)
    started(covenant, 2, "--canary", "0.1")
    assert settled(covenant)["rollouts"][0]["state"] == "canary"
    assert facts_of(covenant, "deploy", "promote", "branch", "--full", "--why", "well") is not None
    settled(covenant)
    assert [each["state"] for each in facts_of(covenant, "deploy", "list")["rollouts"]] == [
        "full",
        "superseded",
    ]
    back = facts_of(covenant, "deploy", "rollback", "branch", "--why", "declines rose")
    assert back["in_force_after_s"] > 0
    assert service.opened["stable"].version == 1
    past = facts_of(covenant, "deploy", "inventory", "--past")["running"]
    assert {(each["version"], each["until"] is None) for each in past} == {(1, True), (1, False), (2, False)}


def test_nothing_is_decided_on_what_is_not_so_any_more(
    works: Works, service: Serving, covenant: Command
) -> None:
    started(covenant, 1, "--seen", "0")
    first = settled(covenant)["target"]["revision"]
    works.approved(2)
    for decision in (
        ("start", "lending-default@2", "--target", "branch"),
        ("renew", "branch"),
        ("rollback", "branch"),
    ):
        code, out, err = covenant("deploy", *decision, "--why", "w", "--seen", str(first - 1))
        assert (code, out) == (3, "")
        assert f"branch has come to order {first}" in " ".join(err.split())
    started(covenant, 2, "--canary", "0.1", "--seen", str(first))
    settled(covenant)
    code, _, _ = covenant("deploy", "promote", "branch", "--full", "--why", "w", "--seen", str(first))
    assert (code, settled(covenant)["rollouts"][0]["state"]) == (3, "canary")
    now = settled(covenant)["target"]["revision"]
    facts_of(covenant, "deploy", "rollback", "branch", "--why", "w", "--seen", str(now))
    assert service.opened["stable"].version == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("start", "lending-default@9", "--target", "branch", "--why", "w"), "is not registered"),
        (("start", "lending-default", "--target", "branch", "--why", "w"), "names no version"),
        (("start", "lending-default@1", "--target", "nowhere", "--why", "w"), "there is no target"),
        (
            ("start", "lending-default@1", "--target", "branch", "--canary", "1.5", "--why", "w"),
            "between 0 and 1",
        ),
        (
            ("start", "lending-default@1", "--target", "branch", "--canary", "nan", "--why", "w"),
            "between 0 and 1",
        ),
        (
            ("start", "lending-default@1", "--target", "branch", "--canary", "0.1", "--shadow", "--why", "w"),
            "one of --shadow",
        ),
        (("start", "lending-default@1", "--target", "branch", "--why", ""), "say why"),
        (("promote", "branch", "--why", "w"), "no rollout is under way"),
        (("rollback", "branch", "--why", "w"), "nothing was deployed"),
        (("renew", "branch", "--why", "w"), "nothing serves"),
        (("recall", "lending-default@1", "--why", "w"), "runs nowhere"),
        (("show", "nowhere"), "there is no target"),
    ],
)
def test_what_cannot_be_done_says_why(
    works: Works, service: Serving, covenant: Command, arguments: tuple[str, ...], reason: str
) -> None:
    code, out, err = covenant("deploy", *arguments)
    assert (code in {2, 3}, out) == (True, "")
    assert reason in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind: cloud\n", "write kind: local, kserve, edge"),
        ("kind: local\nstate: s\nurl: http://elsewhere:80\n", "loopback"),
        ("kind: local\nstate: s\n", "`url` is missing"),
        ("kind: kserve\nimage: scoring:latest\n", "a tag can be moved"),
        ("kind: edge\noutbox: o\ninbox: i\nkey: no\n", "key"),
    ],
)
def test_a_target_that_is_none_is_refused(works: Works, covenant: Command, text: str, reason: str) -> None:
    (works.home.parent / "t.yaml").write_text(text)
    code, _, err = covenant("deploy", "targets", "add", "t", "t.yaml")
    assert code == 2
    assert reason in err
    assert facts_of(covenant, "deploy", "targets", "list")["targets"] == []


def test_without_a_key_for_releases_nothing_is_deployed(
    works: Works, service: Serving, covenant: Command
) -> None:
    works.centre.settings.release_key_file.unlink()
    code, _, err = covenant("deploy", "start", "lending-default@1", "--target", "branch", "--why", "w")
    assert code == 2
    assert "covenant key new artifacts" in err
    SigningKey.generate().save(works.centre.settings.release_key_file)
    code, _, err = covenant("deploy", "start", "lending-default@1", "--target", "branch", "--why", "w")
    assert code == 3
    assert "is not the key of artifacts" in err


def test_rules_come_from_a_file(works: Works, service: Serving, covenant: Command) -> None:
    started(covenant, 1)
    settled(covenant)
    works.approved(2)
    rules = works.home.parent / "rules.yaml"
    rules.write_text("covenant: rollout-rules/v1\nsteps: [0.2]\nmin_rows: 10\n")
    started(covenant, 2, "--shadow", "--rules", str(rules))
    newest = settled(covenant)["rollouts"][0]
    assert newest["rules"]["steps"] == [0.2]
    assert RolloutRules(steps=(0.2,), min_rows=10).most_psi == newest["rules"]["most_psi"]
    rules.write_text("covenant: rollout-rules/v1\nsteps: [0.5, 0.2]\n")
    code, _, err = covenant(
        "deploy", "start", "lending-default@1", "--target", "branch", "--why", "w", "--rules", str(rules)
    )
    assert code == 2
    assert "each share is larger than the one before" in err


@pytest.mark.slow
def test_the_runbook_as_it_stands(works: Works, service: Serving, covenant: Command) -> None:
    folder = works.home.parent
    (folder / "centre").symlink_to(folder / "home")
    copyfile(folder / "home" / "root.json", folder / "root.json")
    pages = commands_of("deployments.md")

    def follow(heading: str, **replaced: str) -> None:
        for line in pages[heading]:
            address = replaced.get("url", "")
            program, *arguments = shlex.split(line.replace("http://127.0.0.1:8080", address))
            assert program == "covenant"
            code, _, err = covenant(*arguments)
            assert code == 0, err

    started(covenant, 1)
    settled(covenant)
    works.approved(2)
    started(covenant, 2)
    settled(covenant)
    follow("Take a version back")
    assert service.opened["stable"].version == 1
    started(covenant, 2)
    settled(covenant)
    follow("Recall a version from everywhere")
    settled(covenant)
    assert service.opened["stable"].version == 1
    _edge(works, covenant, follow)


def _edge(works: Works, covenant: Command, follow: Callable[..., None]) -> None:
    folder = works.home.parent
    (folder / "edge/state").mkdir(parents=True)
    key = SigningKey.generate()
    key.save(folder / "edge/edge-1.key")
    with serve(works, "edge-1", folder / "edge/state") as service, service.watching():
        (folder / "edge-1.yaml").write_text(f"kind: edge\noutbox: outbox\ninbox: inbox\nkey: {key.public}\n")
        assert covenant("deploy", "targets", "add", "edge-1", "edge-1.yaml")[0] == 0
        names = ("deploy", "start", "lending-default@1", "--target", "edge-1", "--why", "a test")
        assert covenant(*names)[0] == 0
        accept = ("--target", "edge-1", "--root", "root.json", "--state", "edge/state", "--url", service.url)
        accept = (*accept, "--key", "edge/edge-1.key", "--out", "inbox")
        assert covenant("deploy", "accept", "outbox/edge-1-000001.covenant", *accept)[0] == 0
        assert settled(covenant, "edge-1")["running"][0]["version"] == 1
        follow("An edge bundle has expired", url=service.url)
        assert settled(covenant, "edge-1")["target"]["revision"] == 2
        code, _, err = covenant("deploy", "accept", "outbox/edge-1-000001.covenant", *accept)
        assert code == 3
        assert "count no more" in err
        assert service.opened["stable"].version == 1


def test_the_log_tells_what_was_deployed_in_words(works: Works, service: Serving, covenant: Command) -> None:
    started(covenant, 1)
    settled(covenant)
    covenant("deploy", "recall", "lending-default@1", "--why", "a column was read wrongly")
    settled(covenant)
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    said = {
        what.kind: words_of(what)
        for what in (LogEntry.from_canonical(each.body).what for each in log.entries())
    }
    assert said["target-added"] == "target branch (local), says an operator"
    assert "order 2 of branch to recalled" in said["deployed"]
    assert "branch confirms order 2" in said["rollout-moved"]
    assert (
        said["recalled"]
        == "lending-default@1 is recalled from branch, by an operator: a column was read wrongly"
    )
    assert said["recall-confirmed"] == "lending-default@1 runs on branch no more, confirmed with order 2"
