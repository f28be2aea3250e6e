"""A seed of our masks cannot be found by trying all of 32 bits. That attack is shown on stock Flower's masks, and to fail on these.

Stock SecAgg+ folds a seed of any length into 32 bits, the exclusive or of its words, and a Mersenne Twister expands the mask from those. An
upload carries the site's own mask, whose seed the coordinator rebuilds to open the sum, and one for each neighbour; those of colluding
neighbours it knows. With one honest neighbour one mask is left, and the sum of two sites is all that the coordinator should learn. Whoever
guesses a few coordinates of an update (zeros of a frozen layer, say) tries 2^32 seeds and has each of the two. To be quick the tests search
a window of them; nothing but its width sets it apart from the whole.

Ours fails for the length of its seed and for nothing else: AES-256 takes all 256 bits as its key, and 2^224 times the work is out of reach.
With 28 of the 32 bytes known, the same search finds the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed

Numbers = npt.NDArray[np.int64]
Mask = Callable[[bytes, int], Numbers]

WINDOW = range(0x5EED_2000, 0x5EED_3000)
PLANTED = 0x5EED_2ABC
RING = Ring(24)
KNOWN = 8
"""Coordinates that the attacker knows to be zero: 8 x 24 bits tell seeds apart."""


def folded(seed: bytes) -> int:
    """What stock SecAgg+ makes of a seed."""
    words = np.frombuffer(seed, dtype="<u4")
    return int(np.bitwise_xor.reduce(words))


def seed_that_folds_to(number: int, name: str) -> bytes:
    """32 bytes that nobody guesses, and whose words fold to `number`."""
    rest = hashlib.sha256(name.encode()).digest()[:28]
    return rest + (folded(rest) ^ number).to_bytes(4, "little")


LONG_SEED = seed_that_folds_to(PLANTED, "the rest of a long seed")


def stock_mask(seed: bytes, size: int) -> Numbers:
    (mask,) = pseudo_rand_gen(seed, RING.modulus, [(size,)])
    return np.asarray(mask, dtype=np.int64)


def our_mask(seed: bytes, size: int) -> Numbers:
    vector = RING.zeros(size)
    add_mask(RING, vector, MaskSeed(seed))
    return RING.reduce(vector).astype(np.int64)


UPDATE = np.concatenate((np.zeros(KNOWN, dtype=np.int64), np.arange(100, 110)))
COLLUDING = [hashlib.sha256(name).digest() for name in (b"own", b"first colluder", b"second colluder")]
"""Seeds that the coordinator has: of the site's own mask, which it rebuilds, and of those with colluding neighbours."""


def upload(mask: Mask) -> Numbers:
    """The update under its own mask, two that colluders know, and one that it shares with an honest neighbour."""
    return (
        np.asarray(sum(mask(seed, len(UPDATE)) for seed in (*COLLUDING, LONG_SEED)) + UPDATE) % RING.modulus
    )


def left_over(mask: Mask) -> Numbers:
    """The upload without the masks whose seeds the coordinator has."""
    return np.asarray(upload(mask) - sum(mask(seed, len(UPDATE)) for seed in COLLUDING)) % RING.modulus


def searched(masked: Numbers, mask: Mask, seed_of: Callable[[int], bytes]) -> list[int]:
    """The numbers of the window under whose seed the known coordinates come out as zeros."""
    known = masked[:KNOWN]
    return [number for number in WINDOW if np.array_equal(mask(seed_of(number), KNOWN), known)]


def short(number: int) -> bytes:
    return number.to_bytes(4, "little")


def test_the_stock_generator_is_the_one_that_is_attacked() -> None:
    """A seed counts for nothing but its 32 bits, which start the Mersenne Twister."""
    assert folded(LONG_SEED) == PLANTED
    twister = np.random.RandomState(PLANTED).randint(0, RING.modulus - 1, 100, dtype=np.int64)
    assert np.array_equal(stock_mask(LONG_SEED, 100), twister)
    assert np.array_equal(stock_mask(short(PLANTED), 100), twister)


def test_the_32_bit_attack_strips_a_stock_mask() -> None:
    masked = left_over(stock_mask)
    (found,) = searched(masked, stock_mask, short)
    assert found == PLANTED
    shown = (masked - stock_mask(short(found), len(UPDATE))) % RING.modulus
    assert np.array_equal(shown, UPDATE)


@pytest.mark.parametrize(
    "seed_of",
    [
        pytest.param(lambda number: short(number) + bytes(28), id="numbers with zeros after them"),
        pytest.param(lambda number: bytes(28) + short(number), id="numbers with zeros before them"),
        pytest.param(
            lambda number: seed_that_folds_to(number, "a guess"), id="seeds that fold to the number"
        ),
        pytest.param(lambda number: hashlib.sha256(short(number)).digest(), id="hashes of the number"),
    ],
)
def test_the_32_bit_attack_finds_nothing_of_ours(seed_of: Callable[[int], bytes]) -> None:
    assert searched(left_over(our_mask), our_mask, seed_of) == []


def test_the_32_bit_attack_on_ours_needs_the_other_224_bits() -> None:
    """The control: whoever has those strips the mask as easily, so it is the seed's length that protects."""
    masked = left_over(our_mask)
    (found,) = searched(
        masked, our_mask, lambda number: seed_that_folds_to(number, "the rest of a long seed")
    )
    assert found == PLANTED
    shown = (masked - our_mask(LONG_SEED, len(UPDATE))) % RING.modulus
    assert np.array_equal(shown, UPDATE)


def test_seeds_that_stock_cannot_tell_apart_give_unrelated_masks_of_ours() -> None:
    seeds = [seed_that_folds_to(PLANTED, f"seed {number}") for number in range(100)]
    assert len({stock_mask(seed, KNOWN).tobytes() for seed in seeds}) == 1
    assert len({value for seed in seeds for value in our_mask(seed, KNOWN).tolist()}) > 795  # of 800


def test_every_bit_of_a_seed_counts() -> None:
    seed = hashlib.sha256(b"seed").digest()
    masks = {our_mask(seed, 4).tobytes()}
    for bit in range(256):
        changed = bytearray(seed)
        changed[bit // 8] ^= 1 << bit % 8
        masks.add(our_mask(bytes(changed), 4).tobytes())
    assert len(masks) == 257
