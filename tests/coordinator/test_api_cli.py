"""The command line from another machine: a folder with an officer's key, what the coordinator granted, and nothing of the coordinator's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.cli.proposals import is_digest
from protos.access import AccessProfile, AccessRequest
from protos.documents import load_document
from tests.coordinator.api_for_tests import PEOPLE, Bank, new_id, serving
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.private_plan_for_tests import write_documents
from tests.trust_for_tests import key_of, officers


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


@pytest.fixture
def away(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Commands on a machine of the officers', where no coordinator is."""
    folder = tmp_path / "away"
    folder.mkdir()
    for name in (*PEOPLE, "stranger"):
        key_of(name).save(folder / f"{name}.key")
    write_documents(folder)
    officers().save(folder)
    return commands_in(folder, monkeypatch, capsys)


def let_in(away: Command, bank: Bank, name: str) -> str:
    """Ask for access, have it granted on the coordinator's machine, and bring back what it gave; the access folder."""
    key = f"{name}.key"
    assert away("access", "request", name, "--federation", "demo", "--key", key, "--out", name)[0] == 0
    home = str(bank.centre.settings.home)
    code, _, err = away("access", "grant", f"{name}/{name}.access.json", "--out", "sent", "--home", home)
    assert code == 0, err
    for each in ("access.yaml", "control-ca.crt", f"{name}.crt"):
        shutil.copy(Path("sent") / each, name)
    return name


def test_a_plan_goes_from_its_author_to_a_run(away: Command, bank: Bank) -> None:
    author, privacy, risk, auditor = (
        let_in(away, bank, name) for name in ("author-1", "privacy-1", "risk-1", "auditor-1")
    )
    signing = (
        "plan",
        "sign",
        "plan.yaml",
        "--officer",
        "author-1",
        "--key",
        "author-1.key",
        "--root",
        "root.json",
        "--access",
        author,
    )
    code, out, err = away(*signing)
    assert (code, out) == (0, ""), err
    assert "missing: 1 as privacy_officer, from privacy-1 or privacy-2" in err
    assert not Path("plan.evidence.json").exists()

    (listed,) = facts_of(away, "plan", "list", "--access", auditor)["plans"]
    digest = listed["digest"]
    assert is_digest(Path(digest))
    for name, role, plan in (("privacy-1", "privacy_officer", digest), ("risk-1", "model_risk", "plan.yaml")):
        code, _, err = away(
            "plan", "approve", plan, "--as", role, "--officer", name, "--key", f"{name}.key", "--root", "root.json", "--access", name, "--yes"
        )  # fmt: skip
        assert code == 0, err
        assert "its limit is epsilon 8 at delta 1e-05" in err
    assert "approved: it may be launched" in err
    assert facts_of(away, "plan", "status", digest[:12], "--access", privacy)["approved"] is True
    assert "approved: it may be launched" in away("plan", "status", "plan.yaml", "--access", risk)[2]

    launching = ("plan", "launch", digest, "--request-id", new_id())
    run = facts_of(away, *launching, "--access", author)["run"]
    assert facts_of(away, *launching, "--access", author)["run"] == run
    assert [each["run"] for each in facts_of(away, "run", "list", "--access", auditor)["runs"]] == [run]
    assert away("run", "stop", run, "--access", risk)[0] == 0
    code, _, err = away("run", "watch", run, "--access", auditor)
    assert (code, "stopped by risk-1" in err) == (1, True)
    assert away("run", "resume", run, "--access", author)[0] == 0
    assert bank.transport.started == [run, run]


@pytest.mark.slow
def test_what_an_auditor_reads(away: Command, bank: Bank) -> None:
    auditor = let_in(away, bank, "auditor-1")
    assert facts_of(away, "log", "show", "--access", auditor)["size"] == 6
    assert "auditor-1 may reach the control API until" in away("log", "show", "--access", auditor)[2]
    head = facts_of(away, "log", "checkpoint", "--access", auditor)
    written = facts_of(away, "log", "export", "log.jsonl", "--access", auditor)
    assert (written["entries"], written["root"]) == (head["size"], head["root"])
    shutil.copy(bank.centre.settings.root_file, "root.json")
    assert facts_of(away, "log", "verify", "log.jsonl", "--root", "root.json")["verified"] is True
    assert facts_of(away, "model", "list", "--access", auditor) == {"models": []}
    assert len(facts_of(away, "ledger", "list", "--access", auditor)["accounts"]) == 4
    show = ("ledger", "show", "west", "lending-club")
    home = ("--home", str(bank.centre.settings.home))
    assert facts_of(away, *show, "--access", auditor) == facts_of(away, *show, *home)
    for command, words in ((show, "epsilon 60.000"), (("ledger", "list"), "west/lending-club")):
        told = away(*command, "--access", auditor)[2]
        assert words in told
        assert told == away(*command, *home)[2]


