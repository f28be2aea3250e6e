"""Poisson samples: each unit's own word of the keystream decides, with a probability that is never above the rate."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strategies.dp import poisson
from strategies.dp.poisson import sampled
from strategies.errors import UsageError
from strategies.secagg.secrets import MaskSeed


def _seed(number: int) -> MaskSeed:
    return MaskSeed(hashlib.sha256(str(number).encode()).digest())


def _words(seed: MaskSeed, size: int) -> list[int]:
    """The keystream by the library alone, as Python's integers."""
    cipher = Cipher(algorithms.AES256(seed.reveal()), modes.CTR(bytes(16))).encryptor()
    stream = cipher.update(bytes(8 * size))
    return [int.from_bytes(stream[place : place + 8], "little") for place in range(0, 8 * size, 8)]


@pytest.mark.parametrize("rate", [2.0**-64, 1e-5, 0.01, 1 / 3, 0.5, 0.999, math.nextafter(1.0, 0.0)])
def test_a_unit_is_taken_if_its_word_is_below_the_rate(rate: float) -> None:
    numerator, denominator = rate.as_integer_ratio()
    limit = numerator * 2**64 // denominator
    taken = sampled(rate, 20_000, _seed(1))
    assert taken.dtype == np.bool_
    assert taken.tolist() == [word < limit for word in _words(_seed(1), 20_000)]


def test_a_word_at_the_limit_is_not_taken() -> None:
    """A rate of word / 2^64 takes the words below it: word of them, of 2^64."""
    words = np.array(_words(_seed(2), 4000), dtype=np.uint64)
    # A word with no more than 53 significant bits is a rate that float64 holds.
    exact = next(int(word) for word in words if int(word) == int(float(word)) and int(word) < 2**64 - 2**11)
    place = words.tolist().index(exact)
    assert not sampled(exact / 2**64, 4000, _seed(2))[place]
    assert sampled(math.nextafter(exact / 2**64, 1.0), 4000, _seed(2))[place]


def test_a_rate_of_one_takes_everyone_and_one_below_the_words_nobody() -> None:
    assert sampled(1.0, 1000, _seed(3)).all()
    assert not sampled(2.0**-65, 1000, _seed(3)).any()


def test_the_limit_is_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least word, 0, is below the limit of 2^-64 and not below that of any smaller rate."""
    monkeypatch.setattr(poisson, "add_mask", lambda ring, words, seed: None)
    assert sampled(2.0**-64, 3, _seed(0)).all()
    assert not sampled(math.nextafter(2.0**-64, 0.0), 3, _seed(0)).any()


def test_the_share_taken_is_near_the_rate() -> None:
    """Five standard deviations, for fixed seeds."""
    for number, rate in enumerate([0.01, 0.3, 0.9]):
        taken = sampled(rate, 100_000, _seed(number)).mean()
        assert abs(taken - rate) < 5 * math.sqrt(rate * (1 - rate) / 100_000)


def test_samples_of_two_seeds_are_independent_and_of_one_the_same() -> None:
    first, second = (sampled(0.5, 100_000, _seed(number)) for number in (4, 5))
    assert abs((first & second).mean() - 0.25) < 0.01
    assert (first == sampled(0.5, 100_000, _seed(4))).all()


def test_a_unit_is_taken_whatever_units_come_after_it() -> None:
    assert (sampled(0.4, 1000, _seed(6))[:300] == sampled(0.4, 300, _seed(6))).all()
    assert sampled(0.4, 0, _seed(6)).shape == (0,)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0000001, math.nan, math.inf])
def test_a_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="sampling rate"):
        sampled(rate, 10, _seed(0))
