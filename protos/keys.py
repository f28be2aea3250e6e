"""Private keys and their files.

1. A private key is not bytes: it prints nothing of itself and cannot be pickled.
2. Its file is created with mode 0600, flushed to disk, and never overwritten: a lost key cannot be made again.
3. A key file that others can read is refused, as ssh does: it may have been copied.
4. Every signature is over a label and the message, so none can be presented as a signature for another purpose.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strategies.errors import UsageError

_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077
_MAX_KEY_BYTES: Final = 16_384
_PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64

# The curves that the transport accepts for node authentication.
NodeCurve = ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1


class SigningKey:
    """An Ed25519 private key (RFC 8032)."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A fresh key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the PKCS8 PEM file `path`; UsageError if it is absent, open to others, or not an Ed25519 key."""
        key = _load_private(path)
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"{path} holds another kind of private key; an Ed25519 key is needed")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key to a new file, mode 0600; UsageError if `path` exists."""
        write_private(path, self._key)

    @property
    def public(self) -> str:
        """The public key, 32 bytes, in base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, label: str, message: bytes) -> str:
        """Sign `message` for the purpose `label`; 64 bytes in base64."""
        return base64.b64encode(self.sign_raw(label, message)).decode()

    def sign_raw(self, label: str, message: bytes) -> bytes:
        """Sign `message` for the purpose `label`; 64 bytes."""
        return self._key.sign(labelled(label, message))

    def __repr__(self) -> str:
        return "<secret SigningKey>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key cannot be pickled")


def verify(public: str, signature: str, label: str, message: bytes) -> bool:
    """Whether `signature` (base64) is by the holder of `public` (base64) over `message` for the purpose `label`."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public_bytes(public))
        key.verify(decode_base64(signature, _SIGNATURE_BYTES), labelled(label, message))
    except (InvalidSignature, UsageError):
        return False
    return True


def public_bytes(public: str) -> bytes:
    """The 32 bytes of a public key in base64; UsageError if it is anything else."""
    return decode_base64(public, _PUBLIC_BYTES)


def decode_base64(text: str, length: int) -> bytes:
    """Decode exactly `length` bytes from their one canonical base64 form; UsageError otherwise."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"this is not base64: {text[:20]!r}") from error
    # Unused trailing bits may be set in base64; two texts for one key would defeat comparisons.
    if len(data) != length or base64.b64encode(data).decode() != text:
        raise UsageError(f"this is not the base64 of {length} bytes: {text[:20]!r}")
    return data


def create_node_key(path: Path) -> str:
    """Write a fresh P-256 key for the transport to a new file, mode 0600; returns its public key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path, key)
    return _public_pem(key.public_key())


def node_public_pem(path: Path) -> str:
    """The public half, in PEM, of the transport's private key in `path`. Raises UsageError."""
    key = _load_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path} holds another kind of private key; an elliptic curve key is needed")
    return check_node_pem(_public_pem(key.public_key()))


def check_node_pem(text: str) -> str:
    """Check a public key that the transport can use, in the one PEM form that is compared. Raises UsageError."""
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("this is not a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, NodeCurve):
        raise UsageError("this is not an elliptic curve key on P-256, P-384 or P-521")
    if _public_pem(key) != text:
        raise UsageError("this PEM carries something besides the key; write the key out again")
    return text


def write_private(path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """Write `key` as PKCS8 PEM to a new file, mode 0600, on disk when this returns; UsageError if `path` exists."""
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_new(path, data, mode=_FILE_MODE)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create `path` with `data` and `mode`, on disk when this returns; UsageError if it exists or cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and is never overwritten; move it away first if it is obsolete"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # exactly, whatever the umask took away
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.absolute().parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would block the next attempt
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load_private(path: Path) -> object:
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
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an unencrypted private key in PEM (PKCS8)") from error


def labelled(label: str, message: bytes) -> bytes:
    """What is signed: `label` with its length in front: no two pairs of label and message give the same bytes."""
    name = label.encode()
    return len(name).to_bytes(2, "big") + name + message


def _public_pem(key: ec.EllipticCurvePublicKey) -> str:
    data = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data.decode()