def test_the_folder_may_come_from_the_environment(
    away: Command, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVENANT_ACCESS", let_in(away, bank, "operator-1"))
    assert facts_of(away, "run", "list") == {"runs": []}
    code, _, err = away("ledger", "list")
    assert (code, "operator-1 is site_operator" in err) == (3, True)


def test_an_approval_is_asked_for_where_nobody_said_yes(away: Command, bank: Bank) -> None:
    let_in(away, bank, "author-1")
    let_in(away, bank, "risk-1")
    assert away("plan", "sign", "plan.yaml", "--officer", "author-1", "--key", "author-1.key", "--root", "root.json", "--access", "author-1")[0] == 0  # fmt: skip
    asking = ("plan", "approve", "plan.yaml", "--as", "model_risk", "--officer", "risk-1", "--key", "risk-1.key", "--root", "root.json", "--access", "risk-1")  # fmt: skip
    code, _, err = away(*asking)
    assert (code, "Nobody is at a terminal to ask" in err) == (2, True)
    assert bank.told("approved") == []


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("stranger", "stranger", "stranger is no officer on member list demo@1"),
        ("author-1", "stranger", "is not signed with the key of author-1"),
    ],
)
def test_access_is_granted_to_officers_by_their_own_key(
    name: str, key: str, words: str, away: Command, bank: Bank
) -> None:
    assert (
        away("access", "request", name, "--federation", "demo", "--key", f"{key}.key", "--out", "a")[0] == 0
    )
    home = str(bank.centre.settings.home)
    code, _, err = away("access", "grant", f"a/{name}.access.json", "--out", "sent", "--home", home)
    assert (code, words in err) == (3, True), err
    assert not Path("sent").exists()
    assert facts_of(away, "access", "list", "--home", home)["accesses"] == []


def test_access_is_for_ninety_days_at_most_and_for_this_federation(away: Command, bank: Bank) -> None:
    home = str(bank.centre.settings.home)
    day = (datetime.now(UTC) + timedelta(days=200)).date().isoformat()
    asking = ("access", "request", "author-1", "--key", "author-1.key", "--out", "a", "--federation")
    assert away(*asking, "demo", "--until", day)[0] == 2
    assert away(*asking, "other")[0] == 0
    code, _, err = away("access", "grant", "a/author-1.access.json", "--out", "sent", "--home", home)
    assert (code, "is for federation other" in err) == (3, True)
    request = load_document(Path("a/author-1.access.json"), AccessRequest)
    long = AccessRequest.create(
        "demo", "author-1", request.tls_key, key_of("author-1"), until=datetime.now(UTC) + timedelta(days=400)
    )
    Path("long.json").write_bytes(long.canonical)
    code, _, err = away("access", "grant", "long.json", "--out", "sent", "--home", home)
    assert (code, "at most 90 days are given" in err) == (3, True)


def test_keys_are_private_and_never_overwritten(away: Command, bank: Bank) -> None:
    folder = Path(let_in(away, bank, "author-1"))
    assert (folder / "author-1-tls.key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    asking = (
        "access",
        "request",
        "author-1",
        "--federation",
        "demo",
        "--key",
        "author-1.key",
        "--out",
        "author-1",
    )
    assert away(*asking)[0] == 2
    profile = load_document(folder / "access.yaml", AccessProfile)
    assert profile.server == bank.address
    (listed,) = facts_of(away, "access", "list", "--home", str(bank.centre.settings.home))["accesses"]
    assert listed["officer"] == "author-1"


def test_events_are_printed_as_they_come(
    away: Command, bank: Bank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until somebody interrupts it, as here after the second."""
    from coordinator.api.desk import RemoteDesk

    auditor = let_in(away, bank, "auditor-1")
    events = RemoteDesk.events

    def two(self: RemoteDesk, start: int | None):
        found = events(self, start)
        yield next(found)
        yield next(found)
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteDesk, "events", two)
    code, out, _ = away("log", "watch", "--from", "4", "--access", auditor, "--json")
    assert code == 130
    assert [json.loads(line)["what"]["kind"] for line in out.splitlines()] == ["ceiling", "access"]
