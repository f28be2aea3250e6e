"""Keys of secure aggregation: two sites derive the same ones, anybody else and any other purpose other ones."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from strategies.errors import Refused
from strategies.ids import Digest, RunId, site_name
from strategies.secagg.labels import Attempt, Label, prefixed
from strategies.secagg.secrets import EnvelopeKey, MaskSeed
from strategies.secagg.suites import (
    TAG_BYTES,
    KeySeed,
    OwnSeed,
    PrivateKey,
    Suite,
    check_public_key,
    envelope_key,
    own_mask,
    pair_mask,
    seal,
    unseal,
)

EAST, WEST = site_name("east"), site_name("west")
ATTEMPT = Attempt(
    suite=Suite.X25519,
    plan=Digest("ab" * 32),
    run=RunId("run-0123456789abcdef"),
    stage="train",
    round=3,
    attempt=1,
)
LABEL = Label(
    attempt=ATTEMPT,
    purpose="mask",
    parties=(EAST, WEST),
    cohort=Digest("cd" * 32),
    statement=Digest("ef" * 32),
)
ONE, TWO = KeySeed(b"\x01" * 32), KeySeed(b"\x02" * 32)


def public_key(suite: Suite, seed: KeySeed) -> bytes:
    return PrivateKey(suite, seed).public


def agree_mask(suite: Suite, seed: KeySeed, theirs: bytes, label: Label) -> MaskSeed:
    return pair_mask(PrivateKey(suite, seed).agree(theirs), label)


def agree_envelope(suite: Suite, seed: KeySeed, theirs: bytes, label: Label) -> EnvelopeKey:
    return envelope_key(PrivateKey(suite, seed).agree(theirs), label)


@pytest.mark.parametrize("suite", Suite)
def test_two_sites_derive_the_same_mask_and_the_same_envelope_key(suite: Suite) -> None:
    publics = {seed: public_key(suite, value) for seed, value in (("one", ONE), ("two", TWO))}
    assert agree_mask(suite, ONE, publics["two"], LABEL) == agree_mask(suite, TWO, publics["one"], LABEL)
    assert agree_envelope(suite, ONE, publics["two"], LABEL) == agree_envelope(
        suite, TWO, publics["one"], LABEL
    )
    assert all(len(public) == suite.public_bytes for public in publics.values())


@pytest.mark.parametrize(
    ("private", "theirs", "shared"),
    [
        (  # section 6.1: Bob's private key, Alice's public key
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
        (  # section 5.2, the first vector
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
    ],
)
def test_a_mask_seed_is_hkdf_of_what_x25519_gives(private: str, theirs: str, shared: str) -> None:
    """Vectors of RFC 7748 for the agreement; RFC 5869 on top, under the label."""
    expected = HKDF(hashes.SHA256(), 32, salt=None, info=LABEL.encode()).derive(bytes.fromhex(shared))
    found = agree_mask(Suite.X25519, KeySeed(bytes.fromhex(private)), bytes.fromhex(theirs), LABEL)
    assert found.reveal() == expected


def test_a_public_key_is_that_of_rfc_7748() -> None:
    seed = KeySeed(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert public_key(Suite.X25519, seed).hex() == public


CHANGES = [
    {"purpose": "envelope"},
    {"parties": (WEST, EAST)},
    {"parties": (EAST,)},
    {"cohort": Digest("00" * 32)},
    {"cohort": None},
    {"statement": Digest("00" * 32)},
    {"statement": None},
    {"attempt": replace(ATTEMPT, suite="p256-aes256-sha256")},
    {"attempt": replace(ATTEMPT, plan=Digest("00" * 32))},
    {"attempt": replace(ATTEMPT, run=RunId("run-00000000000000ff"))},
    {"attempt": replace(ATTEMPT, stage="evaluate")},
    {"attempt": replace(ATTEMPT, round=4)},
    {"attempt": replace(ATTEMPT, attempt=2)},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_whatever_differs_in_a_label_gives_unrelated_keys(change: dict) -> None:
    """A replayed round, a retry, another plan, an inconsistent model: none of them meets a mask a second time."""
    other = replace(LABEL, **change)
    public = public_key(Suite.X25519, TWO)
    assert agree_mask(Suite.X25519, ONE, public, LABEL) != agree_mask(Suite.X25519, ONE, public, other)
    assert own_mask(OwnSeed(b"\x03" * 32), LABEL) != own_mask(OwnSeed(b"\x03" * 32), other)


def test_every_field_of_a_label_is_among_the_changes() -> None:
    assert {next(iter(change)) for change in CHANGES} == set(Label.__slots__)
    changed = [change["attempt"] for change in CHANGES if "attempt" in change]
    assert all(any(getattr(c, f.name) != getattr(ATTEMPT, f.name) for c in changed) for f in fields(Attempt))


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_no_two_lists_of_parts_have_the_same_bytes(one: list[str], other: list[str]) -> None:
    encoded = [
        b"".join(prefixed(part.encode("utf-8", "surrogatepass")) for part in parts) for parts in (one, other)
    ]
    assert (encoded[0] == encoded[1]) == (one == other)


def test_labels_that_could_run_together_do_not() -> None:
    first = Label(attempt=ATTEMPT, purpose="mask", parties=(site_name("a"), site_name("bc")))
    second = Label(attempt=ATTEMPT, purpose="mask", parties=(site_name("ab"), site_name("c")))
    assert first.encode() != second.encode()
    assert (
        replace(first, cohort=Digest("ab" * 32)).encode()
        != replace(first, statement=Digest("ab" * 32)).encode()
    )


@pytest.mark.parametrize("suite", Suite)
def test_a_key_of_the_other_suite_is_refused(suite: Suite) -> None:
    """Suite downgrade: the coordinator offers a key of the weaker or unapproved suite."""
    other = Suite.P256 if suite is Suite.X25519 else Suite.X25519
    with pytest.raises(Refused, match=f"a public key of {suite} has"):
        agree_mask(suite, ONE, public_key(other, TWO), LABEL)


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("escape", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda each: each.__name__)
def test_a_private_key_is_not_copied_out_of_the_process(
    suite: Suite, escape: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match="a private key cannot be pickled"):
        escape(PrivateKey(suite, ONE))


@pytest.mark.parametrize("suite", Suite)
def test_a_private_key_prints_nothing_of_itself(suite: Suite) -> None:
    key = PrivateKey(suite, ONE)
    assert repr(key) == str(key) == f"{[key]}"[1:-1] == "<secret PrivateKey>"


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point[:2].hex())
def test_a_point_of_low_order_is_no_public_key(point: bytes) -> None:
    """Nobody needs a private key to tell, so the coordinator refuses the site that advertises it, and no cohort fails by it."""
    with pytest.raises(Refused, match="it is a point of low order"):
        check_public_key(Suite.X25519, point)
    with pytest.raises(Refused, match="not written in the one canonical way"):
        check_public_key(Suite.X25519, bytes([*point[:-1], point[-1] | 0x80]))


def test_every_point_of_low_order_is_among_those_that_are_refused() -> None:
    """The library says which points give no secret: those, and no other small or large number."""
    prime = 2**255 - 19
    for number in (*range(50), *range(prime - 50, prime)):
        point = number.to_bytes(32, "little")
        try:
            X25519PrivateKey.from_private_bytes(ONE.reveal()).exchange(
                X25519PublicKey.from_public_bytes(point)
            )
        except ValueError:
            assert point in LOW_ORDER
            continue
        assert check_public_key(Suite.X25519, point) == point


@pytest.mark.parametrize(
    "number", [2**255 - 19, 2**255 - 18, 2**255 - 10, 2**255 - 1, 2**255 + 9, 2**256 - 1]
)
def test_a_key_of_x25519_is_written_in_one_way(number: int) -> None:
    """Two ways to write one key would be two keys to whoever compares them."""
    with pytest.raises(Refused, match="not written in the one canonical way"):
        check_public_key(Suite.X25519, number.to_bytes(32, "little"))


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point[:2].hex())
def test_a_point_of_low_order_is_refused(point: bytes) -> None:
    """With it the coordinator would know the secret whatever the other key is (RFC 7748, section 6.1)."""
    with pytest.raises(Refused, match="low order"):
        agree_mask(Suite.X25519, ONE, point, LABEL)


@pytest.mark.parametrize(
    "point", [b"\x02" + b"\xff" * 32, b"\x05" + bytes(32), bytes(33)], ids=lambda p: p[:2].hex()
)
def test_a_point_that_is_not_on_the_curve_is_refused(point: bytes) -> None:
    with pytest.raises(Refused, match="not a point of the curve"):
        check_public_key(Suite.P256, point)


@given(st.binary(max_size=200))
def test_what_is_sealed_is_unsealed_by_its_receiver_alone(content: bytes) -> None:
    key = agree_envelope(Suite.X25519, ONE, public_key(Suite.X25519, TWO), LABEL)
    sealed = seal(key, content, LABEL)
    assert len(sealed) == len(content) + TAG_BYTES
    assert unseal(key, sealed, LABEL) == content
    stranger = agree_envelope(Suite.X25519, KeySeed(b"\x09" * 32), public_key(Suite.X25519, TWO), LABEL)
    for bad in (
        lambda: unseal(stranger, sealed, LABEL),
        lambda: unseal(key, sealed, replace(LABEL, parties=(WEST, EAST))),
        lambda: unseal(key, sealed[:-1] + bytes([sealed[-1] ^ 1]), LABEL),
    ):
        with pytest.raises(Refused, match="the envelope from"):
            bad()


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(TAG_BYTES)])
def test_what_is_no_envelope_is_refused(sealed: bytes) -> None:
    key = agree_envelope(Suite.X25519, ONE, public_key(Suite.X25519, TWO), LABEL)
    with pytest.raises(Refused, match="was not sealed by its sender"):
        unseal(key, sealed, LABEL)
