"""Sources of chance by name: equal names, equal numbers, whatever else was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def stream(seed: int, purpose: str, *places: int) -> np.random.Generator:
    """The source of `purpose` at `places`, such as a bank and a block. Names are length-prefixed, so no two are alike."""
    digest = hashlib.sha256()
    for part in (str(seed), purpose, *map(str, places)):
        text = part.encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    words = np.frombuffer(digest.digest(), dtype=">u4").astype(np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))


def chance(
    source: np.random.Generator, share: float | npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.bool_]:
    """(count,) true with probability `share`, one for all or one for each."""
    return np.asarray(source.random(count) < share)
