"""Which rows are held out for evaluation: a public function of the record key.

Every site draws the line by the same hash, so the training part and the held-out part are disjoint everywhere, for every
run with the same salt, without a byte of coordination.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.errors import UsageError

_SEPARATOR: Final = "\x1f"
_HASH_RANGE: Final = 2**64


def held_out(keys: Sequence[str], salt: str, share: float) -> npt.NDArray[np.bool_]:
    """Tell which of the n `keys` are held out, as (n,) bool; about `share` (in [0, 1]) of distinct keys are.

    A key is held out iff the first 8 bytes of SHA-256(salt, 0x1f, key) in UTF-8, read as a big-endian integer, are
    below share x 2^64. Raises UsageError for a share outside [0, 1] or a salt that contains the separator.
    """
    if not 0.0 <= share <= 1.0:  # phrased so that NaN is refused
        raise UsageError(f"the held-out share is {share}; use a number from 0 to 1")
    if _SEPARATOR in salt:
        raise UsageError(
            "the hold-out salt contains the control character 0x1f, which separates it from the key"
        )
    # Scaling by 2^64 is exact and Python compares int with float exactly, so no key sits on a rounding edge.
    limit = share * _HASH_RANGE
    prefix = hashlib.sha256(f"{salt}{_SEPARATOR}".encode())
    return np.fromiter(
        (_position(prefix.copy(), key) < limit for key in keys), dtype=np.bool_, count=len(keys)
    )


def _position(hasher: "hashlib._Hash", key: str) -> int:
    """Place `key` in [0, 2^64)."""
    hasher.update(str(key).encode())
    return int.from_bytes(hasher.digest()[:8], "big")
