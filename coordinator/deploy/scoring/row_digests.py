"""Keyed digests of applications and ids: AES-256-CMAC (NIST SP 800-38B), 128 bits, for all rows of a batch at once.

1. A message is blocks of 16 bytes: how many numbers and words a row has, as two 64-bit numbers; the numbers as float64, zeros up to a whole block;
   of each word the HMAC-SHA256 (FIPS 198-1), cut to 16 bytes. Everything is little-endian, -0.0 is 0.0, and all NaNs are one.
2. So every row of a batch has as many blocks, and one call of the cipher takes the same block of all rows: a batch costs a seventh of as many
   digests made one by one, and each is the CMAC that any library computes of that row.
3. Rows, words and ids have keys of their own, which HMAC-SHA256 derives from the site's.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from coordinator.deploy.scoring.words import Words

BLOCK: Final = 16
_HEX: Final = 2 * BLOCK
_PER_BLOCK: Final = 2
"""Numbers of 64 bits."""
_REDUCTION: Final = 0x87
_WORDS_KEPT: Final = 4096
"""Words whose digests are kept: those of vocabularies come again and again."""


class RowDigests:
    """Digests under one secret. Any thread may ask."""

    def __init__(self, secret: bytes) -> None:
        """`secret` has 32 bytes."""
        rows, words, self._ids = (hmac.digest(secret, use, "sha256") for use in (b"rows", b"words", b"ids"))
        self._cipher = Cipher(algorithms.AES(rows), modes.ECB())  # noqa: S305  (the block cipher that CMAC is made of)
        self._last = np.frombuffer(_subkey(self._cipher.encryptor()), dtype="<u8")
        self._word: Callable[[str], bytes] = lru_cache(_WORDS_KEPT)(
            lambda word: hmac.digest(words, word.encode(), "sha256")[:BLOCK]
        )

    def of_text(self, text: str) -> str:
        """The digest of an id, in hexadecimal."""
        return hmac.digest(self._ids, text.encode(), "sha256")[:BLOCK].hex()

    def of_rows(self, numbers: npt.NDArray[np.float64], words: Sequence[Words]) -> list[str]:
        """The digest of each of N rows, in hexadecimal, of `numbers` (k, N) and for each text input N words."""
        blocks = self.blocks(numbers, words)
        rows = blocks.shape[1]
        blocks[-1] ^= self._last
        encrypt = self._cipher.encryptor().update_into
        state = bytearray(BLOCK * (rows + 1))  # one more, as `update_into` wants
        chained = np.frombuffer(state, dtype="<u8", count=_PER_BLOCK * rows).reshape(rows, _PER_BLOCK)
        for block in blocks:
            np.bitwise_xor(block, chained, out=block)
            encrypt(block.view(np.uint8).ravel(), state)
        told = state[: BLOCK * rows].hex()
        return [told[at : at + _HEX] for at in range(0, len(told), _HEX)]

    def blocks(self, numbers: npt.NDArray[np.float64], words: Sequence[Words]) -> npt.NDArray[np.uint64]:
        """The messages, (blocks, N, 2) uint64, block by block."""
        count, rows = numbers.shape
        whole = -(-count // _PER_BLOCK)
        blocks = np.zeros((1 + whole + len(words), rows, _PER_BLOCK), dtype="<u8")
        blocks[0] = count, len(words)
        plain = numbers + 0.0  # -0.0 is the number 0.0
        plain[np.isnan(plain)] = np.nan
        bits = plain.astype("<f8", copy=False).view("<u8")
        blocks[1 : 1 + whole, :, 0] = bits[0::_PER_BLOCK]
        blocks[1 : 1 + count // _PER_BLOCK, :, 1] = bits[1::_PER_BLOCK]
        for place, column in enumerate(words, 1 + whole):
            table = np.frombuffer(b"".join(map(self._word, column.table)), dtype="<u8")
            blocks[place] = table.reshape(-1, _PER_BLOCK)[column.places]
        return blocks


def _subkey(encryptor: CipherContext) -> bytes:
    """K1 of SP 800-38B: the zero block's cipher, doubled in GF(2^128). Every message here ends with a whole block."""
    doubled = int.from_bytes(encryptor.update(bytes(BLOCK)), "big") << 1
    reduced = doubled ^ (1 << 8 * BLOCK | _REDUCTION) if doubled >> 8 * BLOCK else doubled
    return reduced.to_bytes(BLOCK, "big")
