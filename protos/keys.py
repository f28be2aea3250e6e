"""Keys that sign, and keys that authenticate the transport.

1. A private key is not bytes: it prints nothing of itself and cannot be pickled.
2. Whoever signs holds a `Signer`. The one that ships reads a file; a PKCS#11 module or a KMS has the same members.
3. Every signature is over a label and the message, so none can be presented as a signature for another purpose. A note's, whose form others
   have fixed, cannot be mistaken for one of those.
"""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Final, NoReturn, Protocol, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos.key_files import read_private, write_private
from protos.names import checked
from protos.passphrases import Passphrase
from strategies.encoding import sha256_hex
from strategies.errors import UsageError

_PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_GROUP: Final = 8

# Edwards 25519 (RFC 8032): the field's prime, and the y of the points whose order divides 8, whatever their sign of x.
_PRIME: Final = 2**255 - 19
_Y_OF_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _Y_OF_ORDER_8, _PRIME - _Y_OF_ORDER_8})

# The curves that the transport accepts for node authentication.
NodeCurve = ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1


class Signer(Protocol):
    """Whoever can sign with one private key, Ed25519 (RFC 8032), wherever that is kept."""

    @property
    def public(self) -> str:
        """The public key, 32 bytes, in base64."""
        ...

    def sign(self, label: str, message: bytes) -> str:
        """Sign `message` for the purpose `label`; 64 bytes in base64."""
        ...

    def sign_raw(self, label: str, message: bytes) -> bytes:
        """Sign `message` for the purpose `label`; 64 bytes."""
        ...

    def sign_note(self, text: str) -> bytes:
        """Sign the text of a C2SP note, which has no label: no labelled message begins as a note does, with a printable character."""
        ...


class SigningKey:
    """A `Signer` whose private key is in this process's memory, from a file."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A fresh key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: Passphrase | None = None) -> Self:
        """Read the PKCS8 PEM file `path`; UsageError if it is absent, open to others, or not an Ed25519 key.

        It must be encrypted if there is a `passphrase`, and only then; to open it takes some tenths of a second.
        """
        key = read_private(path, passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"{path} holds another kind of private key; an Ed25519 key is needed")
        return cls(key)

    def save(self, path: Path, passphrase: Passphrase | None = None) -> None:
        """Write the key to a new file, mode 0600, encrypted if there is a `passphrase`; UsageError if `path` exists."""
        write_private(path, self._key, passphrase)

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

    def sign_note(self, text: str) -> bytes:
        """Sign the text of a C2SP note; 64 bytes. Raises UsageError for what is none."""
        if not text[:1].isprintable() or not text.endswith("\n"):
            raise UsageError("a note begins with a printable character and ends with a line's end")
        return self._key.sign(text.encode())

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
    """The 32 bytes of a public key in base64; UsageError if it is anything else, or a point that is nobody's key.

    Under a point of small order there are signatures over any message without a private key, so it shows that nobody holds it; and a point that
    is not written in its one form (y below the prime) would be a second key of its holder. Libraries verify under both.
    """
    data = decode_base64(public, _PUBLIC_BYTES)
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)  # without the sign of x
    if y in _SMALL_ORDER or y >= _PRIME:
        raise UsageError(
            f"this is no public key that somebody can hold: {public[:20]!r}; have its holder make a new one"
        )
    return data


def fingerprint(public: str) -> str:
    """SHA-256 of a public key (base64), as people compare it."""
    return grouped(sha256_hex(public_bytes(public)))


def grouped(digest: str) -> str:
    """Hexadecimal in groups of eight, which people can compare by voice."""
    return " ".join(digest[start : start + _GROUP] for start in range(0, len(digest), _GROUP))


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
    return public_pem(key.public_key())


def node_public_pem(path: Path) -> str:
    """The public half, in PEM, of the transport's private key in `path`. Raises UsageError."""
    key = read_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path} holds another kind of private key; an elliptic curve key is needed")
    return check_node_pem(public_pem(key.public_key()))


def check_node_pem(text: str) -> str:
    """Check a public key that the transport can use, in the one PEM form that is compared. Raises UsageError."""
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("this is not a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, NodeCurve):
        raise UsageError("this is not an elliptic curve key on P-256, P-384 or P-521")
    if public_pem(key) != text:
        raise UsageError("this PEM carries something besides the key; write the key out again")
    return text


def labelled(label: str, message: bytes) -> bytes:
    """What is signed: `label` with its length in front: no two pairs of label and message give the same bytes."""
    name = label.encode()
    return len(name).to_bytes(2, "big") + name + message


def public_pem(key: ec.EllipticCurvePublicKey) -> str:
    """An elliptic curve key in the one PEM form that is compared."""
    data = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data.decode()


def _signature_bytes(signature: str) -> bytes:
    return decode_base64(signature, _SIGNATURE_BYTES)


# Fields of documents.
PublicKey = Annotated[str, checked(public_bytes)]
Signature = Annotated[str, checked(_signature_bytes)]
NodeKey = Annotated[str, checked(check_node_pem)]
