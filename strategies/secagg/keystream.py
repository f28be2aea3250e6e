"""Keystreams: a 32-byte secret expanded to uniform words, as many at a time as stay in the cache.

1. AES-256 in counter mode (NIST SP 800-38A) with the secret as key, read as little-endian words.
2. The counter of lane n begins at n x 2^64: no two lanes of a secret ever share a block of the cipher.
3. A secret is expanded for one purpose only, which is why its counter may begin at zero; keys say so by the labels they are derived with.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strategies.secagg.secrets import Secret

BLOCK_BYTES: Final = (
    1 << 17
)  # stays in the cache, so that what is done with the words costs little more than the cipher
MOST_LANES: Final = 1 << 64

_CIPHER_BLOCK_BYTES: Final = 16
_ZEROS: Final = bytes(BLOCK_BYTES)


class Keystream:
    """Lane `lane`, from 0 to 2^64 - 1, of the keystream of `seed`, read once from its beginning as words of dtype `word`."""

    __slots__ = ("_buffer", "_cipher", "_words", "most")

    def __init__(self, seed: Secret, word: np.dtype[Any], lane: int = 0) -> None:
        counter = (lane * MOST_LANES).to_bytes(_CIPHER_BLOCK_BYTES, "big")
        self._cipher = Cipher(algorithms.AES256(seed.reveal()), modes.CTR(counter)).encryptor()
        self._buffer = bytearray(BLOCK_BYTES + _CIPHER_BLOCK_BYTES - 1)
        self.most: Final = BLOCK_BYTES // word.itemsize
        """How many words one `take` may ask for."""
        self._words = np.frombuffer(self._buffer, dtype=word, count=self.most)

    def take(self, count: int) -> npt.NDArray[Any]:
        """The next (count,) words, at most `most`. They lie in a buffer that the next call, or `wipe`, overwrites."""
        self._cipher.update_into(_ZEROS[: count * self._words.itemsize], self._buffer)
        return self._words[:count]

    def wipe(self) -> None:
        """Overwrite the words that were taken last."""
        self._words[:] = 0
