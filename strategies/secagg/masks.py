"""Masks: a seed expanded to a uniform vector of a ring, straight into the accumulator.

The keystream of AES-256 in counter mode (NIST SP 800-38A) under the seed as key, its counter from zero, read as little-endian words.
A seed is used for one mask only, which is why the counter block may begin at zero; keys say so by the labels they are derived with.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strategies.secagg.rings import Ring, RingVector
from strategies.secagg.secrets import MaskSeed

_BLOCK_BYTES: Final = 1 << 17  # stays in the cache, so that a mask costs little more than the cipher
_CIPHER_BLOCK_BYTES: Final = 16
_ZEROS: Final = bytes(_BLOCK_BYTES)

DRAW_BITS: Final = 24

Sign = Literal[1, -1]


def add_mask(ring: Ring, accumulator: RingVector, seed: MaskSeed, sign: Sign = 1) -> None:
    """Add the mask of `seed`, or subtract it, to (d,) words in place; nothing of the mask outlives the call but the sum."""
    cipher = Cipher(algorithms.AES256(seed.reveal()), modes.CTR(bytes(_CIPHER_BLOCK_BYTES))).encryptor()
    buffer = bytearray(_BLOCK_BYTES + _CIPHER_BLOCK_BYTES - 1)
    width = ring.word.itemsize
    words = np.frombuffer(buffer, dtype=ring.word, count=_BLOCK_BYTES // width)
    combine = np.add if sign == 1 else np.subtract
    for first in range(0, len(accumulator), len(words)):
        part = accumulator[first : first + len(words)]
        cipher.update_into(_ZEROS[: len(part) * width], buffer)
        combine(part, words[: len(part)], out=part)
    words[:] = 0


def uniform_draws(seed: MaskSeed, count: int) -> RingVector:
    """`count` integers uniform from 0 to 2^24 - 1, (count,) uint32: so few bits that a level of a grid plus a draw is exact in float64."""
    words = Ring(32).zeros(count)
    add_mask(Ring(32), words, seed)
    words >>= 32 - DRAW_BITS
    return words
