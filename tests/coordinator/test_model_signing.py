"""What is exported verifies with other people's command, as it is; and not once anything of it was changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.exports import export_version, verify_export
from coordinator.registry.signatures import sign_files, write_folder
from coordinator.registry.versions import register
from protos.artifact_keys import SIGNATURE_FILE
from protos.log_audit import AuditRefused, audit
from protos.log_entries import LogEntry
from protos.membership import Service
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.registry_for_tests import GATED, Registry
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.trust_for_tests import key_of

__all__ = ["templates"]
COMMAND = Path(sys.executable).parent / "model_signing"


@pytest.fixture(scope="module")
def registry(templates: Templates) -> Iterator[Registry]:
    """Nobody changes it."""
    federation = templates.copy(GATED)
    yield Registry.of(federation)
    federation.close()


@pytest.fixture(scope="module")
def exported(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    export_version(registry.federation.centre, registry.version, folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model"))


def independent(folder: Path) -> int:
    """The exit code of OpenSSF's own command."""
    ran = subprocess.run(
        [
            *(COMMAND, "verify", "key", folder),
            *("--signature", folder / SIGNATURE_FILE, "--public_key", folder / "artifacts.pub"),
        ],
        capture_output=True,
        check=False,
    )
    return ran.returncode


def flipped(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(bytes(data))

    return change


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit in the graph": flipped("model.onnx"),
    "a flipped bit in the weights": flipped("model.safetensors"),
    "a flipped bit in the contract": flipped("contract.json"),
    "a file that was removed": lambda folder: (folder / "plan.json").unlink(),
    "a file that was added": lambda folder: (folder / "model.onnx.data").write_bytes(b"weights"),
    "a file that was renamed": lambda folder: (folder / "plan.json").rename(folder / "plan2.json"),
    "a file in a folder": lambda folder: (
        (folder / "more").mkdir() or (folder / "more" / "x").write_bytes(b"x")
    ),
    "another's certificate": flipped("artifact-key.json"),
}


@pytest.mark.parametrize(
    "change",
    [pytest.param(each, marks=() if place < 1 else pytest.mark.slow) for place, each in enumerate(CHANGES)],
)
def test_the_independent_command_accepts_it_and_refuses_what_was_changed(change: str, folder: Path) -> None:
    if change == next(iter(CHANGES)):
        assert independent(folder) == 0
    CHANGES[change](folder)
    assert independent(folder) != 0


@pytest.mark.parametrize("change", CHANGES)
def test_our_verification_refuses_the_same(change: str, folder: Path, registry: Registry) -> None:
    found = verify_export(folder, registry.listed.trusted)
    assert found.digest == registry.version.digest
    assert set(found.files) == set(registry.version.artifacts)
    CHANGES[change](folder)
    with pytest.raises(Refused):
        verify_export(folder, registry.listed.trusted)


def test_what_git_would_ignore_counts_as_a_change_too(folder: Path, registry: Registry) -> None:
    (folder / ".gitignore").write_text("x")
    with pytest.raises(Refused, match="the files are not those that were signed"):
        verify_export(folder, registry.listed.trusted)


def test_a_sidecar_of_the_graph_is_signed_as_any_file(registry: Registry, tmp_path: Path) -> None:
    centre = registry.federation.centre
    files = {"model.onnx": b"a graph", "model.onnx.data": b"its weights"}
    signed = sign_files(centre.settings, files)
    assert signed is not None
    version = register(
        centre.engine,
        centre.artifacts,
        name="with-sidecar",
        run_id=registry.version.run_id,
        files=files,
        weights=sha256_hex(b"weights"),
        metrics=None,
        clock=centre.clock,
        signed=signed,
    )
    export_version(centre, version, tmp_path / "model")
    assert independent(tmp_path / "model") == 0
    flipped("model.onnx.data")(tmp_path / "model")
    assert independent(tmp_path / "model") != 0
    with pytest.raises(Refused):
        verify_export(tmp_path / "model", registry.listed.trusted)


def test_an_export_needs_an_empty_folder(folder: Path, registry: Registry) -> None:
    with pytest.raises(UsageError, match="is not an empty folder"):
        export_version(registry.federation.centre, registry.version, folder)


