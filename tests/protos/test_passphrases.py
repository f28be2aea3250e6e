"""Passphrases: where they come from, and that nothing shows them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from protos.documents import DocumentError, Part, load_document
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


class Keys(Part):
    """A document that names a passphrase, as `site.yaml` and `covenant.yaml` do."""

    log: str
    passphrase: PassphraseSource | None = None


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
        ("inline: open sesame", "a passphrase is never written here; name a credential or a file"),
    ],
)
def test_a_source_names_one_place_and_never_the_passphrase(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DocumentError, match=sentence):
        source(tmp_path, text)


@pytest.mark.parametrize(
    "written",
    [
        "sesame12",
        "12345678",
        "1234.5678",
        "true",
        "[sesame12]",
        "[[sesame12], {sesame12: 12345678}]",
        "{sesame12}",
        "{sesame12: null}",
        "{secret: sesame12}",
        "{12345678: credential}",
        "{credential: open sesame12}",
        "{credential: 12345678}",
        "{credential: [sesame12]}",
        "{credential: {file: sesame12}}",
        "{file: [sesame12]}",
        "{file: 12345678}",
        "{file: {sesame12: 1234.5678}}",
        "{credential: word, file: sesame12}",
    ],
)
def test_no_error_repeats_what_stands_where_a_passphrase_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "keys.yaml").write_text(f"log: log.key\npassphrase: {written}\n")
    with pytest.raises(DocumentError, match=r"keys\.yaml line 2: `passphrase\.") as refused:
        load_document(tmp_path / "keys.yaml", Keys)
    for secret in ("sesame12", "12345678", "1234.5678", "true"):
        assert secret not in str(refused.value)


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UsageError, match=r"no terminal to ask for it; name a file.*--passphrase-file"):
            ask_passphrase(Path("ash.key"))
