"""Masks are uniform, and a seed cannot be found by trying all of 32 bits: that attack is shown on stock Flower's masks, and to fail on these.

Stock SecAgg+ folds a seed of any length into 32 bits, the exclusive or of its words, and expands the mask from those. Whoever guesses a few coordinates of an update (zeros of a frozen layer,
say) tries 2^32 seeds. To be quick the test searches a window of them; nothing but its width sets it apart from the whole.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed

WINDOW = range(0x5EED_0800, 0x5EED_0C00)
PLANTED = 0x5EED_0ABC
RING = Ring(24)


def long_seed() -> bytes:
    """32 bytes whose words fold to `PLANTED`."""
    rest = hashlib.sha256(b"the rest of a long seed").digest()[:28]
    folded = PLANTED
    for first in range(0, 28, 4):
        folded ^= int.from_bytes(rest[first : first + 4], "little")
    return rest + folded.to_bytes(4, "little")


LONG_SEED = long_seed()
KNOWN = 8
"""Coordinates that the attacker knows to be zero: 8 x 24 bits tell seeds apart."""


def stock_mask(seed: bytes, size: int) -> npt.NDArray[np.int64]:
    (mask,) = pseudo_rand_gen(seed, RING.modulus, [(size,)])
    return np.asarray(mask, dtype=np.int64)


def our_mask(seed: bytes, size: int) -> npt.NDArray[np.int64]:
    vector = RING.zeros(size)
    add_mask(RING, vector, MaskSeed(seed))
    return RING.reduce(vector).astype(np.int64)


def searched(masked: npt.NDArray[np.int64], mask: object) -> list[int]:
    """The seeds of the window under which the known coordinates come out as zeros."""
    assert callable(mask)
    return [
        seed for seed in WINDOW if np.array_equal(mask(seed.to_bytes(4, "little"), KNOWN), masked[:KNOWN])
    ]


def test_the_32_bit_attack_strips_a_stock_mask() -> None:
    vector = np.concatenate((np.zeros(KNOWN, dtype=np.int64), np.arange(100, 110)))
    masked = (vector + stock_mask(LONG_SEED, len(vector))) % RING.modulus
    (found,) = searched(masked, stock_mask)
    assert found == PLANTED
    shown = (masked - stock_mask(found.to_bytes(4, "little"), len(vector))) % RING.modulus
    assert np.array_equal(shown, vector)


def test_the_32_bit_attack_finds_nothing_of_ours() -> None:
    vector = np.concatenate((np.zeros(KNOWN, dtype=np.int64), np.arange(100, 110)))
    masked = (vector + our_mask(LONG_SEED, len(vector))) % RING.modulus
    assert searched(masked, lambda short, size: our_mask(short + bytes(28), size)) == []
    assert searched(masked, stock_mask) == []


def test_every_bit_of_a_seed_counts() -> None:
    seed = hashlib.sha256(b"seed").digest()
    masks = {our_mask(seed, 4).tobytes()}
    for bit in range(256):
        changed = bytearray(seed)
        changed[bit // 8] ^= 1 << bit % 8
        masks.add(our_mask(bytes(changed), 4).tobytes())
    assert len(masks) == 257


def chi_square(octets: npt.NDArray[np.uint8]) -> float:
    """Pearson's statistic of 256 values against uniform, in standard deviations from its mean: 255 with variance 510."""
    counts = np.bincount(octets, minlength=256)
    expected = len(octets) / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(510))


LIMIT = 5.0
"""Standard deviations: a uniform sample goes beyond with probability below 1e-5, and these samples are fixed."""


@pytest.mark.parametrize("content", ["zeros", "one value", "a ramp"])
@pytest.mark.parametrize("bits", [24, 25, 32])
def test_a_masked_vector_is_uniform(content: str, bits: int) -> None:
    ring, size = Ring(bits), 1 << 17
    vector = {
        "zeros": ring.zeros(size),
        "one value": ring.encode(np.full(size, 77)),
        "a ramp": ring.encode(np.arange(size)),
    }[content].copy()
    add_mask(ring, vector, MaskSeed(hashlib.sha256(f"{content} {bits}".encode()).digest()))
    words = ring.reduce(vector).astype(np.uint64)
    for shift in range(0, bits - 7, 8):
        assert abs(chi_square((words >> np.uint64(shift)).astype(np.uint8))) < LIMIT
    highest = int((words >> np.uint64(bits - 1)).sum())
    assert abs(highest - size / 2) < LIMIT * np.sqrt(size / 4)
    assert abs(np.corrcoef(words[:-1].astype(float), words[1:].astype(float))[0, 1]) < LIMIT / np.sqrt(size)


def test_the_statistic_sees_what_is_not_uniform() -> None:
    """The control: no mask, and a mask that lacks its highest bit."""
    size = 1 << 17
    plain = (RING.encode(np.arange(size) % 1000) >> 8).astype(np.uint8)
    assert chi_square(plain) > 1000
    vector = RING.zeros(size)
    add_mask(RING, vector, MaskSeed(hashlib.sha256(b"biased").digest()))
    short = RING.reduce(vector) >> 1
    assert chi_square((short >> 16).astype(np.uint8)) > 1000
