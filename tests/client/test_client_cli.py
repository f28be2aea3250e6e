"""`covenant-agent init` and `run`: what they make, what they never overwrite, how they end."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from client import cli
from client.bootstrap import open_participant
from client.enrolment.new_site import REQUEST_FILE
from client.journal.entries import Owner
from client.journal.file import Journal
from client.keystore import load_node_key
from protos.enrolment import EnrolmentRequest
from protos.key_files import is_encrypted, write_private
from protos.keys import SigningKey, create_node_key, node_public_pem
from protos.root import SignedRoot
from protos.shell import run_command
from protos.site import load_site
from strategies.errors import UsageError
from tests.client.loans_for_tests import CONTRACT
from tests.trust_for_tests import officers


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """What a site is given: the root's public half, the transport's CA, the contract."""
    folder = tmp_path / "papers"
    folder.mkdir()
    officers().save(folder)
    (folder / "ca.crt").write_text("a certificate\n")
    (folder / "loans.yaml").write_bytes(CONTRACT.canonical)
    return folder


def options(papers: Path, folder: Path, **changed: str) -> list[str]:
    given = {
        "site": "west",
        "federation": "demo",
        "superlink": "fl.example:9092",
        "ca": str(papers / "ca.crt"),
        "root": str(papers / "root.json"),
        "contract": str(papers / "loans.yaml"),
        "data": str(papers / "loans.parquet"),
        "purpose": "credit-risk",
    } | changed
    return ["init", str(folder), *(word for name, value in given.items() for word in (f"--{name}", value))]


def left(*arguments: str) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: cli.app(list(arguments), standalone_mode=False))
    return caught.value.code


def test_init_makes_a_site_that_opens(papers, tmp_path, capsys):
    folder = tmp_path / "west"
    assert left(*options(papers, folder)) == 0
    config = load_site(folder / "site.yaml")
    assert (config.site, config.federation.superlink) == ("west", "fl.example:9092")
    assert config.data["loans"].contract == "loans@1"
    assert config.data["loans"].file == papers / "loans.parquet"
    assert [each.purpose for each in config.policy.accept] == ["credit-risk"]
    participant = open_participant(folder / "site.yaml")
    pinned = participant.trust.pinned
    assert pinned.canonical == (papers / "root.json").read_bytes()
    request = EnrolmentRequest.from_canonical((folder / REQUEST_FILE).read_bytes().strip())
    member = request.verify()
    assert (member.site, member.identity_key) == ("west", participant.identity.public)
    assert member.node_key == node_public_pem(config.identity.node_key)
    said = " ".join(capsys.readouterr().err.split())
    assert request.fingerprint in said
    assert pinned.root.fingerprint in said


def test_init_writes_keys_that_only_the_owner_reads_whatever_the_umask(papers, tmp_path):
    folder, before = tmp_path / "west", os.umask(0)
    try:
        assert left(*options(papers, folder)) == 0
    finally:
        os.umask(before)
    for name in ("site.key", "node.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert b"PRIVATE" not in (folder / REQUEST_FILE).read_bytes()


def test_init_never_overwrites_a_site(papers, tmp_path, capsys):
    folder = tmp_path / "west"
    left(*options(papers, folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert left(*options(papers, folder, site="south")) == 2
    assert "a site is never overwritten" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["site.key", "node.key"])
def test_init_never_overwrites_a_key_that_lost_its_configuration(papers, tmp_path, name, capsys):
    folder = tmp_path / "west"
    folder.mkdir()
    (folder / name).write_text("precious")
    assert left(*options(papers, folder)) == 2
    assert "exists and is never overwritten" in capsys.readouterr().err
    assert (folder / name).read_text() == "precious"
    assert not (folder / "site.yaml").exists()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("site", "West!", "'West!' is not a site name"),
        ("superlink", "fl.example", "use host:port"),
        ("purpose", "Credit Risk", "1 to 63 characters a-z"),
        ("ca", "/nowhere/ca.crt", "/nowhere/ca.crt does not exist"),
        ("root", "/nowhere/root.json", "/nowhere/root.json does not exist"),
        ("contract", "/nowhere/loans.yaml", "/nowhere/loans.yaml does not exist"),
    ],
)
def test_init_with_a_bad_value_says_so_and_makes_no_keys(papers, tmp_path, option, value, sentence, capsys):
    folder = tmp_path / "west"
    assert left(*options(papers, folder, **{option: value})) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (folder / "site.key").exists()
    assert left(*options(papers, folder)) == 0  # the corrected command works


def test_init_for_another_federation_than_the_pinned_root_is_refused(papers, tmp_path, capsys):
    assert left(*options(papers, tmp_path / "west", federation="retail")) == 2
    assert "is the root of demo, not of retail" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "west/site.key").exists()


def test_init_pins_no_draft_of_a_root(papers, tmp_path, capsys):
    draft = SignedRoot(root=officers().newest, signatures=officers().pinned.signatures[:1])
    (papers / "root.json").write_bytes(draft.canonical)
    assert left(*options(papers, tmp_path / "west")) == 3
    assert "root version 1 of demo has 1 of the 2 signatures" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "west").exists()


def test_a_site_with_another_root_than_its_configuration_says_does_not_open(papers, tmp_path):
    left(*options(papers, tmp_path / "west"))
    officers("retail").save(tmp_path / "west")
    with pytest.raises(UsageError, match="is the root of retail, not of demo"):
        open_participant(tmp_path / "west/site.yaml")


def word_in(folder: Path, text: str) -> Path:
    path = folder / "word"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_init_encrypts_the_identity_key_if_it_is_given_a_passphrase(papers, tmp_path, capsys):
    folder, word = tmp_path / "west", word_in(tmp_path, "open sesame\n")
    assert left(*options(papers, folder, **{"passphrase-file": str(word)})) == 0
    config = load_site(folder / "site.yaml")
    assert config.identity.passphrase.file == word
    assert is_encrypted(config.identity.key)
    assert not is_encrypted(config.identity.node_key)
    open_participant(folder / "site.yaml").close()
    assert "sesame" not in (folder / "site.yaml").read_text() + capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("another passphrase", "the passphrase does not open"),
        ("an open file", "can be read by others"),
        ("no file", "it must hold the passphrase"),
        ("no source", "is encrypted and its passphrase is not given"),
    ],
)
def test_a_key_that_cannot_be_opened_is_refused_in_one_sentence(papers, tmp_path, change, sentence):
    folder, word = tmp_path / "west", word_in(tmp_path, "open sesame")
    left(*options(papers, folder, **{"passphrase-file": str(word)}))
    if change == "another passphrase":
        word.write_text("open barley")
    elif change == "an open file":
        word.chmod(0o644)
    elif change == "no file":
        word.unlink()
    else:
        config = folder / "site.yaml"
        config.write_text(config.read_text().replace("  passphrase:", "  # passphrase:"))
    with pytest.raises(UsageError, match=sentence) as refused:
        open_participant(folder / "site.yaml")
    assert "\n" not in str(refused.value)


def test_run_with_a_wrong_passphrase_is_one_sentence_and_exit_code_2(papers, tmp_path):
    folder, word = tmp_path / "west", word_in(tmp_path, "open sesame")
    left(*options(papers, folder, **{"passphrase-file": str(word)}))
    word.write_text("open barley")
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", "run", "-c", str(folder / "site.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == (
        f"error: the passphrase does not open {folder / 'site.key'}: it is another key's, or the file is damaged"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["init"], "Missing argument"),
        (["rum"], "No such command 'rum'"),
        (["run", "--confg", "x"], "No such option"),
        (["run", "--config", "/nowhere/site.yaml"], "/nowhere/site.yaml does not exist"),
    ],
)
def test_a_wrong_command_line_ends_with_exit_code_2_and_a_sentence(arguments, sentence, capsys):
    assert left(*arguments) == 2
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split())
    assert "Traceback" not in said


def test_no_command_shows_the_help(capsys):
    assert left() == 2
    assert "init" in capsys.readouterr().out


def test_a_key_that_others_can_read_is_refused(papers, tmp_path):
    folder = tmp_path / "west"
    left(*options(papers, folder))
    (folder / "node.key").chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        load_node_key(folder / "node.key")


def test_a_node_key_of_another_kind_is_refused(tmp_path):
    SigningKey.generate().save(tmp_path / "site.key")
    with pytest.raises(UsageError, match="another kind of private key"):
        load_node_key(tmp_path / "site.key")
    create_node_key(tmp_path / "node.key")
    assert load_node_key(tmp_path / "node.key").curve.name == "secp256r1"
    with pytest.raises(UsageError, match="never overwritten"):
        write_private(tmp_path / "node.key", load_node_key(tmp_path / "node.key"))


@pytest.mark.slow
def test_run_with_a_journal_of_another_federation_is_refused_in_one_sentence(papers, tmp_path):
    """A machine set up from another federation's snapshot, or a folder copied together."""
    folder = tmp_path / "west"
    assert left(*options(papers, folder)) == 0
    other = Owner(federation="retail", root="another root", site="west", identity="another key")
    Journal.open(folder / "journal.db", other).close()
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", "run", "-c", str(folder / "site.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (sentence,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "journal.db is the journal of west in federation retail" in sentence
    assert "an agent goes on with its own journal only" in sentence
    assert "Traceback" not in done.stderr


def test_run_gives_up_with_exit_code_4_and_one_sentence(papers, tmp_path):
    """A process of its own, because `run` makes its environment quiet; nothing listens on the port."""
    from datetime import UTC, datetime

    from coordinator.tls import make_transport_certificates

    make_transport_certificates(
        tmp_path / "tls", federation="demo", hosts=["127.0.0.1"], now=datetime.now(UTC)
    )
    folder = tmp_path / "west"
    ca = str(tmp_path / "tls/ca.crt")
    assert left(*options(papers, folder, superlink="127.0.0.1:1", ca=ca)) == 0
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "client.cli",
            "run",
            "-c",
            str(folder / "site.yaml"),
            "--give-up-after",
            "0.1",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    (sentence,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "127.0.0.1:1 cannot be reached" in sentence
    assert "Traceback" not in done.stderr
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert any(entry["event"] == "not connected; trying again" for entry in logged)
    (warned,) = (entry for entry in logged if entry["event"] == "the identity key is not encrypted")
    assert warned["file"] == str(folder / "site.key")
