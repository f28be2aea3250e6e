"""`covenant log` as people type it: shown, exported, verified elsewhere, and what each refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.registry.publish import publish
from protos.log_export import Export
from strategies.transparency.notes import SignedNote
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.private_for_tests import Make, Private, make, templates
from tests.coordinator.secure_for_tests import RUN

__all__ = ["make", "templates"]


@pytest.fixture
def federation(make: Make) -> Private:
    made = make()
    finished = made.drive()
    publish(made.centre, made.documents, finished)
    made.store.finish("completed")
    return made


@pytest.fixture
def covenant(
    federation: Private, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    command = commands_in(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("COVENANT_HOME", str(federation.layout.home))
    return command


def test_an_auditor_verifies_an_export_with_nothing_but_the_root(
    covenant: Command, federation: Private, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = facts_of(covenant, "log", "export", "log.jsonl")
    (tmp_path / "root.json").write_bytes((federation.layout.home / "root.json").read_bytes())
    monkeypatch.setenv("COVENANT_HOME", str(tmp_path / "nowhere"))
    facts = facts_of(covenant, "log", "verify", "log.jsonl", "--root", "root.json")
    assert (facts["verified"], facts["entries"], facts["root"]) == (True, written["entries"], written["root"])
    ((run,), (model,)) = facts["runs"], facts["models"]
    assert (run["run"], run["state"], run["rounds"], run["privacy"]) == (RUN, "completed", 2, "distributed")
    assert (model["run"], model["model"]) == (RUN, "private@1")
    for budget in facts["budgets"]:
        assert budget["opened"]["epsilon"] <= budget["ceiling"]["epsilon"]
        assert (budget["opened"]["unit"], budget["opened"]["neighbours"]) == ("record", "add-or-remove-one")
    assert not (tmp_path / "nowhere").exists()
    left, out, err = covenant("log", "verify", "log.jsonl", "--root", "root.json")
    assert (left, out) == (0, "")
    words = " ".join(err.split())
    assert f"verified: all {written['entries']} entries of the log of demo" in words
    assert "private@1" in words


def test_a_file_that_was_tampered_with_is_refused_with_exit_code_3(
    covenant: Command, federation: Private, tmp_path: Path
) -> None:
    facts_of(covenant, "log", "export", "log.jsonl")
    path, root = tmp_path / "log.jsonl", str(federation.layout.home / "root.json")
    path.write_bytes(path.read_bytes().replace(b'"completed"', b'"stopped"'))
    left, out, err = covenant("log", "verify", "log.jsonl", "--root", root)
    assert (left, out) == (3, "")
    assert "entries were changed, added or removed" in " ".join(err.split())


def test_the_newest_entries_are_shown_in_words(covenant: Command) -> None:
    facts = facts_of(covenant, "log", "show", "--last", "3")
    assert [each["what"]["kind"] for each in facts["entries"]] == ["model", "given-up", "ended"]
    assert facts["entries"][-1]["seq"] == facts["size"] - 1
    _, out, err = covenant("log", "show")
    assert out == ""
    words = " ".join(err.split())
    for said in (
        "may be opened over east, north, south, west",
        "member list demo@1",
        "plan private",
        "releases given back",
        "AUC",
        "completed",
    ):
        assert said in words
    rounds = facts_of(covenant, "log", "show", "--kind", "round")["entries"]
    assert [each["what"]["round"] for each in rounds] == [1, 2]


def test_the_head_is_a_note_that_others_can_read(covenant: Command, federation: Private) -> None:
    facts = facts_of(covenant, "log", "checkpoint")
    note = SignedNote.parse(facts["note"])
    assert note.text.split("\n")[:2] == ["demo/log", str(facts["size"])]
    assert facts["key"].startswith("demo/log+")
    _, out, err = covenant("log", "checkpoint")
    assert out == ""
    assert note.text in err


def test_an_export_overwrites_nothing(covenant: Command, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("mine")
    left, _, err = covenant("log", "export", "log.jsonl")
    assert left == 2
    assert "exists and is never overwritten" in " ".join(err.split())
    assert (tmp_path / "log.jsonl").read_text() == "mine"


def test_an_export_is_lines_of_canonical_json(covenant: Command, tmp_path: Path) -> None:
    facts_of(covenant, "log", "export", "log.jsonl")
    with (tmp_path / "log.jsonl").open("rb") as file:
        export = Export.read(file)
        kinds = [json.loads(each)["what"]["kind"] for each in export.entries]
    assert kinds[:3] == ["members", "ceiling", "ceiling"]
    assert {"members", "plan", "launch", "settled", "prepared", "round", "evaluated", "model", "ended"} < set(
        kinds
    )
