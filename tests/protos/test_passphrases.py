"""Passphrases: where they come from, and that nothing shows them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from protos.documents import DocumentError, load_document
from protos.passphrases import (
    CREDENTIALS_VARIABLE,
    Passphrase,
    PassphraseSource,
    ask_passphrase,
    read_passphrase,
)
from strategies.errors import UsageError


def file_with(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "word"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_passphrase_does_not_show_itself() -> None:
    secret = Passphrase(b"open sesame")
    assert repr(secret) == str(secret) == f"{secret}" == "<secret Passphrase>"
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    assert secret.matches(Passphrase(b"open sesame"))
    assert not secret.matches(Passphrase(b"open sesamf"))


@pytest.mark.parametrize("content", [b"open sesame", b"open sesame\n", b"open sesame\r\n"])
def test_a_file_holds_one_line(tmp_path: Path, content: bytes) -> None:
    assert read_passphrase(file_with(tmp_path, content)).reveal() == b"open sesame"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"x" * 1025, b"nul\0"])
def test_a_file_that_holds_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="does not hold a passphrase: a passphrase is one line of 1 to 1024"):
        read_passphrase(file_with(tmp_path, content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = file_with(tmp_path, b"open sesame", mode)
    with pytest.raises(UsageError, match="can be read by others; run chmod 600"):
        read_passphrase(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_passphrase(tmp_path / "nowhere")


def source(folder: Path, text: str) -> PassphraseSource:
    (folder / "source.yaml").write_text(text)
    return load_document(folder / "source.yaml", PassphraseSource)


def test_a_credential_is_in_the_folder_that_the_service_manager_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = source(tmp_path, "credential: word")
    monkeypatch.delenv(CREDENTIALS_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="LoadCredentialEncrypted=word"):
        found.read()
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(tmp_path))
    file_with(tmp_path, b"open sesame\n", 0o440)  # systemd's own mode, with an access list behind it
    assert found.read().reveal() == b"open sesame"


def test_a_files_path_belongs_to_the_folder_of_its_document(tmp_path: Path) -> None:
    file_with(tmp_path, b"open sesame")
    assert source(tmp_path, "file: word").read().reveal() == b"open sesame"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "name a credential or a file, and not both"),
        ("{credential: word, file: word}", "name a credential or a file, and not both"),
        ("credential: ../word", "the name of a systemd credential"),
        ("inline: open sesame", "unknown key `inline`"),
    ],
)
def test_a_source_names_one_place_and_never_the_passphrase(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DocumentError, match=sentence):
        source(tmp_path, text)


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UsageError, match=r"no terminal to ask for it; name a file.*--passphrase-file"):
            ask_passphrase(Path("ash.key"))
