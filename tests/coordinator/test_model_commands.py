"""The registry's commands, as people use them: approve, look, name, quarantine, trace, compare, verify."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.keys import make_key
from coordinator.registry.publish import publish
from coordinator.registry.versions import get_version, register
from protos.artifact_keys import ArtifactKey
from protos.key_files import is_encrypted
from protos.model_stages import Stage
from strategies.encoding import sha256_hex
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.gate_for_tests import PRIVATE, gated
from tests.coordinator.private_for_tests import Templates, private_plan, templates
from tests.coordinator.registry_for_tests import GATED, NAME, Registry
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import log_of
from tests.trust_for_tests import key_of

__all__ = ["templates"]
MODEL = f"{NAME}@1"


@pytest.fixture
def registry(templates: Templates) -> Iterator[Registry]:
    federation = templates.copy(GATED)
    yield Registry.of(federation)
    federation.close()


@pytest.fixture
def covenant(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    run = commands_in(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("COVENANT_HOME", str(registry.federation.layout.home))
    clock = registry.federation.clock.wall
    for name in ("model_approvals", "keys"):
        monkeypatch.setattr(f"coordinator.cli.{name}.now", clock)
    monkeypatch.setattr("coordinator.bootstrap.datetime", SimpleNamespace(now=lambda _: clock()))
    for name in ("privacy-1", "risk-1"):
        key_of(name).save(tmp_path / f"{name}.key")
    return run


@pytest.fixture
def approve(covenant: Command, registry: Registry) -> Callable[..., Any]:
    def one(name: str, role: str, *more: str, code: int = 0) -> str:
        root = registry.federation.layout.home / "root.json"
        left, out, err = covenant(
            *("model", "approve", MODEL, "--as", role, "--officer", name, "--key", f"{name}.key"),
            *("--root", str(root), *more),
        )
        assert left == code, err
        return out or err

    return one


def test_two_officers_approve_a_version(
    registry: Registry, covenant: Command, approve: Callable[..., Any]
) -> None:
    assert "is approved once it is validated" in approve("risk-1", "model_risk", "--yes", code=3)
    registry.go(Stage.VALIDATED)
    assert "Nobody is at a terminal to ask" in approve("risk-1", "model_risk", code=2)
    shown = approve("risk-1", "model_risk", "--yes")
    assert f"registry digest {registry.version.digest}, files signed" in shown
    assert "missing: private@1 has 0 of the 1 approvals as privacy_officer that it takes" in shown
    registry.federation.clock.sleep(60.0)
    sooner = ("--expires", f"{registry.federation.clock.wall() + timedelta(days=99):%Y-%m-%d}")
    assert "risk-1 has approved private@1 already" in approve(
        "risk-1", "model_risk", "--yes", *sooner, code=3
    )
    facts = json.loads(approve("privacy-1", "privacy_officer", "--yes", "--json"))
    assert (facts["stage"], facts["missing"]) == ("approved", [])
    assert [each["officer"] for each in facts["approvals"]] == ["privacy-1", "risk-1"]
    assert facts_of(covenant, "model", "status", MODEL) == facts
    assert facts_of(covenant, "model", "list")["models"][0]["stage"] == "approved"


def test_an_auditor_reads_the_same_from_an_export_of_the_log(registry: Registry, covenant: Command) -> None:
    registry.approved()
    assert covenant("model", "alias", NAME, "next", "--version", "1")[0] == 0
    assert covenant("log", "export", "log.jsonl")[0] == 0
    root = str(registry.federation.layout.home / "root.json")
    (model,) = facts_of(covenant, "log", "verify", "log.jsonl", "--root", root)["models"]
    assert (model["model"], model["stage"], model["signed"]) == (MODEL, "approved", True)
    assert model["approved_by"] == [["privacy-1", "privacy_officer"], ["risk-1", "model_risk"]]
    assert model["aliases"] == ["next"]
    _, _, err = covenant("log", "show")
    assert "private@1 from validated to approved" in err
    assert "risk-1's approval of private@1 as model_risk" in err
    assert "the files of private@1 are signed by artifacts" in err


def test_an_approval_is_for_a_year_at_most(registry: Registry, approve: Callable[..., Any]) -> None:
    registry.go(Stage.VALIDATED)
    assert "at most a year" in approve("risk-1", "model_risk", "--yes", "--expires", "2999-01-01", code=2)


def test_names_quarantine_and_what_comes_of_them(registry: Registry, covenant: Command) -> None:
    registry.approved()
    registry.go(Stage.DEPLOYED)
    assert covenant("model", "alias", NAME, "next", "--version", "1")[0] == 0
    assert facts_of(covenant, "model", "list")["models"][0]["aliases"] == ["champion", "next"]
    code, _, err = covenant("model", "alias", NAME, "champion", "--version", "1")
    assert (code, "champion is the version that was deployed last" in err) == (3, True)
    assert facts_of(covenant, "model", "status", f"{NAME}@champion")["model"] == MODEL
    moved = facts_of(covenant, "model", "quarantine", f"{NAME}@next", "--why", "a complaint")
    assert moved == {"model": MODEL, "stage": "quarantined", "aliases": []}
    assert covenant("model", "status", f"{NAME}@champion")[0] == 2
    assert facts_of(covenant, "model", "release", MODEL, "--why", "it was unfounded")["stage"] == "candidate"
    assert facts_of(covenant, "model", "retire", MODEL, "--why", "another is better")["stage"] == "retired"
    code, _, err = covenant("model", "release", MODEL, "--why", "no")
    assert (code, "is retired and cannot become candidate" in err) == (3, True)
    assert covenant("model", "alias", NAME, "next")[0] == 2  # it lost it


def test_lineage_goes_both_ways(registry: Registry, covenant: Command) -> None:
    version = registry.approved()
    facts = facts_of(covenant, "model", "lineage", MODEL)
    assert facts["run"] == {"id": RUN, "rounds": 2}
    assert facts["plan"]["digest"] == registry.federation.plan.digest
    assert facts["contract"]["digest"] == registry.federation.documents.contract.digest
    assert facts["participants"] == ["east", "north", "south", "west"]
    assert facts["approved_by"] == [["privacy-1", "privacy_officer"], ["risk-1", "model_risk"]]
    assert [(each["before"], each["after"]) for each in facts["moves"]] == [
        ("candidate", "validated"),
        ("validated", "approved"),
    ]
    # A release of the scaling, one of each round, and one of the evaluation, at each site.
    assert [each["settled"] for each in facts["charges"]] == [4, 4, 4, 4]
    log = [json.loads(each.body)["what"] for each in log_of(registry.federation).entries()]
    for kind, places in facts["log_entries"].items():
        assert {log[place]["kind"] for place in places} == {kind}
    told = {place for places in facts["log_entries"].values() for place in places}
    assert {place for place, what in enumerate(log) if what.get("run") == RUN} <= told
    assert facts["log_entries"]["model"] == [
        next(at for at, what in enumerate(log) if what["kind"] == "model")
    ]
    assert set(facts["log_entries"]) >= {
        "plan",
        "launch",
        "settled",
        "model",
        "model-signed",
        "model-approved",
    }
    for option in (
        ("--plan", registry.federation.plan.digest[:12]),
        ("--plan", NAME),
        ("--run", RUN),
        ("--site", "north"),
        ("--site", "north", "--run", RUN),
    ):
        assert [each["digest"] for each in facts_of(covenant, "model", "lineage", *option)["models"]] == [
            version.digest
        ]
    assert facts_of(covenant, "model", "lineage", "--site", "elsewhere") == {"models": []}
    assert covenant("model", "lineage")[0] == 2
    _, _, err = covenant("model", "lineage", MODEL)
    assert f"{RUN}, 2 rounds" in err
    assert "approved by risk-1 (model_risk)" in err


def test_two_versions_are_compared(registry: Registry, templates: Templates, covenant: Command) -> None:
    centre, version = registry.federation.centre, registry.version
    same = facts_of(covenant, "model", "compare", MODEL, MODEL)
    assert (same["weights"]["l2"], same["plan"]["changes"]) == (0.0, [])
    other = templates.copy(private_plan(gated(PRIVATE, {"seed: 1": "seed: 2"})))
    found = other.drive()
    trained = publish(other.centre, other.documents, found)
    register(
        centre.engine,
        centre.artifacts,
        name=NAME,
        run_id=version.run_id,
        files={name: other.centre.artifacts.get(digest) for name, digest in trained.artifacts.items()},
        weights=sha256_hex(b"another"),
        metrics={**(version.metrics or {}), "auc": 0.25},
        clock=centre.clock,
    )
    facts = facts_of(covenant, "model", "compare", MODEL, f"{NAME}@2")
    assert facts["metrics"]["auc"] == {"first": version.metrics["auc"], "second": 0.25}  # type: ignore[index]
    assert facts["weights"]["l2"] > 0
    assert -1 <= facts["weights"]["cosine"] < 1
    assert facts["participants"]["both"] == ["east", "north", "south", "west"]
    _, _, err = covenant("model", "compare", MODEL, f"{NAME}@2")
    assert "L2 distance" in err
    assert "plan: the same" in err  # of one run
    other.close()


def test_an_export_is_verified_with_root_and_members_alone(registry: Registry, covenant: Command) -> None:
    home = registry.federation.layout.home
    trust = ("--root", str(home / "root.json"), "--members", str(home / "members.json"))
    assert covenant("model", "export", MODEL, "out")[0] == 0
    assert facts_of(covenant, "model", "verify", "out", *trust)["digest"] == registry.version.digest
    Path("out/plan.json").write_bytes(b"{}")
    code, _, err = covenant("model", "verify", "out", *trust)
    assert (code, "the files are not those that were signed" in err) == (3, True)
    assert covenant("model", "export", MODEL, "out")[0] == 2


def test_the_key_that_signs_models_is_made_encrypted_and_certified_anew(
    registry: Registry, covenant: Command, tmp_path: Path
) -> None:
    (tmp_path / "pass").write_text("a long passphrase\n")
    (tmp_path / "pass").chmod(0o600)
    root = str(registry.federation.layout.home / "root.json")
    assert covenant("key", "new", "artifacts", "--out", "centre", "--passphrase-file", "pass")[0] == 0
    make = ("key", "signing", "--out", "centre", "--service", "centre/artifacts.key", "--root", root)
    assert covenant(*make, "--passphrase-file", "pass")[0] == 0
    key, certificate = tmp_path / "centre/signing.key", tmp_path / "centre/signing.json"
    assert is_encrypted(key)
    assert key.stat().st_mode & 0o777 == 0o600
    first = ArtifactKey.from_canonical(certificate.read_bytes().strip())
    before = key.read_bytes()
    assert covenant(*make, "--passphrase-file", "pass")[0] == 0
    assert key.read_bytes() == before
    assert ArtifactKey.from_canonical(certificate.read_bytes().strip()).key == first.key
    make_key(tmp_path / "centre", "another", None)
    (tmp_path / "centre/another.pub").rename(tmp_path / "centre/artifacts.pub")
    code, _, err = covenant(*make, "--passphrase-file", "pass")
    assert (code, "is the card of another key" in err) == (2, True)


def test_a_file_that_is_no_artifact_key_is_told(
    registry: Registry, covenant: Command, tmp_path: Path
) -> None:
    (tmp_path / "centre").mkdir()
    make_key(tmp_path / "centre", "artifacts", None)
    key_of("someone").save(tmp_path / "centre/signing.key")
    root = str(registry.federation.layout.home / "root.json")
    code, _, err = covenant(
        *("key", "signing", "--out", "centre", "--service", "centre/artifacts.key", "--root", root),
        "--no-passphrase",
    )
    assert (code, "holds another kind of private key" in err) == (2, True)


def test_a_version_that_is_not_there(registry: Registry, covenant: Command) -> None:
    for model in (f"{NAME}@2", f"{NAME}@nobody", "nothing"):
        assert covenant("model", "status", model)[0] == 2
    assert get_version(registry.federation.engine, NAME, 1) == registry.version
