"""What a site sends is uniform: along one masked vector, and at each coordinate from one attempt to the next.

Limits are in standard deviations of what uniform numbers would give, and all samples are fixed.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from strategies.secagg import client as site_side
from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from tests.strategies.secagg.attacks_for_tests import VICTIM, Guard, off
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation

LIMIT = 5.0
"""Standard deviations: a uniform sample goes beyond with probability below 1e-5."""

SIZE = 1 << 17


def chi_square(octets: npt.NDArray[np.uint8]) -> float:
    """Pearson's statistic of 256 values against uniform, in standard deviations from its mean: 255 with variance 510."""
    counts = np.bincount(octets.ravel(), minlength=256)
    expected = octets.size / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(510))


# Along one vector.


def masked(content: str, ring: Ring) -> npt.NDArray[np.uint64]:
    """One vector under one mask."""
    vector = {
        "zeros": ring.zeros(SIZE),
        "one value": ring.encode(np.full(SIZE, 77)),
        "a ramp": ring.encode(np.arange(SIZE)),
    }[content].copy()
    add_mask(ring, vector, MaskSeed(hashlib.sha256(f"{content} {ring.bits}".encode()).digest()))
    return ring.reduce(vector).astype(np.uint64)


@pytest.mark.parametrize("content", ["zeros", "one value", "a ramp"])
@pytest.mark.parametrize("bits", [20, 24, 25, 32, 41, 62])
def test_a_masked_vector_is_uniform(content: str, bits: int) -> None:
    words = masked(content, Ring(bits))
    for shift in {*range(0, bits - 7, 8), bits - 8}:
        assert abs(chi_square((words >> np.uint64(shift)).astype(np.uint8))) < LIMIT
    highest = int((words >> np.uint64(bits - 1)).sum())
    assert abs(highest - SIZE / 2) < LIMIT * np.sqrt(SIZE / 4)
    for lag in (1, 2, 4):
        assert abs(
            np.corrcoef(words[:-lag].astype(float), words[lag:].astype(float))[0, 1]
        ) < LIMIT / np.sqrt(SIZE)


def test_the_statistic_sees_what_is_not_uniform() -> None:
    """The control: no mask, and a mask that lacks its highest bit."""
    plain = (RING.encode(np.arange(SIZE) % 1000) >> 8).astype(np.uint8)
    assert chi_square(plain) > 1000
    short = masked("zeros", RING) >> np.uint64(1)
    assert chi_square((short >> np.uint64(16)).astype(np.uint8)) > 1000


# From one attempt to the next.

ATTEMPTS, DIMENSION = 120, 64


def uploads(seeds: range) -> npt.NDArray[np.uint8]:
    """What a site sends of one and the same vector in attempts with these seeds, (attempts, 3 x coordinates)."""
    sent = []
    for seed in seeds:
        federation = Federation(seed=seed)
        step = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION)
        item = federation.masked_input(step, VICTIM, np.full(DIMENSION, 77))
        sent.append(np.frombuffer(item.packed, dtype=np.uint8))
    return np.asarray(sent)


def repeats(sent: npt.NDArray[np.uint8]) -> float:
    """How many bytes equal the one at their place in the attempt before, in standard deviations from one in 256."""
    equal, count = int((sent[1:] == sent[:-1]).sum()), sent[1:].size
    return float((equal - count / 256) / np.sqrt(count * 255 / 256**2))


def test_a_masked_vector_is_uniform_from_one_attempt_to_the_next() -> None:
    sent = uploads(range(ATTEMPTS))
    assert abs(chi_square(sent)) < LIMIT
    assert abs(repeats(sent)) < LIMIT
    ones = np.unpackbits(sent, axis=1).sum(axis=0)  # of each bit of an upload, over the attempts
    assert (
        np.abs(ones - ATTEMPTS / 2) < 5.5 * np.sqrt(ATTEMPTS / 4)
    ).all()  # 1,536 bits: all within 5.5, but for 6e-5


def test_the_statistic_sees_masks_that_are_used_again() -> None:
    """The control: the same seed for all attempts. Each upload looks well by itself, and they are all one."""
    sent = np.repeat(uploads(range(1)), ATTEMPTS, axis=0)
    assert abs(chi_square(sent[:1])) < LIMIT
    assert repeats(sent) > 1000


def test_the_statistic_sees_uploads_without_masks(monkeypatch: Guard) -> None:
    off(monkeypatch, site_side, "add_mask")
    assert chi_square(uploads(range(2))) > 100
