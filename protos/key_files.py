"""Private keys on disk: PKCS8 in PEM, encrypted with a passphrase or not.

1. A file is created with mode 0600, flushed to disk, and never overwritten: a lost key cannot be made again.
2. A key file that others can read is refused, as ssh does: it may have been copied.
3. Encryption is PBES2 (RFC 8018): AES-256-CBC under a key that PBKDF2 derives with 600,000 rounds of HMAC-SHA-256.

`cryptography` reads such files, but writes them with 2,048 rounds, which a graphics card makes up for. So the envelope is put together here,
from its primitives.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from textwrap import wrap
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from protos.files import write_new
from protos.passphrases import Passphrase
from strategies.errors import UsageError

_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077
_MAX_KEY_BYTES: Final = 16_384

_ROUNDS: Final = 600_000
_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16
_LABEL: Final = "ENCRYPTED PRIVATE KEY"
_MARK: Final = f"-----BEGIN {_LABEL}-----".encode()

# DER: the tags of X.690, and four object identifiers with theirs.
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_NULL: Final = bytes.fromhex("0500")
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256: Final = bytes.fromhex("06082a864886f70d0209")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_SHORT_LENGTH: Final = 0x80


def write_private(
    path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, passphrase: Passphrase | None = None
) -> None:
    """Write `key` to a new file, encrypted if there is a `passphrase`; UsageError if `path` exists."""
    if passphrase is None:
        data = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    else:
        plain = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        data = _pem(_encrypted(plain, passphrase))
    write_new(path, data, mode=_FILE_MODE)


def read_private(path: Path, passphrase: Passphrase | None = None) -> object:
    """The private key in the file `path`, of whatever kind. UsageError if it is absent, open to others, or the passphrase is not its own."""
    data = _read(path)
    if is_encrypted_pem(data) != (passphrase is not None):
        raise UsageError(_unfit(path, encrypted=passphrase is None))
    try:
        return serialization.load_pem_private_key(
            data, password=None if passphrase is None else passphrase.reveal()
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise UsageError(
                f"the passphrase does not open {path}: it is another key's, or the file is damaged"
            ) from error
        raise UsageError(f"{path} is not a private key in PEM (PKCS8)") from error


def is_encrypted(path: Path) -> bool:
    """Whether the private key in the file `path` needs a passphrase. UsageError as `read_private`."""
    return is_encrypted_pem(_read(path))


def is_encrypted_pem(data: bytes) -> bool:
    """Whether these are the bytes of an encrypted private key in PEM."""
    return data.lstrip().startswith(_MARK)


def _unfit(path: Path, *, encrypted: bool) -> str:
    if encrypted:
        return (
            f"{path} is encrypted and its passphrase is not given; say where that is, with `passphrase` in the configuration or"
            " --passphrase-file"
        )
    return f"{path} is not encrypted, but a passphrase is given for it; leave that out, or encrypt the key"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_KEY_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; check the path, or create the key") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise UsageError(f"{path} can be read by others; run chmod 600 {path}, and consider the key copied")
    return data


def _encrypted(plain: bytes, passphrase: Passphrase) -> bytes:
    """The DER of EncryptedPrivateKeyInfo (RFC 5958) around the DER of a private key."""
    salt, iv = os.urandom(_BLOCK_BYTES), os.urandom(_BLOCK_BYTES)
    derived = PBKDF2HMAC(hashes.SHA256(), _KEY_BYTES, salt, _ROUNDS).derive(passphrase.reveal())
    padder, cipher = padding.PKCS7(8 * _BLOCK_BYTES).padder(), Cipher(AES(derived), CBC(iv)).encryptor()
    sealed = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    rounds = _ROUNDS.to_bytes(4, "big").lstrip(b"\0")  # positive, because the first of the bytes is 0x09
    derivation = _der(
        _SEQUENCE, _der(_OCTETS, salt), _der(_INTEGER, rounds), _der(_SEQUENCE, _HMAC_SHA256, _NULL)
    )
    scheme = _der(
        _SEQUENCE,
        _der(_SEQUENCE, _PBKDF2, derivation),
        _der(_SEQUENCE, _AES_256_CBC, _der(_OCTETS, iv)),
    )
    return _der(_SEQUENCE, _der(_SEQUENCE, _PBES2, scheme), _der(_OCTETS, sealed))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < _SHORT_LENGTH:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT_LENGTH | len(length)]) + length + content


def _pem(der: bytes) -> bytes:
    body = "\n".join(wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {_LABEL}-----\n{body}\n-----END {_LABEL}-----\n".encode()
