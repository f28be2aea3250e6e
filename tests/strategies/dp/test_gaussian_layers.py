"""The layers keep the four rules from which the sampler's law follows, against mpmath at 200 bits; comparisons are exact to any bit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from decimal import Context

import mpmath
import numpy as np
import pytest

from strategies.dp import gaussian_layers
from strategies.dp.gaussian_layers import CHOICES, LAYERS, Layers, layers_for
from strategies.dp.noise import _uneven

mp = mpmath.mp.clone()
mp.prec = 200

ODD = [random.Random(7).uniform(0.25, 2.0) * 4.0**power for power in range(40)]
EVEN = [0.25, 0.3, 1.0, 2.5, 4.0, 100.0, 3000.0**2, 50_000.0**2, 1e12, 2.0**80]
BORDERS = [(2.0**20 / 14) ** 2, (2.0**20 / 14) ** 2 * 1.00001, 2.0**33, 2.0**34]
"""Around the variance at which cells begin to be wider than one integer."""
VARIANCES = EVEN + ODD + BORDERS


def curve(layers: Layers, x: int) -> mpmath.mpf:
    """Y rho(x)."""
    return layers.peak * mp.exp(-(mp.mpf(x) ** 2) / (2 * mp.mpf(layers.variance)))


def cells_of(layers: Layers, layer: int) -> int:
    """On one side of zero, zero's included."""
    return (int(layers.widths[layer]) + 1) // 2


