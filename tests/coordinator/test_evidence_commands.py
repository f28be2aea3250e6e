"""The commands on evidence as people use them: state something with one's own key, write the documents, write them again from an export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.governance.evidence.documents import EvidenceKind
from coordinator.governance.evidence.forms import Form
from coordinator.governance.exports import export_log
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.private_for_tests import Templates, private_plan, templates
from tests.coordinator.registry_for_tests import NAME, Registry
from tests.coordinator.test_log_export import log_of
from tests.trust_for_tests import key_of

__all__ = ["templates"]
MODEL = f"{NAME}@1"


@pytest.fixture(scope="module")
def registry(templates: Templates) -> Iterator[Registry]:
    made = Registry.of(templates.copy(private_plan()))
    yield made
    made.federation.close()


@pytest.fixture
def covenant(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    run = commands_in(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("COVENANT_HOME", str(registry.federation.layout.home))
    clock = registry.federation.clock.wall
    monkeypatch.setattr("coordinator.cli.model_evidence.now", clock)
    monkeypatch.setattr("coordinator.bootstrap.datetime", SimpleNamespace(now=lambda _: clock()))
    key_of("risk-1").save(tmp_path / "risk-1.key")
    (tmp_path / "note.txt").write_text("Not above 40,000.\n")
    return run


@pytest.fixture
def state(covenant: Command, registry: Registry) -> Callable[..., Any]:
    def one(*more: str, kind: str = "limitations", text: str = "note.txt", role: str = "model_risk") -> Any:
        root = registry.federation.layout.home / "root.json"
        return covenant(
            *("model", "state", MODEL, "--kind", kind, "--text-file", text, "--as", role),
            *("--officer", "risk-1", "--key", "risk-1.key", "--root", str(root), *more),
        )

    return one


def test_an_officer_states_and_the_documents_say_so(
    registry: Registry, covenant: Command, state: Callable[..., Any], tmp_path: Path
) -> None:
    code, _, err = state()
    assert (code, "Nobody is at a terminal to ask" in err) == (2, True)
    code, out, err = state("--yes", "--json")
    assert (code, json.loads(out)["kind"]) == (0, "limitations"), err
    assert "| Not above 40,000." in err
    found = facts_of(covenant, "model", "evidence", MODEL, "here")
    assert len(found["files"]) == len(EvidenceKind) * len(Form)
    assert "Intended purpose" in found["missing"]
    assert "Limitations" not in found["missing"]
    assert "Not above 40,000." in (tmp_path / "here/model-card.html").read_text()
    export_log(log_of(registry.federation), "demo", tmp_path / "log.jsonl")
    root = str(registry.federation.layout.home / "root.json")
    onnx = registry.federation.centre.artifacts.get(registry.version.artifacts["model.onnx"])
    (tmp_path / "model.onnx").write_bytes(onnx)
    covenant(
        *(
            "model",
            "evidence",
            MODEL,
            "there",
            "--export",
            "log.jsonl",
            "--root",
            root,
            "--onnx",
            "model.onnx",
        )
    )
    for each in found["files"]:
        assert Path(each).read_bytes() == (tmp_path / "there" / Path(each).name).read_bytes()


def test_only_what_is_asked_for_is_written_and_nothing_is_overwritten(
    covenant: Command, tmp_path: Path
) -> None:
    arguments = (
        "model",
        "evidence",
        MODEL,
        "card",
        "--kind",
        "model-card",
        "--format",
        "md",
        "--format",
        "pdf",
    )
    code, _, err = covenant(*arguments)
    assert (code, "wrote card/model-card.md" in err, "missing: Intended purpose" in err) == (0, True, True)
    assert sorted(each.name for each in (tmp_path / "card").iterdir()) == ["model-card.md", "model-card.pdf"]
    code, _, err = covenant(*arguments)
    assert (code, "never overwritten" in err) == (2, True)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--root", "root.json"), "--root, --members, --onnx and --windows go with --export"),
        (("--export", "log.jsonl"), "name it with --root"),
    ],
)
def test_an_export_goes_with_a_root(covenant: Command, more: tuple[str, ...], reason: str) -> None:
    code, _, err = covenant("model", "evidence", MODEL, "x", *more)
    assert (code, reason in err) == (2, True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "use 1 to 8000 characters"),
        (b"x" * 40_000, "is larger than 32000 bytes"),
        (b"caf\xe9", "is not UTF-8 text at byte 3"),
        (b"a\x1b[31m", "U+001B"),
    ],
)
def test_a_text_that_cannot_be_stated_is_refused(
    state: Callable[..., Any], tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "bad.txt").write_bytes(data)
    code, _, err = state("--yes", text="bad.txt")
    assert (code, reason in err) == (2, True), err


def test_a_role_that_one_has_not_is_refused(state: Callable[..., Any]) -> None:
    code, _, err = state("--yes", role="ml_engineer")
    assert (code, "is model_risk, not ml_engineer" in err) == (3, True)
    code, _, err = state("--yes", text="none.txt")
    assert (code, "cannot be read" in err) == (2, True)
