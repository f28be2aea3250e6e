"""Rings, packing, masks and secrets: sums are exact, masks cancel, nothing malformed is read. That masks are uniform: test_masks_are_uniform."""

from __future__ import annotations

import copy
import math
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.errors import Refused, UsageError
from strategies.secagg.masks import DRAW_BITS, add_mask, uniform_draws
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import EnvelopeKey, MaskSeed

SEED = MaskSeed(bytes(range(32)))
bits = st.integers(2, 64)


def integers(ring: Ring, count: int, seed: int = 0) -> np.ndarray:
    half = ring.modulus // 2
    return np.array([random.Random(seed + i).randrange(-half, half) for i in range(count)], dtype=np.int64)


@given(bits, st.integers(0, 200), st.integers(0, 10**6))
def test_what_is_packed_is_read_again_in_exactly_so_many_bits(b: int, count: int, seed: int) -> None:
    ring, values = Ring(b), integers(Ring(b), count, seed)
    data = ring.pack(ring.encode(values))
    assert len(data) == math.ceil(count * b / 8)
    assert (ring.decode(ring.unpack(data, count)) == values).all()


@pytest.mark.parametrize("b", [2, 7, 20, 24, 25, 32, 33, 63, 64])
def test_packing_holds_over_many_blocks(b: int) -> None:
    ring = Ring(b)
    words = ring.reduce(
        np.random.default_rng(b).integers(0, 2**63, 100_001).astype(np.uint64).astype(ring.word)
    )
    assert (ring.unpack(ring.pack(words.copy()), len(words)) == words).all()


def test_packed_bits_are_little_endian() -> None:
    """By hand: 1, 2, 3 in five bits each are 00001 00010 00011, the first in the lowest bits."""
    assert Ring(5).pack(Ring(5).encode(np.array([1, 2, 3]))) == (1 | 2 << 5 | 3 << 10).to_bytes(2, "little")
    assert Ring(24).pack(Ring(24).encode(np.array([-1, 1]))) == b"\xff\xff\xff\x01\x00\x00"


@pytest.mark.parametrize(("data", "count"), [(b"\x00", 2), (b"\x00\x00\x00", 3), (b"", 1)])
def test_another_length_is_refused(data: bytes, count: int) -> None:
    with pytest.raises(Refused, match=r"takes \d bytes in this ring"):
        Ring(5).unpack(data, count)


def test_padding_that_says_something_is_refused() -> None:
    """Else one vector would have many encodings, and a signature over one would not be over the others."""
    with pytest.raises(Refused, match="padding"):
        Ring(5).unpack(b"\x01\x80", 3)


@given(bits, st.integers(1, 12), st.integers(1, 40), st.integers(0, 10**6))
def test_the_sum_in_the_ring_is_the_sum_modulo_two_to_the_b(
    b: int, parties: int, count: int, seed: int
) -> None:
    ring = Ring(b)
    vectors = [integers(ring, count, seed + 1000 * party) for party in range(parties)]
    total = ring.zeros(count)
    for vector in vectors:
        total += ring.encode(vector)
    expected = [sum(int(v[i]) for v in vectors) % ring.modulus for i in range(count)]
    assert [int(word) for word in ring.reduce(total)] == expected


@given(bits, st.integers(0, 70_000))
@settings(max_examples=30, deadline=None)
def test_a_mask_added_and_subtracted_leaves_nothing(b: int, count: int) -> None:
    ring, words = Ring(b), Ring(b).zeros(count)
    words += np.arange(count).astype(ring.word)
    before = words.copy()
    add_mask(ring, words, SEED)
    add_mask(ring, words, SEED, -1)
    assert (ring.reduce(words) == ring.reduce(before)).all()


def test_a_mask_is_the_keystream_of_aes_256_in_counter_mode() -> None:
    """NIST SP 800-38A has no vector for a zero counter block; FIPS 197, appendix C.3, is one block of it in disguise."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    ecb = Cipher(algorithms.AES256(SEED.reveal()), modes.ECB()).encryptor()
    blocks = b"".join(ecb.update(counter.to_bytes(16, "big")) for counter in range(20_000))
    words = Ring(32).zeros(80_000)
    add_mask(Ring(32), words, SEED)
    assert words.tobytes() == blocks
    longer = Ring(64).zeros(40_000)
    add_mask(Ring(64), longer, SEED)
    assert longer.tobytes() == blocks


def test_other_seeds_give_unrelated_masks() -> None:
    masks = []
    for number in (1, 2):
        words = Ring(32).zeros(10_000)
        add_mask(Ring(32), words, MaskSeed(number.to_bytes(32, "big")))
        masks.append(words)
    assert (masks[0] == masks[1]).sum() <= 2


def test_a_wrapped_sum_is_wrong_and_nothing_worse() -> None:
    ring = Ring(4)
    total = ring.encode(np.array([7])) + ring.encode(np.array([7]))
    assert ring.decode(total)[0] == -2


@pytest.mark.parametrize("b", [0, 1, 65, -3])
def test_a_ring_has_2_to_64_bits(b: int) -> None:
    with pytest.raises(UsageError, match="2 to 64 bits"):
        Ring(b)


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_shows_nothing_and_goes_nowhere() -> None:
    secret = MaskSeed(b"\x42" * 32)
    assert (str(secret), repr(secret), f"{secret}") == ("<secret MaskSeed>",) * 3
    for escape in (pickle.dumps, copy.copy, copy.deepcopy, hash):
        with pytest.raises(TypeError, match="a secret"):
            escape(secret)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(UsageError) as refused:
        MaskSeed(b"short and secret")
    assert "short" not in str(refused.value)


def test_secrets_are_equal_to_their_own_kind_only() -> None:
    assert MaskSeed(b"\x01" * 32) == MaskSeed(b"\x01" * 32)
    assert MaskSeed(b"\x01" * 32) != MaskSeed(b"\x02" * 32)
    assert MaskSeed(b"\x01" * 32) != EnvelopeKey(b"\x01" * 32)
    assert MaskSeed(b"\x01" * 32) != b"\x01" * 32


def test_uniform_numbers_are_in_the_unit_interval() -> None:
    numbers = uniform_draws(SEED, 100_000) * 2.0**-DRAW_BITS
    assert 0.0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1.0
    assert numbers.mean() == pytest.approx(0.5, abs=0.005)