def test_a_key_that_the_list_does_not_vouch_for_verifies_nothing(
    folder: Path, registry: Registry, templates: Templates
) -> None:
    federation = templates.copy(GATED)
    other = Registry(federation)
    with pytest.raises(Refused, match="has no service for purpose artifacts"):
        verify_export(folder, other.listed.trusted)
    other.certify(services=[Service(name="artifacts", purpose="artifacts", key=key_of("another").public)])
    with pytest.raises(Refused, match="is not by artifacts, the artifacts service"):
        verify_export(folder, other.listed.trusted)
    federation.close()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no key", "there is no key that signs models"),
        ("another service's certificate", "is not by artifacts, the artifacts service"),
        ("another federation's certificate", "is for the federation with root"),
        ("another key's certificate", "is the certificate of another key than"),
        ("a key that others can read", "can be read by others"),
    ],
)
def test_without_a_key_that_may_be_used_nothing_is_signed_and_a_warning_says_why(
    case: str, reason: str, templates: Templates, heard: list[dict[str, object]]
) -> None:
    federation = templates.copy(GATED)
    registry = Registry(federation)
    settings = federation.centre.settings
    registry.certify(
        services=[Service(name="artifacts", purpose="artifacts", key=key_of("artifacts").public)]
    )
    match case:
        case "no key":
            pass
        case "another service's certificate":
            registry.make_key(signer="another")
        case "another federation's certificate":
            registry.make_key(federation=Digest("ab" * 32))
        case "another key's certificate":
            registry.make_key()
            settings.artifact_key_file.unlink()
            certificate = settings.artifact_certificate_file.read_bytes()
            registry.make_key()
            settings.artifact_certificate_file.write_bytes(certificate)
        case _:
            registry.make_key()
            settings.artifact_key_file.chmod(0o644)
    assert sign_files(settings, {"model.onnx": b"a graph"}) is None
    (line,) = [each for each in heard if each["event"] == "registered unsigned"]
    assert reason in str(line["reason"])
    federation.close()


@pytest.mark.parametrize(
    ("where", "error", "reason"),
    [
        ("tempfile.mkdtemp", FileNotFoundError(2, "No usable temporary directory"), "No usable temporary"),
        ("model_signing.signing.Config.sign", None, r"\(No such file or directory\)"),  # nothing to read back
        ("model_signing.signing.Config.sign", OSError(28, "No space left on device"), "make room there"),
        ("model_signing.signing.Config.sign", ValueError("Unsupported key\nof many"), r"\(Unsupported key\)"),
        ("model_signing.signing.Config.sign", RuntimeError(), r"\(RuntimeError\)"),
    ],
)
def test_what_stops_the_signing_does_not_lose_a_finished_run(
    where: str,
    error: Exception | None,
    reason: str,
    registry: Registry,
    heard: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        if error is not None:
            raise error

    settings = registry.federation.centre.settings
    assert sign_files(settings, {"model.onnx": b"a graph"}) is not None
    monkeypatch.setattr(where, fails)
    assert sign_files(settings, {"model.onnx": b"a graph"}) is None
    (line,) = [each for each in heard if each["event"] == "registered unsigned"]
    assert re.search(reason, str(line["reason"]))


def test_files_that_lie_beside_a_version_are_no_artifacts(registry: Registry) -> None:
    centre = registry.federation.centre
    with pytest.raises(UsageError, match=r"an artifact cannot be called model\.sig"):
        register(
            centre.engine,
            centre.artifacts,
            name="x",
            run_id=registry.version.run_id,
            files={"model.sig": b""},
            weights=sha256_hex(b""),
            metrics=None,
            clock=centre.clock,
        )


def test_a_certificate_of_somebody_else_is_not_believed_in_the_log(templates: Templates) -> None:
    federation = templates.copy(GATED)
    Registry.of(federation)
    bodies = [each.body for each in log_of(federation).entries()]
    audit(bodies, pinned_by(federation))
    place = next(
        at for at, body in enumerate(bodies) if LogEntry.from_canonical(body).what.kind == "model-signed"
    )
    facts = json.loads(bodies[place])
    facts["what"]["key"]["service"] = "log"
    bodies[place] = LogEntry.model_validate_json(json.dumps(facts)).canonical
    with pytest.raises(AuditRefused, match=f"entry {place} .*is not by artifacts"):
        audit(bodies, pinned_by(federation))
    federation.close()


def test_a_folder_without_a_certificate_is_refused(tmp_path: Path, registry: Registry) -> None:
    write_folder(tmp_path / "model", {"model.onnx": b"a graph"})
    with pytest.raises(UsageError, match=r"artifact-key\.json does not exist"):
        verify_export(tmp_path / "model", registry.listed.trusted)
