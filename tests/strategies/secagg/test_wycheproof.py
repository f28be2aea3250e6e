"""Project Wycheproof's vectors, through the functions that secure aggregation calls the primitives with.

What is kept of them, and from which version, is in the `provenance` of tests/vectors/wycheproof/*.json. Four things of ours are narrower
than the vectors, so a test reaches past them, and past nothing else:

- a P-256 key is derived from a seed, so the vector's scalar is put in its place; its points are written as our wire does, compressed;
- HKDF is called without salt, under a label, for 32 bytes: a bare label carries the vector's info, and the common prefix is compared;
- an envelope's nonce is zero, so the vector's takes the place of that constant;
- a signature is over a purpose and a message, so the purpose is left away.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protos import identities, keys
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import suites
from strategies.secagg.secrets import EnvelopeKey
from strategies.secagg.suites import KeySeed, PrivateKey, Suite, check_public_key, seal, unseal

FOLDER = Path(__file__).parents[2] / "vectors" / "wycheproof"
P256_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
EAST = SiteName("east")
Test = dict[str, Any]


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def vectors(name: str, *results: str) -> list[Any]:
    kept: list[Test] = read(name)["tests"]
    return [
        pytest.param(test, id=str(test["tcId"])) for test in kept if not results or test["result"] in results
    ]


def octets(test: Test, *fields: str) -> list[bytes]:
    return [bytes.fromhex(test[field]) for field in fields]


@dataclass(frozen=True)
class Bare:
    """Stands for a secret of any length, and for a label of any bytes."""

    content: bytes
    parties: tuple[SiteName, ...] = (EAST, SiteName("west"))

    def reveal(self) -> bytes:
        return self.content

    def encode(self) -> bytes:
        return self.content


@pytest.mark.parametrize("name", ["x25519", "ecdh_p256", "hkdf_sha256", "aes_256_gcm", "ed25519"])
def test_every_file_says_what_it_is_and_holds_what_it_says(name: str) -> None:
    file = read(name)
    assert file["licence"] == "Apache-2.0"
    assert file["provenance"].startswith("Project Wycheproof")
    assert (
        len({test["tcId"] for test in file["tests"]})
        == len(file["tests"])
        == file["kept"]
        <= file["official"]
    )


# X25519.


def of_x25519(test: Test) -> bytes:
    public, private = octets(test, "public", "private")
    return PrivateKey(Suite.X25519, KeySeed(private)).agree(public).reveal()


@pytest.mark.parametrize("test", vectors("x25519"))
def test_x25519(test: Test) -> None:
    """A shared secret of zeros is refused, as RFC 7748, section 6.1, allows, and so are keys that could be written otherwise."""
    if "ZeroSharedSecret" in test["flags"]:
        assert not any(bytes.fromhex(test["shared"]))
    (public,) = octets(test, "public")
    if int.from_bytes(public, "little") >= 2**255 - 19:
        with pytest.raises(Refused, match="not written in the one canonical way"):
            of_x25519(test)
    elif "ZeroSharedSecret" in test["flags"]:
        with pytest.raises(Refused, match="low order"):
            of_x25519(test)
    else:
        assert of_x25519(test).hex() == test["shared"]


def test_both_kinds_of_x25519_vectors_are_there() -> None:
    flags = [flag for test in read("x25519")["tests"] for flag in test["flags"]]
    assert flags.count("ZeroSharedSecret") == 31
    assert flags.count("NonCanonicalPublic") == 19
    assert flags.count("EdgeCasePrivateKey") == 7


# ECDH on P-256.


def compressed(point: bytes) -> bytes:
    """An uncompressed point as our wire writes it; anything else as it is."""
    if len(point) != 65 or point[0] != 4:
        return point
    return bytes([2 + point[64] % 2]) + point[1:33]


def on_the_curve(x: int) -> bool:
    """Euler's criterion for x^3 - 3x + b, with b of FIPS 186-5."""
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    square = (x**3 - 3 * x + b) % P256_PRIME
    return x < P256_PRIME and pow(square, (P256_PRIME - 1) // 2, P256_PRIME) <= 1


def of_p256(private: bytes, public: bytes) -> bytes:
    key = PrivateKey.__new__(PrivateKey)
    key.suite = Suite.P256
    key._key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
    return key.agree(public).reveal()


@pytest.mark.parametrize("test", vectors("ecdh_p256", "valid", "acceptable"))
def test_ecdh_on_p256_with_compressed_points(test: Test) -> None:
    public, private, shared = octets(test, "public", "private", "shared")
    assert of_p256(private, compressed(public)) == shared


@pytest.mark.parametrize("test", vectors("ecdh_p256", "valid"))
def test_a_point_that_is_not_compressed_is_refused(test: Test) -> None:
    """One encoding of a point, so that equal keys have equal bytes."""
    (public,) = octets(test, "public")
    for refuses in (lambda: check_public_key(Suite.P256, public), lambda: of_p256(b"\1", public)):
        with pytest.raises(Refused, match="has 33 bytes; this one has 65"):
            refuses()


@pytest.mark.parametrize("test", vectors("ecdh_p256", "invalid"))
def test_points_that_are_none_of_p256(test: Test) -> None:
    """As they come, and again compressed, where only an x that no point has can still be told."""
    public, private = octets(test, "public", "private")
    with pytest.raises(Refused, match=r"has 33 bytes|not a point of the curve"):
        of_p256(private, public)
    x = int.from_bytes(compressed(public)[1:], "big")
    if len(compressed(public)) == 33 and not on_the_curve(x):
        with pytest.raises(Refused, match="not a point of the curve"):
            of_p256(private, compressed(public))


def test_enough_points_off_the_curve_are_among_them() -> None:
    points = {compressed(bytes.fromhex(test["public"])) for test in read("ecdh_p256")["tests"]}
    off = [p for p in points if len(p) == 33 and not on_the_curve(int.from_bytes(p[1:], "big"))]
    assert len(off) == 13


@pytest.mark.parametrize("excess", [0, 1, 5, 2**32])
@pytest.mark.parametrize("first", [2, 3])
def test_an_x_beyond_the_prime_is_refused(excess: int, first: int) -> None:
    """Not Wycheproof's, which has none in this form: 5 is the x of a point, 5 + p would be its second encoding."""
    assert on_the_curve(5)
    public = bytes([first]) + (P256_PRIME + excess).to_bytes(32, "big")
    with pytest.raises(Refused, match="not a point of the curve"):
        check_public_key(Suite.P256, public)


# HKDF-SHA256.


@pytest.mark.parametrize("test", vectors("hkdf_sha256", "valid"))
def test_hkdf_without_salt(test: Test) -> None:
    """HKDF's output of another size begins the same (RFC 5869, section 2.3)."""
    ikm, info, okm = octets(test, "ikm", "info", "okm")
    found = suites._derive(Bare(ikm), Bare(info))  # type: ignore[arg-type]
    common = min(len(okm), 32)
    assert common >= 20
    assert len(found) == 32
    assert found[:common] == okm[:common]


# AES-256-GCM.


@pytest.mark.parametrize("test", vectors("aes_256_gcm", "valid"))
def test_what_aes_256_gcm_seals(monkeypatch: pytest.MonkeyPatch, test: Test) -> None:
    key, iv, aad, message, sealed, tag = octets(test, "key", "iv", "aad", "msg", "ct", "tag")
    monkeypatch.setattr(suites, "_NONCE", iv)
    label: Any = Bare(aad)
    assert seal(EnvelopeKey(key), message, label) == sealed + tag
    assert unseal(EnvelopeKey(key), sealed + tag, label) == message


@pytest.mark.parametrize("test", vectors("aes_256_gcm", "invalid"))
def test_what_aes_256_gcm_does_not_open(monkeypatch: pytest.MonkeyPatch, test: Test) -> None:
    key, iv, aad, sealed, tag = octets(test, "key", "iv", "aad", "ct", "tag")
    monkeypatch.setattr(suites, "_NONCE", iv)
    label: Any = Bare(aad)
    with pytest.raises(Refused, match="was not sealed by its sender"):
        unseal(EnvelopeKey(key), sealed + tag, label)


# Ed25519.


@pytest.mark.parametrize("test", vectors("ed25519"))
def test_ed25519(monkeypatch: pytest.MonkeyPatch, test: Test) -> None:
    for module in (identities, keys):
        monkeypatch.setattr(module, "labelled", lambda _, message: message)
    public, message, signature = octets(test, "public", "msg", "sig")
    expected = test["result"] == "valid"
    key = base64.b64encode(public).decode()
    assert identities.Identities({EAST: key}).verify(EAST, "purpose", message, signature) is expected
    assert keys.verify(key, base64.b64encode(signature).decode(), "purpose", message) is expected


def test_a_vector_does_not_verify_under_a_purpose() -> None:
    """What the test above leaves away counts: a signature over the bare message is one for no purpose."""
    test = next(test for test in read("ed25519")["tests"] if test["result"] == "valid")
    public, message, signature = octets(test, "public", "msg", "sig")
    key = base64.b64encode(public).decode()
    assert not identities.Identities({EAST: key}).verify(EAST, "", message, signature)
