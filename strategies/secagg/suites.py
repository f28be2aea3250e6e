"""The two cipher suites, and what is done with their keys: agreement, derivation, sealing.

1. `x25519-aes256-sha256` (RFC 7748), or `p256-aes256-sha256` (NIST SP 800-56A) where FIPS 140-3 is required. The plan names one; a key
   of the other is refused, so nothing is negotiated and nothing can be negotiated down.
2. A shared secret never becomes a key directly: HKDF-SHA256 (RFC 5869) derives each key under the label of its purpose.
3. An envelope's key is for one direction of one pair in one attempt and seals one message, so its nonce is zero.
4. Everything random comes in as 32 bytes of a seed; nothing here draws.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NoReturn, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import Digest
from strategies.secagg.labels import Label
from strategies.secagg.secrets import SECRET_BYTES, EnvelopeKey, MaskSeed, Secret

_NONCE: Final = bytes(12)
TAG_BYTES: Final = 16
_X25519_PRIME: Final = 2**255 - 19
# u-coordinates of the points whose order divides the cofactor 8, on the curve or its twist: every agreement with one gives zero.
_X25519_LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _X25519_PRIME - 1,
    }
)
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_SCALAR: Final = b"covenant/secagg/1 p-256 scalar"


class Suite(StrEnum):
    """Key agreement, cipher and hash, by name."""

    X25519 = "x25519-aes256-sha256"
    P256 = "p256-aes256-sha256"

    @property
    def public_bytes(self) -> int:
        """Length of a public key on the wire."""
        return 32 if self is Suite.X25519 else 33


class KeySeed(Secret):
    """A private key for agreement, as the 32 bytes that it follows from; the only form in which one is ever shared."""

    __slots__ = ()


class OwnSeed(Secret):
    """What a site's own mask follows from; shared, and opened for those who survive."""

    __slots__ = ()


def check_public_key(suite: Suite, public: bytes) -> bytes:
    """`public`, if it is a key of this suite in the one way that it is written. Raises Refused for another length, or a point that is no key."""
    if len(public) != suite.public_bytes:
        raise Refused(f"a public key of {suite} has {suite.public_bytes} bytes; this one has {len(public)}")
    match suite:
        case Suite.X25519:
            u = int.from_bytes(public, "little")
            if u >= _X25519_PRIME:
                raise Refused("a public key of X25519 is not written in the one canonical way")
            if u in _X25519_LOW_ORDER:
                raise Refused("a public key gives no secret: it is a point of low order")
        case Suite.P256:
            try:
                ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            except ValueError as error:
                raise Refused("a public key is not a point of the curve P-256") from error
        case unreachable:
            assert_never(unreachable)
    return public


def secret_of(suite: Suite, public: bytes) -> bytes:
    """What of a checked key decides about the secret: all of it, but for the sign of a point of P-256, of which agreement uses x alone."""
    return public if suite is Suite.X25519 else public[1:]


class Agreed(Secret):
    """What two sites have agreed on with their keys: never a key itself, but what keys are derived from."""

    __slots__ = ()


class PrivateKey:
    """A private key for agreement, made from its seed once and used with many others' public keys."""

    __slots__ = ("_key", "public", "suite")

    def __init__(self, suite: Suite, seed: KeySeed) -> None:
        """Load the key of `seed`; `public` is 32 bytes for X25519, 33 for P-256 (a compressed point)."""
        self.suite = suite
        match suite:
            case Suite.X25519:
                self._key: X25519PrivateKey | ec.EllipticCurvePrivateKey = (
                    X25519PrivateKey.from_private_bytes(seed.reveal())
                )
                self.public = self._key.public_key().public_bytes_raw()
            case Suite.P256:
                self._key = _p256_private(seed)
                self.public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            case unreachable:
                assert_never(unreachable)

    def agree(self, theirs: bytes) -> Agreed:
        """What the owner of public key `theirs` also gets from it and our public key. Raises Refused for a key that gives no secret."""
        check_public_key(self.suite, theirs)
        try:
            if isinstance(self._key, X25519PrivateKey):
                return Agreed(self._key.exchange(X25519PublicKey.from_public_bytes(theirs)))
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
            return Agreed(self._key.exchange(ec.ECDH(), point))
        except ValueError as error:  # every such point was refused above; the library's own check stays
            raise Refused("a public key gives no secret: it is a point of low order") from error

    def __repr__(self) -> str:
        return "<secret PrivateKey>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key cannot be pickled")


def pair_mask(agreed: Agreed, label: Label) -> MaskSeed:
    """The seed of the mask that two sites share."""
    return MaskSeed(_derive(agreed, label))


def own_mask(seed: OwnSeed, label: Label) -> MaskSeed:
    """The seed of the mask that a site adds of its own."""
    return MaskSeed(_derive(seed, label))


def commitment(seed: OwnSeed, label: Label) -> Digest:
    """What a site says of its own seed beforehand, so that a seed put together from shares can be told to be right."""
    return sha256_hex(_derive(seed, label))


def envelope_key(agreed: Agreed, label: Label) -> EnvelopeKey:
    """The key of the one envelope from the first party of `label` to the second."""
    return EnvelopeKey(_derive(agreed, label))


def seal(key: EnvelopeKey, content: bytes, label: Label) -> bytes:
    """AES-256-GCM over `content`, with `label` as associated data: 16 bytes longer."""
    return AESGCM(key.reveal()).encrypt(_NONCE, content, label.encode())


def unseal(key: EnvelopeKey, sealed: bytes, label: Label) -> bytes:
    """What was sealed. Raises Refused if it was not, by the one other holder of this key, under this label."""
    try:
        return AESGCM(key.reveal()).decrypt(_NONCE, sealed, label.encode())
    except InvalidTag as error:
        raise Refused(
            f"the envelope from {label.parties[0]} to {label.parties[1]} was not sealed by its sender"
        ) from error


def _p256_private(seed: KeySeed) -> ec.EllipticCurvePrivateKey:
    """The scalar from 48 derived bytes, so that its bias is below 2^-127."""
    wide = HKDF(hashes.SHA256(), 48, salt=None, info=_P256_SCALAR).derive(seed.reveal())
    return ec.derive_private_key(1 + int.from_bytes(wide, "big") % (_P256_ORDER - 1), ec.SECP256R1())


def _derive(secret: Secret, label: Label) -> bytes:
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=label.encode()).derive(secret.reveal())
