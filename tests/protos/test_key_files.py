"""The files of private keys, encrypted and not."""

from __future__ import annotations

import pickle
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from protos.key_files import is_encrypted
from protos.keys import SigningKey, create_node_key, decode_base64, node_public_pem, verify
from protos.passphrases import Passphrase
from strategies.errors import UsageError

SECRET = Passphrase(b"correct horse battery staple")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, Path]:
    """One encrypted key for all tests that read one: each derivation takes its time."""
    key, path = SigningKey.generate(), tmp_path_factory.mktemp("keys") / "ash.key"
    key.save(path, SECRET)
    return key, path


def test_a_key_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    import os

    before = os.umask(0)
    try:
        SigningKey.generate().save(tmp_path / "open.key")
        SigningKey.generate().save(tmp_path / "encrypted.key", SECRET)
        os.umask(0o777)
        create_node_key(tmp_path / "closed.key")
    finally:
        os.umask(before)
    for name in ("open.key", "encrypted.key", "closed.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    SigningKey.generate().save(path)
    before = path.read_bytes()
    for write in (SigningKey.generate().save, create_node_key):
        with pytest.raises(UsageError, match="is never overwritten"):
            write(path)
    assert path.read_bytes() == before


def test_a_key_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.key").symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(UsageError, match="never overwritten"):
        SigningKey.generate().save(tmp_path / "link.key")
    assert not (tmp_path / "elsewhere.key").exists()


def test_a_key_comes_back_from_its_file(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "site.key")
    assert SigningKey.load(tmp_path / "site.key").public == key.public
    public = create_node_key(tmp_path / "node.key")
    assert node_public_pem(tmp_path / "node.key") == public


def test_an_encrypted_key_comes_back_with_its_passphrase(encrypted: tuple[SigningKey, Path]) -> None:
    key, path = encrypted
    assert is_encrypted(path)
    assert SigningKey.load(path, SECRET).public == key.public
    assert SECRET.reveal() not in path.read_bytes()


@pytest.mark.parametrize(
    ("passphrase", "sentence"),
    [
        (None, "is encrypted and its passphrase is not given"),
        (Passphrase(b"correct horse battery stapl"), "the passphrase does not open"),
        (Passphrase(b"Correct horse battery staple"), "the passphrase does not open"),
    ],
)
def test_a_wrong_or_missing_passphrase_is_one_sentence(
    encrypted: tuple[SigningKey, Path], passphrase: Passphrase | None, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        SigningKey.load(encrypted[1], passphrase)
    assert "\n" not in str(refused.value)
    assert "horse" not in str(refused.value)


def test_a_passphrase_for_a_key_that_is_not_encrypted_is_a_mistake(tmp_path: Path) -> None:
    """Whoever configured it believes that the key is protected."""
    SigningKey.generate().save(tmp_path / "site.key")
    with pytest.raises(UsageError, match="is not encrypted, but a passphrase is given"):
        SigningKey.load(tmp_path / "site.key", SECRET)


def test_an_encrypted_key_that_others_can_read_is_refused(
    encrypted: tuple[SigningKey, Path], tmp_path: Path
) -> None:
    path = tmp_path / "ash.key"
    path.write_bytes(encrypted[1].read_bytes())
    path.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others; run chmod 600"):
        SigningKey.load(path, SECRET)


def test_a_damaged_encrypted_key_is_refused(encrypted: tuple[SigningKey, Path], tmp_path: Path) -> None:
    path = tmp_path / "ash.key"
    text = encrypted[1].read_text()
    path.write_text(text.replace(text.splitlines()[2][:8], "AAAAAAAA"))
    path.chmod(0o600)
    with pytest.raises(UsageError, match="or the file is damaged"):
        SigningKey.load(path, SECRET)


def test_a_key_is_encrypted_as_is_stated(encrypted: tuple[SigningKey, Path]) -> None:
    """PBES2 with AES-256-CBC and 600,000 rounds of PBKDF2 over HMAC-SHA-256, told by the bytes of RFC 8018 and not by our own encoder."""
    from base64 import b64decode

    der = b64decode("".join(encrypted[1].read_text().splitlines()[1:-1]))
    assert der.startswith(bytes.fromhex("3081a4"))
    for part in (
        "06092a864886f70d01050d",  # PBES2
        "06092a864886f70d01050c",  # PBKDF2
        "0203" + f"{600_000:06x}",
        "300c06082a864886f70d02090500",  # hmacWithSHA256
        "060960864801650304012a0410",  # aes256-CBC and an IV of 16 bytes
    ):
        assert der.count(bytes.fromhex(part)) == 1, part


def test_two_files_of_one_key_and_passphrase_share_nothing(
    encrypted: tuple[SigningKey, Path], tmp_path: Path
) -> None:
    key, path = encrypted
    key.save(tmp_path / "again.key", SECRET)
    ours, theirs = (
        path.read_text().splitlines()[1:-1],
        (tmp_path / "again.key").read_text().splitlines()[1:-1],
    )
    assert ours[1:] != theirs[1:]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_openssl_reads_our_keys_and_we_read_those_that_it_encrypts(
    encrypted: tuple[SigningKey, Path], tmp_path: Path
) -> None:
    key, path = encrypted
    word = tmp_path / "word"
    word.write_bytes(SECRET.reveal())
    plain, again = tmp_path / "plain.key", tmp_path / "again.key"
    for command in (
        ["openssl", "pkcs8", "-in", path, "-passin", f"file:{word}", "-out", plain],
        ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "600000", "-in", plain, "-passout", f"file:{word}", "-out", again],
    ):  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    opened = load_pem_private_key(plain.read_bytes(), None)
    assert isinstance(opened, Ed25519PrivateKey)
    assert SigningKey(opened).public == key.public
    again.chmod(0o600)
    assert SigningKey.load(again, SECRET).public == key.public


def test_key_files_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    with pytest.raises(UsageError, match="does not exist"):
        SigningKey.load(path)
    create_node_key(path)
    with pytest.raises(UsageError, match="an Ed25519 key is needed"):
        SigningKey.load(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others; run chmod 600"):
        SigningKey.load(path)
    path.chmod(0o600)
    path.write_text("not a key")
    with pytest.raises(UsageError, match="is not a private key in PEM"):
        SigningKey.load(path)
    with pytest.raises(UsageError, match="cannot be created"):
        SigningKey.generate().save(tmp_path / "nowhere" / "site.key")


def test_a_private_key_does_not_show_itself() -> None:
    key = SigningKey.generate()
    assert repr(key) == str(key) == "<secret SigningKey>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(key)


def test_a_label_and_a_message_cannot_be_shifted_into_each_other() -> None:
    key = SigningKey.generate()
    signature = key.sign("ab", b"c")
    assert verify(key.public, signature, "ab", b"c")
    assert not verify(key.public, signature, "a", b"bc")


@pytest.mark.parametrize("text", ["AB==", "AA==\n", "AA", "é", "AAA="])
def test_one_byte_has_one_base64(text: str) -> None:
    assert decode_base64("AA==", 1) == b"\0"
    with pytest.raises(UsageError):
        decode_base64(text, 1)
