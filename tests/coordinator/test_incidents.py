"""The evidence of an incident in one file: verified with nothing but the root, and without any secret, row, or sum before noise."""

from __future__ import annotations

import json
import secrets as randomness
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.governance import incidents
from coordinator.governance.halts import halt
from coordinator.governance.incidents import export_incident
from coordinator.governance.redaction import Secrets
from coordinator.governance.witnesses import WitnessBook
from coordinator.settings import load_settings
from protos.approvals import PlanEvidence
from protos.incident import MANIFEST, Manifest, SignedManifest, verify_incident
from protos.keys import SigningKey
from protos.passphrases import Passphrase
from protos.root import SignedRoot
from protos.witness import Evidence, SignedWitness
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import RunId
from strategies.transparency.notes import Checkpoint, SignedNote
from tests.coordinator.cli_for_tests import commands_in, facts_of
from tests.coordinator.secure_for_tests import RUN, SOUTH, Secured, secure_plan
from tests.coordinator.sums_for_tests import Make
from tests.coordinator.test_halts_in_rounds import drive, given, with_officers
from tests.halts_for_tests import ordered

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def federation(make: Make) -> Secured:
    """A coordinator in whose logs somebody has written what must not be there; its run was driven, and a site halted."""
    made = make(secure_plan(rounds=1))
    drive(made)
    halt(made.centre, given(made, "site", SOUTH, reason="its rows are wrong"), with_officers(made))
    home = made.layout.home
    key = SigningKey.load(home / "log.key")
    (home / "log.key").unlink()
    (home / "passphrase").write_text(PASSPHRASE + "\n")
    (home / "passphrase").chmod(0o600)
    key.save(home / "log.key", Passphrase(PASSPHRASE.encode()))
    config = json.loads((home / "covenant.yaml").read_text())
    config["keys"] = {"log": "log.key", "passphrase": {"file": "passphrase"}}
    (home / "covenant.yaml").write_text(json.dumps(config))
    (home / "secrets").mkdir()
    (home / "secrets" / "control-token").write_text(randomness.token_urlsafe(48))
    (home / "secrets" / "executor-secret").write_bytes(randomness.token_bytes(48))
    (home / "tls").mkdir()
    SigningKey.generate().save(home / "tls" / "superlink.key")
    (home / "control").mkdir()
    SigningKey.generate().save(home / "control" / "control-ca.key")
    (home / "logs").mkdir()
    leaked = [
        '{"event": "serving"}',
        f"Authorization: Bearer {(home / 'secrets' / 'control-token').read_text()}",
        (home / "secrets" / "executor-secret").read_bytes().hex(),
        f"the passphrase is {PASSPHRASE}, they say",
        (home / "tls" / "superlink.key").read_text(),
        (home / "log.key").read_text().splitlines()[2],
        (home / "control" / "control-ca.key").read_text().splitlines()[1],
        "postgresql+pg8000://covenant:hunter22@db.example/covenant",
    ]
    (home / "logs" / "serverapp.log").write_text("\n".join(leaked))
    made.centre = replace(made.centre, settings=load_settings(home))
    return made


@pytest.fixture
def packed(federation: Secured, tmp_path: Path) -> Path:
    path, _ = export_incident(federation.centre, tmp_path)
    return path


def pinned(federation: Secured) -> SignedRoot:
    return SignedRoot.from_canonical(federation.centre.settings.root_file.read_bytes())


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_what_is_packed_is_verified_with_nothing_but_the_root(federation: Secured, packed: Path) -> None:
    found = verify_incident(packed, pinned(federation))
    assert found.manifest.runs == (RUN,)
    assert found.log.story.runs[RUN].committed == 1
    assert {
        "log.jsonl",
        "halts.json",
        "ledger.json",
        "witnesses.json",
        f"runs/{RUN}/plan.json",
        f"runs/{RUN}/rounds.json",
    } < set(found.manifest.files)
    assert {"covenant", "python", "flwr"} < set(found.manifest.versions)
    (order,) = json.loads(contents(packed)["halts.json"])
    assert order["order"]["reason"] == "its rows are wrong"
    assert stat.S_IMODE(packed.stat().st_mode) == 0o600
    assert [each.name for each in packed.parent.iterdir() if ".part" in each.name] == []


