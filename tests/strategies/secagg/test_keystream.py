"""A keystream is AES-256 in counter mode; its lanes are apart, and however it is read, it is the same."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strategies.secagg.keystream import Keystream
from strategies.secagg.secrets import MaskSeed

SEED = MaskSeed(bytes(range(32)))
WORD = np.dtype("<u8")


def blocks(first: int, count: int) -> bytes:
    """The cipher's blocks for these counters, one at a time."""
    cipher = Cipher(algorithms.AES256(SEED.reveal()), modes.ECB()).encryptor()
    return b"".join(cipher.update(counter.to_bytes(16, "big")) for counter in range(first, first + count))


@pytest.mark.parametrize("lane", [0, 1, 2, 1000, 2**64 - 1])
def test_a_lane_is_aes_from_its_own_counter_on(lane: int) -> None:
    assert Keystream(SEED, WORD, lane).take(100).tobytes() == blocks(lane << 64, 50)


@pytest.mark.parametrize("lane", [-1, 2**64])
def test_there_is_no_lane_beyond_the_counter(lane: int) -> None:
    with pytest.raises(OverflowError):
        Keystream(SEED, WORD, lane)


def test_words_follow_one_another_however_many_are_taken() -> None:
    stream = Keystream(SEED, WORD)
    taken = b"".join(stream.take(count).tobytes() for count in (1, 3, 0, 1000, stream.most, 7))
    assert taken == blocks(0, len(taken) // 16 + 1)[: len(taken)]


def test_nothing_is_left_once_wiped() -> None:
    stream = Keystream(SEED, WORD)
    words = stream.take(stream.most)
    assert words.any()
    stream.wipe()
    assert not words.any()
