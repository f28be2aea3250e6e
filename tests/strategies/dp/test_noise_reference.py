"""The sampler does what its modules say, sample by sample: a slow one, written from the words alone, draws the same from the same bits.

Errors that no feasible number of samples would show (a remainder not drawn again, a cell half its width off, a bit read twice) show here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count, islice

import mpmath
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strategies.dp.gaussian_layers import layers_for
from strategies.dp.noise import NoiseSeed, discrete_gaussian

SEED = NoiseSeed(bytes(range(32)))
SIZE = 60_000
BITS = 64
mp = mpmath.mp.clone()
mp.prec = 150  # of which a comparison of 53 bits needs not half


def words(lane: int) -> Iterator[int]:
    """A lane of the keystream, word by word."""
    cipher = Cipher(algorithms.AES256(SEED.reveal()), modes.ECB()).encryptor()
    for counter in count(lane << 64):
        block = cipher.update(counter.to_bytes(16, "big"))
        yield from (int.from_bytes(block[:8], "little"), int.from_bytes(block[8:], "little"))


def fields(word: int, shift: int) -> tuple[int, int, int]:
    """Layer, place in the cell, and choice: bits 0 to 7, from 8 on, and 32 to 63 of a word as a signed number."""
    layer, place, choice = word % 2**8, (word >> 8) % 2**24, word >> 32
    return layer, place % 2**shift, choice - 2**32 if choice >= 2**31 else choice


def is_below(variance: float, peak: int, x: int, bottom: int, height: int, draw: int) -> bool:
    """Whether y + k U is below Y rho(x), for the U that begins with the 53 bits of `draw`; they must be enough to tell."""
    exponent = -Fraction(x * x) / (2 * Fraction(variance))
    curve = peak * mp.exp(mp.mpf(exponent.numerator) / exponent.denominator)
    low, high = (bottom + height * mp.mpf(draw + end) / 2**53 for end in (0, 1))
    assert not low < curve < high
    return bool(high <= curve)


def slow_samples(variance: float) -> Iterator[int]:
    """The discrete Gaussian, one word at a time."""
    layers, comparisons = layers_for(variance), words(1)
    for word in words(0):
        layer, place, choice = fields(word, layers.shift)
        width, point = int(layers.widths[layer]), int(layers.widths[layer]) * choice + 2**31
        cell, rest = divmod(point, 2**32)
        x = cell * 2**layers.shift + place - (2**layers.shift // 2)
        if abs(width * choice) < layers.certain[layer] and rest >= layers.widths[0]:
            yield x
            continue
        draw = next(comparisons) >> (BITS - 53)
        bottom, height = int(layers.bottoms[layer]), int(layers.heights[layer])
        if rest >= 2**32 % width and is_below(variance, layers.peak, x, bottom, height, draw):
            yield x


@pytest.mark.parametrize("variance", [0.25, 2.5, 3000.0**2, (2.0**20 / 14) ** 2 * 0.99, 1e12, 2.0**80])
def test_the_slow_sampler_draws_the_same_from_the_same_bits(variance: float) -> None:
    expected = list(islice(slow_samples(variance), SIZE))
    assert discrete_gaussian(variance, SIZE, SEED).tolist() == expected