def test_no_secret_is_in_it(federation: Secured, packed: Path) -> None:
    """Neither the content of a secret file in any form, nor a passphrase, though somebody has logged them."""
    home, found = federation.layout.home, contents(packed)
    everything = b"\n".join(found.values())
    files = [
        home / "log.key",
        *(home / "secrets").iterdir(),
        home / "tls" / "superlink.key",
        home / "control" / "control-ca.key",
        home / "passphrase",
    ]
    for path in files:
        content = path.read_bytes().strip()
        assert content not in everything
        assert content.hex().encode() not in everything
        for line in content.splitlines():
            assert len(line) < 8 or line.startswith(b"-----") or line not in everything
    assert PASSPHRASE.encode() not in everything
    assert b"hunter22" not in everything
    assert b"PRIVATE KEY" not in everything
    assert b'{"event": "serving"}' in found["logs/serverapp.log"]
    assert b"the passphrase is <redacted>, they say" in found["logs/serverapp.log"]


def split_log(federation: Secured) -> Evidence:
    """Two heads of one size, both signed by the log's own key, as a site has shown them."""
    log = federation.log
    note = log.checkpoint()
    head = Checkpoint.parse(note.text)
    other = Checkpoint(origin=head.origin, size=head.size, root=bytes(32))
    forked = SignedNote(other.text, (log.key.line(log.sign(other.text)),))
    return Evidence(shows="split", site=SOUTH, notes=(note.encoded, forked.encoded))


def test_the_evidence_of_a_forked_log_is_packed_and_proves_the_fork_by_itself(
    federation: Secured, tmp_path: Path
) -> None:
    """As `covenant log witnesses` shows it, settled or not, with the heads that each site has signed."""
    centre, split = federation.centre, split_log(federation)
    book = WitnessBook(centre.engine, centre.clock)
    book.add(RUN, split)
    standing, _ = export_incident(centre, tmp_path / "standing.zip")
    book.settle(1, "a copy of the database was in use")
    settled, _ = export_incident(centre, tmp_path / "settled.zip")
    for path, stands, said in (
        (standing, True, None),
        (settled, False, "a copy of the database was in use"),
    ):
        found = verify_incident(path, pinned(federation))
        assert "witnesses.json" in found.manifest.files
        packed = json.loads(contents(path)["witnesses.json"])
        (evidence,) = packed["evidence"]
        assert (evidence["run"], evidence["settled"], evidence["keeps_runs_from_being_launched"]) == (RUN, said, stands)  # fmt: skip
        kept = Evidence.model_validate_json(json.dumps(evidence["evidence"]))
        heads = [Checkpoint.parse(SignedNote.parse(each).require(federation.log.key)) for each in kept.notes]
        assert heads[0].size == heads[1].size == packed["size"]
        assert heads[0].root != heads[1].root
        members = found.log.story.members
        assert members is not None
        signed = [SignedWitness.model_validate_json(json.dumps(each)) for each in packed["witnesses"]]
        assert sorted(each.verify(members).said.site for each in signed) == sorted(federation.sites)


@pytest.mark.slow
def test_nothing_of_a_sum_before_noise_and_no_artifact_is_in_it(federation: Secured, packed: Path) -> None:
    found = contents(packed)
    (row,) = json.loads(found[f"runs/{RUN}/rounds.json"])
    assert not {"opening", "testimony"} & set(row)
    assert row["aggregate_digest"]
    for artifact in (federation.layout.home / "artifacts").rglob("*"):
        if artifact.is_file():
            assert all(artifact.read_bytes() not in each for each in found.values())