def first_outside(layers: Layers, cells: int) -> int:
    """The least |x| that no cell z, |z| < cells, holds: by the definition of a cell."""
    if layers.shift == 0:
        return cells
    half = 1 << (layers.shift - 1)
    return min(cells * 2**layers.shift - half, (cells - 1) * 2**layers.shift + half + 1)


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_integer_has_the_same_mass_per_height_in_every_layer_and_no_height_is_left_out(
    variance: float,
) -> None:
    """Rules 1 and 2. The sums are taken anew, in Python's integers."""
    layers = layers_for(variance)
    assert [int(k) for k in layers.heights] == [CHOICES // int(a) for a in layers.widths]
    tops = list(itertools.accumulate(int(k) for k in layers.heights))
    assert [int(y) for y in layers.bottoms] == [0, *tops[:-1]]
    assert len(tops) == LAYERS
    assert tops[-1] >= layers.peak > 0


@pytest.mark.parametrize("variance", VARIANCES)
def test_what_lies_outside_a_layer_lies_below_it(variance: float) -> None:
    """Rule 3, and that few layers are wider than they need to be: for one cell of one integer less it would not hold."""
    layers = layers_for(variance)
    tight = 0
    for layer in range(1, LAYERS):
        cells, bottom = cells_of(layers, layer), int(layers.bottoms[layer])
        assert curve(layers, first_outside(layers, cells)) <= bottom
        tight += cells == 1 or curve(layers, first_outside(layers, cells - 1)) > bottom
    assert tight >= LAYERS - 6


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_widest_layer_holds_14_standard_deviations(variance: float) -> None:
    """Rule 4."""
    layers = layers_for(variance)
    assert layers.reach == first_outside(layers, cells_of(layers, 0))
    assert layers.reach >= 14 * mp.sqrt(variance) * (1 - mp.mpf(2) ** -50)


@pytest.mark.parametrize("variance", VARIANCES)
def test_what_is_kept_without_a_comparison_lies_below_the_curve(variance: float) -> None:
    layers, spared = layers_for(variance), 0
    for width, bottom, height, bound in zip(
        layers.widths.tolist(), layers.bottoms.tolist(), layers.heights.tolist(), layers.certain.tolist(),
        strict=True,
    ):  # fmt: skip
        if not bound:
            continue
        cell = max(-lowest_cell(bound), highest_cell(bound))
        farthest = cell * 2**layers.shift + layers.half_cell
        assert curve(layers, farthest) >= bottom + height
        spared += min(width, 2 * cell + 1) * height
    assert spared / (LAYERS * CHOICES) > 0.9


def lowest_cell(bound: int) -> int:
    """The least cell of a point a c with |a c| < bound."""
    return (-(bound - 1) + CHOICES // 2) >> 32


def highest_cell(bound: int) -> int:
    return (bound - 1 + CHOICES // 2) >> 32


@pytest.mark.parametrize("variance", VARIANCES)
def test_no_more_than_three_in_a_hundred_points_are_lost(variance: float) -> None:
    layers = layers_for(variance)
    deviation = mp.sqrt(variance)
    span = int(min(20 * deviation, 2000)) + 1
    mass = mp.nsum(lambda x: mp.exp(-(x**2) / (2 * mp.mpf(variance))), [-span, span]) if variance < 1e4 else 0
    mass = mass or mp.sqrt(2 * mp.pi) * deviation
    exact = layers.peak * mass / (LAYERS * CHOICES * 2**layers.shift)
    assert exact == pytest.approx(layers.acceptance, rel=0.02 if variance < 0.5 else 1e-6)
    assert 0.97 < exact < 1


@pytest.mark.parametrize("width", [1, 3, 5, 7, 13, 255, 1021, 2**21 - 1])
def test_each_cell_of_a_layer_has_equally_many_choices(width: int) -> None:
    """All cells of small widths, and the outermost and middle ones of the widest: first and last choice, and their neighbours."""
    half, height = width // 2, CHOICES // width
    cells = [z for z in range(-half, half + 1) if half - abs(z) < 300 or abs(z) < 300]
    for z in cells:
        chosen = -(-(z * CHOICES + CHOICES % width - CHOICES // 2) // width)
        even = [c for c in (chosen - 1, chosen, chosen + height - 1, chosen + height) if counts(width, c, z)]
        assert even == [chosen, chosen + height - 1][: min(2, height)]


def counts(width: int, choice: int, cell: int) -> bool:
    """Whether this of 2^32 choices is one of the cell's, and not to be drawn again."""
    point = width * choice + CHOICES // 2
    uneven = bool(_uneven(np.array([point]), np.array([width]))[0])
    return -(2**31) <= choice < 2**31 and point >> 32 == cell and not uneven


# --- the exact comparison ---------------------------------------------------------------------------------------------


class Words:
    """Words from a list; it is an error to ask for more."""

    def __init__(self, *words: int) -> None:
        self.left = list(words)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return self.left.pop(0)


def crossings(layers: Layers) -> list[tuple[int, int, mpmath.mpf]]:
    """A few layers and integers, with the U at which y + k U reaches the curve, in 600 bits."""
    precise = mpmath.mp.clone()
    precise.prec = 600
    found = []
    for layer in range(LAYERS):
        bottom, height = int(layers.bottoms[layer]), int(layers.heights[layer])
        edge = cells_of(layers, layer) << layers.shift
        for x in (edge - 1, -(edge * 9) // 10, edge // 2):
            value = layers.peak * precise.exp(-(precise.mpf(x) ** 2) / (2 * precise.mpf(layers.variance)))
            if x and 0.01 < (value - bottom) / height < 0.99:
                found.append((layer, x, (value - bottom) / height))
    return found[:: 1 + len(found) // 8]


@pytest.mark.parametrize("variance", [0.3, 2.5, 3000.0**2, 1e12, 2.0**80])
def test_a_comparison_asks_for_bits_until_they_tell(variance: float) -> None:
    """U agrees with the curve in its first 53, 117 and 181 bits; the next word decides, above or below."""
    layers, tried = layers_for(variance), 0
    for layer, x, share in crossings(layers):
        tried += 1
        draw = int(share * 2**53)
        words = [int(share * 2 ** (53 + 64 * n)) % 2**64 for n in (1, 2, 3)]
        for agreeing in range(3):
            same, last = words[:agreeing], words[agreeing]
            for decides, below in ((last - 1, True), (last + 1, False)):
                more = Words(*same, decides)
                assert layers.holds(layer, x, draw, 53, more) is below
                assert not more.left
        assert layers.holds(layer, x, draw - 1, 53, Words())
        assert not layers.holds(layer, x, draw + 1, 53, Words())
    assert tried >= 2


@pytest.mark.parametrize("variance", [0.3, 2.5, 3000.0**2, 1e12, 2.0**80])
def test_with_too_few_digits_a_comparison_asks_for_more_rather_than_guess(
    variance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rho(x) it is given 45 digits less than it wants: fewer than the 53 bits of U have."""
    monkeypatch.setattr(gaussian_layers, "Context", lambda prec: Context(prec=prec - 45))
    layers = layers_for(variance)
    for layer, x, share in crossings(layers):
        draw = int(share * 2**53)
        for far in (0, -1, 1):
            more = Words(int(share * 2**117) % 2**64 + far * 2**40, *[1 << 63] * 9)
            assert layers.holds(layer, x, draw, 53, more) is (
                far < 0 or (not far and share * 2**117 % 1 > 0.5)
            )
            assert (len(more.left) < 9) is (far == 0)


def test_a_comparison_without_any_known_bit_keeps_as_many_as_the_curve_says() -> None:
    layers, source = layers_for(100.0), random.Random(1)
    words = iter(lambda: source.getrandbits(64), None)
    layer, x, share = crossings(layers)[0]
    kept = sum(layers.holds(layer, x, 0, 0, words) for _ in range(4000))
    assert abs(kept - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5


def test_at_the_peak_the_curve_is_the_peak() -> None:
    """rho(0) = 1 has no rounding to hide in: the last layer is cut at Y itself."""
    layers = layers_for(4.0)
    layer = next(i for i in range(LAYERS) if layers.bottoms[i] + layers.heights[i] > layers.peak)
    share = (layers.peak - int(layers.bottoms[layer])) / int(layers.heights[layer])
    draw = int(share * 2**40)
    assert layers.holds(layer, 0, draw - 2, 40, Words())
    assert not layers.holds(layer, 0, draw + 1, 40, Words())


def test_layers_are_kept_and_cannot_be_written() -> None:
    layers = layers_for(9.0)
    assert layers_for(9.0) is layers
    for array in (layers.widths, layers.bottoms, layers.heights, layers.certain):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