@pytest.mark.slow
def test_a_secret_that_is_still_there_ends_the_export_with_nothing_written(
    federation: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Secrets, "redacted", lambda _, data: data)
    with pytest.raises(
        CovenantError, match=r"logs/serverapp\.log holds a secret of this coordinator, so nothing was written"
    ):
        export_incident(federation.centre, tmp_path / "incident.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_long_log_is_cut_to_its_last_whole_lines(
    federation: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = federation.layout.home / "logs" / "superlink.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    monkeypatch.setattr(incidents, "_TAIL_BYTES", 100)
    path, _ = export_incident(federation.centre, tmp_path / "incident.zip")
    lines = contents(path)["logs/superlink.log"].decode().splitlines()
    assert lines == [f"line {number}" for number in range(1000 - len(lines), 1000)]
    assert 5 < len(lines) < 12


@pytest.mark.slow
def test_the_runs_concerned_are_those_named_or_not_over_by_a_day(federation: Secured, tmp_path: Path) -> None:
    centre = federation.centre
    federation.store.finish("completed")
    for number, (since, expected) in enumerate(
        (
            (centre.clock() - timedelta(days=1), (RUN,)),
            (centre.clock() + timedelta(days=1), ()),
        )
    ):
        _, manifest = export_incident(centre, tmp_path / f"{number}.zip", since=since)
        assert manifest.runs == expected
    with pytest.raises(UsageError, match="there is no run"):
        export_incident(centre, tmp_path / "other.zip", (RunId("run-00000000000000ff"),))
    for target, words in (
        ("0.zip", "exists"),
        ("folder/not/there", "neither a folder nor the name of a .zip"),
    ):
        with pytest.raises(UsageError, match=words):
            export_incident(centre, tmp_path / target)


def resealed(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    found = contents(path)
    change(found)
    with zipfile.ZipFile(target, "w") as file:
        for name, data in found.items():
            file.writestr(name, data)
    return target


def renamed(files: dict[str, bytes], key: SigningKey | None = None) -> None:
    """The manifest is made to fit what the files are now, signed by somebody."""
    before = SignedManifest.from_canonical(files[MANIFEST])
    parts = {n: {"sha256": sha256_hex(d), "bytes": len(d)} for n, d in files.items() if n != MANIFEST}
    fields = {**before.manifest.model_dump(mode="json"), "files": parts}
    manifest = Manifest.from_canonical(canonical_json(fields))
    signature = before.signature if key is None else key.sign("covenant/incident/v1", manifest.canonical)
    files[MANIFEST] = SignedManifest(manifest=manifest, signature=signature).canonical


@pytest.mark.slow
def test_a_file_that_was_changed_is_refused(federation: Secured, packed: Path, tmp_path: Path) -> None:
    log = SigningKey.load(federation.layout.home / "log.key", Passphrase(PASSPHRASE.encode()))
    plan, halts = f"runs/{RUN}/plan.json", "halts.json"

    def edited(files: dict[str, bytes], name: str, old: bytes, new: bytes, key: SigningKey | None) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new)
        if key is not None:
            renamed(files, key)

    other = json.dumps([{"order": json.loads(ordered().canonical)}]).encode()
    changes: list[tuple[str, Callable[[dict[str, bytes]], None]]] = [
        ("is not the file that MANIFEST.json names", lambda f: edited(f, plan, b"secure", b"SECURE", None)),
        ("is not signed with the key of this federation's log", lambda f: edited(f, "ledger.json", b"[]", b"{}", SigningKey.generate())),
        ("is not signed with the key", lambda f: (f.pop("ledger.json"), renamed(f))[1]),
        ("or the other way round", lambda f: f.update(more=b"data")),
        ("or the other way round", lambda f: f.pop(plan) and None),
        ("plan or contract of run-.* is not the one that it was launched with", lambda f: edited(f, plan, b"secure", b"SECURE", log)),
        ("the member list of run-.* is not the one", lambda f: edited(f, f"runs/{RUN}/members.json", b"demo", b"deme", log)),
        ("the approvals of run-.* are not those", lambda f: (f.update({f"runs/{RUN}/evidence.json": PlanEvidence().canonical}), renamed(f, log))[1]),
        ("is in the log, and not in halts.json", lambda f: edited(f, halts, f[halts], b"[]", log)),
        ("is in this file, and not in the log", lambda f: edited(f, halts, f[halts], other, log)),
        (r"entry \d+ .prepared.: .* was not settled over these sites", lambda f: edited(f, "log.jsonl", b'"survivors":["east"', b'"survivors":["eest"', log)),
        ("it has no MANIFEST.json", lambda f: f.pop(MANIFEST) and None),
    ]  # fmt: skip
    for number, (words, change) in enumerate(changes):
        with pytest.raises(Refused, match=words):
            verify_incident(resealed(packed, tmp_path / f"changed-{number}.zip", change), pinned(federation))
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(Refused, match="is no zip file"):
        verify_incident(tmp_path / "no.zip", pinned(federation))
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(Refused, match="is no zip file"):
        verify_incident(cut, pinned(federation))
    with pytest.raises(UsageError, match="cannot be read"):
        verify_incident(tmp_path / "none.zip", pinned(federation))


def test_the_commands_export_and_verify(
    federation: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("COVENANT_HOME", str(federation.layout.home))
    written = facts_of(covenant, "incident", "export", "incident.zip", "--run", RUN, "--since", "2026-01-01")
    shutil.copy(federation.layout.home / "root.json", tmp_path / "root.json")
    monkeypatch.setenv("COVENANT_HOME", str(tmp_path / "nowhere"))
    facts = facts_of(covenant, "incident", "verify", "incident.zip", "--root", "root.json")
    assert (facts["concerns"], facts["files"]) == ([RUN], written["files"])
    assert [each["what"] for each in facts["halts"]] == ["site south"]
    code, _, err = covenant("incident", "verify", "incident.zip", "--root", "root.json")
    assert (code, "are those that the log's key signed for" in " ".join(err.split())) == (0, True)
    assert covenant("incident", "export", "incident.zip", "--home", str(federation.layout.home))[0] == 2
