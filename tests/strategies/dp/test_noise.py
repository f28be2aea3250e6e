"""The noise follows the discrete Gaussian: cell by cell, in its moments, bit by bit, and beside OpenDP's exact sampler.

Seeds are fixed, so nothing here is a matter of luck; 1e-4 is far above what an unlucky choice of them would give for a wrong law.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator

import mpmath
import numpy as np
import numpy.typing as npt
import opendp.prelude as opendp
import pytest
from scipy import stats

from strategies.dp import noise
from strategies.dp.gaussian_layers import Layers, layers_for
from strategies.dp.noise import NoiseSeed, discrete_gaussian, total_variation
from strategies.errors import UsageError
from strategies.secagg.keystream import Keystream
from strategies.secagg.secrets import MaskSeed

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SMALL = [0.25, 0.3, 1.0, 2.5, 4.0, 100.0]
LARGE = [3000.0**2, 50_000.0**2, 1e12, 2.0**60, 2.0**80]
UNLIKELY = 1e-4
MANY = 4_000_000


def seed(number: int) -> NoiseSeed:
    return NoiseSeed(number.to_bytes(32, "little"))


def law(variance: float) -> tuple[Integers, Floats]:
    """The integers up to 14 standard deviations, and their probabilities."""
    values = np.arange(-math.ceil(14 * math.sqrt(variance)), math.ceil(14 * math.sqrt(variance)) + 1)
    weights = np.exp(-(values.astype(np.float64) ** 2) / (2 * variance))
    return values, weights / weights.sum()


def fit(observed: Integers, expected: Floats) -> float:
    """The p-value of a chi-square test, cells of fewer than ten left out of it only after they were put together."""
    small = expected < 10
    observed = np.append(observed[~small], observed[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    return float(stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue)


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", SMALL)
def test_each_integer_is_as_frequent_as_the_law_says(variance: float) -> None:
    samples = discrete_gaussian(variance, MANY, seed(1))
    values, weights = law(variance)
    assert abs(samples).max() <= values[-1]
    assert fit(np.bincount(samples + values[-1], minlength=len(values)), MANY * weights) > UNLIKELY


@pytest.mark.parametrize("variance", LARGE)
def test_each_tenth_of_a_deviation_is_as_frequent_as_the_law_says(variance: float) -> None:
    """Against the normal law up to half an integer, from which the discrete one differs by less than 1e-8 of a cell's mass here."""
    deviation = math.sqrt(variance)
    borders = np.round(np.linspace(-4.8, 4.8, 97) * deviation).astype(np.int64)
    samples = discrete_gaussian(variance, MANY, seed(2))
    observed = np.bincount(np.searchsorted(borders, samples, side="right"), minlength=98)
    below = stats.norm.cdf((borders - 0.5) / deviation)
    expected = MANY * np.diff(below, prepend=0.0, append=1.0)
    assert fit(observed, expected) > UNLIKELY


def test_integers_near_the_centre_are_equally_frequent_where_cells_are_single_integers() -> None:
    """At 3000 squared a single integer off by one on one side would hide in a tenth of a deviation."""
    samples = discrete_gaussian(3000.0**2, 5 * MANY, seed(3))
    values, weights = law(3000.0**2)
    near = abs(values) <= 100
    observed = np.bincount(samples[abs(samples) <= 100] + 100, minlength=201)
    assert stats.chisquare(observed, observed.sum() * weights[near] / weights[near].sum()).pvalue > UNLIKELY


@pytest.mark.parametrize("variance", LARGE)
def test_the_low_bits_are_uniform(variance: float) -> None:
    """Those of the place in a cell, of the cell, and where the two meet."""
    samples = discrete_gaussian(variance, MANY, seed(4))
    for lowest in range(0, int(math.log2(variance) / 2) - 7, 3):
        counts = np.bincount((samples >> lowest) & 0xFF, minlength=256)
        assert stats.chisquare(counts).pvalue > UNLIKELY


def moments(variance: float) -> list[float]:
    """E[X^n] over the standard deviation to the n, n = 1 to 8."""
    if variance > 1e6:
        return [0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0, 105.0]
    values, weights = law(variance)
    return [float(weights @ (values / math.sqrt(variance)) ** n) for n in range(1, 9)]


@pytest.mark.parametrize("variance", SMALL + LARGE)
def test_mean_variance_skewness_and_kurtosis_are_the_laws(variance: float) -> None:
    """Raw moments of the four orders, each within four of its standard errors."""
    scaled = discrete_gaussian(variance, MANY, seed(5)) / math.sqrt(variance)
    expected = moments(variance)
    for n in range(1, 5):
        error = math.sqrt((expected[2 * n - 1] - expected[n - 1] ** 2) / MANY)
        assert abs(float((scaled**n).mean()) - expected[n - 1]) < 4 * error


@pytest.mark.parametrize("variance", [1.0, 2.5, 3000.0**2])
def test_opendps_exact_sampler_draws_from_the_same_law(variance: float) -> None:
    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=float)
    theirs = np.array(opendp.m.make_gaussian(*space, scale=math.sqrt(variance))([0] * 20_000))
    ours = discrete_gaussian(variance, 20_000, seed(6))
    borders = np.unique(np.round(np.linspace(-3, 3, 25) * math.sqrt(variance)))
    table = [np.bincount(np.searchsorted(borders, x), minlength=len(borders) + 1) for x in (ours, theirs)]
    table = np.array(table)[:, np.sum(table, axis=0) > 0]
    assert stats.chi2_contingency(table).pvalue > UNLIKELY / 100  # theirs has no seed


# --- independence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1, 2, 3, 1000, 16_000, 16_384, 16_385])
def test_coordinates_are_independent(distance: int) -> None:
    """Pairs of neighbours, and of such as are a block of the sampler apart: how often each pair of values comes."""
    samples = np.clip(discrete_gaussian(1.0, MANY, seed(7)), -3, 3) + 3
    pairs = np.bincount(samples[:-distance] * 7 + samples[distance:], minlength=49).reshape(7, 7)
    assert stats.chi2_contingency(pairs).pvalue > UNLIKELY


@pytest.mark.parametrize("variance", [1.0, 3000.0**2, 2.0**80])
def test_sizes_and_signs_of_neighbours_are_uncorrelated(variance: float) -> None:
    samples = discrete_gaussian(variance, MANY, seed(8)) / math.sqrt(variance)
    for what in (samples, abs(samples), np.sign(samples), samples**2):
        for distance in (1, 2, 7, 8, 64):
            correlation = np.corrcoef(what[:-distance], what[distance:])[0, 1]
            assert abs(correlation) < 4.5 / math.sqrt(MANY)


def test_vectors_of_two_seeds_are_independent() -> None:
    """Seeds one bit apart."""
    one, other = (np.clip(discrete_gaussian(1.0, MANY, seed(n)), -3, 3) + 3 for n in (10, 11))
    assert stats.chi2_contingency(np.bincount(one * 7 + other, minlength=49).reshape(7, 7)).pvalue > UNLIKELY


@pytest.mark.parametrize("variance", [0.3, 3000.0**2, 1e12])
def test_a_seed_gives_one_vector_and_another_seed_another(variance: float) -> None:
    first = discrete_gaussian(variance, 50_000, seed(1))
    assert (first == discrete_gaussian(variance, 50_000, seed(1))).all()
    assert (first != discrete_gaussian(variance, 50_000, seed(2))).mean() > 0.3


@pytest.mark.parametrize("size", [0, 1, 2, 100, 16_383, 16_384, 16_385, 40_000])
def test_a_shorter_vector_is_the_beginning_of_a_longer_one(size: int) -> None:
    """However the work is divided into blocks."""
    samples = discrete_gaussian(7.0, size, seed(1))
    assert samples.dtype == np.int64
    assert samples.shape == (size,)
    assert (samples == discrete_gaussian(7.0, 50_000, seed(1))[:size]).all()


# --- floating point only proposes -------------------------------------------------------------------------------------


@pytest.fixture
def refined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What is decided exactly: layer, integer, draw."""
    calls: list[tuple[int, int, int]] = []
    holds = Layers.holds

    def watched(self: Layers, layer: int, x: int, draw: int, known: int, more: Iterator[int]) -> bool:
        calls.append((layer, x, draw))
        return holds(self, layer, x, draw, known, more)

    monkeypatch.setattr(Layers, "holds", watched)
    return calls


@pytest.mark.parametrize("variance", [0.3, 2.5, 3000.0**2, 1e12, 2.0**80])
def test_all_decisions_made_exactly_are_those_made_in_float64(
    variance: float, refined: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = discrete_gaussian(variance, 100_000, seed(12))
    assert len(refined) <= 2
    monkeypatch.setattr(noise, "_DOUBT", math.inf)
    assert (discrete_gaussian(variance, 100_000, seed(12)) == quick).all()
    assert len(refined) > 900


def test_an_exponential_wrong_in_the_25th_bit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    right, exp, errors = discrete_gaussian(100.0, MANY, seed(13)), np.exp, np.random.default_rng(1)
    monkeypatch.setattr(np, "exp", lambda x: exp(x) * (1 + errors.uniform(-1, 1, x.shape) * 2.0**-25))
    assert (discrete_gaussian(100.0, MANY, seed(13)) == right).all()


def test_about_one_sample_in_a_million_is_decided_exactly(refined: list[tuple[int, int, int]]) -> None:
    """So that the exact decisions are no dead code in the field."""
    discrete_gaussian(3000.0**2, 5 * MANY, seed(14))
    assert 4 <= len(refined) <= 80


def test_no_two_decisions_share_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refinement reads a lane of its own, beside those of proposals and comparisons, and no lane is read twice."""
    lanes: list[int] = []

    class Watched(Keystream):
        def __init__(self, secret: NoiseSeed, word: np.dtype[np.uint64], lane: int = 0) -> None:
            lanes.append(lane)
            super().__init__(secret, word, lane)

    monkeypatch.setattr(noise, "Keystream", Watched)
    monkeypatch.setattr(noise, "_DOUBT", math.inf)
    monkeypatch.setattr(Layers, "holds", lambda self, layer, x, draw, known, more: next(more) % 2 == 0)
    discrete_gaussian(2.5, 50_000, seed(15))
    assert len(lanes) == len(set(lanes)) > 400
    assert sorted(lanes)[:3] == [0, 1, 2]


# --- the bound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [*SMALL, 1000.0])
def test_the_mass_never_drawn_is_below_the_bound(variance: float) -> None:
    """The mass beyond the widest layer, summed by mpmath at 200 bits, for one sample and for many."""
    mp, reach = mpmath.mp.clone(), layers_for(variance).reach
    mp.prec = 200

    def weights(first: int, last: int) -> mpmath.mpf:
        return mp.fsum(mp.exp(-(mp.mpf(x) ** 2) / (2 * mp.mpf(variance))) for x in range(first, last))

    tail = weights(reach, 3 * reach)
    lost = 2 * tail / (2 * tail + 1 + 2 * weights(1, reach))
    for size in (1, 1000, 10**7):
        assert size * lost < total_variation(variance, size) < size * 2.0**-140


@pytest.mark.parametrize("variance", LARGE)
def test_the_bound_holds_where_cells_are_wide(variance: float) -> None:
    mp, reach = mpmath.mp.clone(), layers_for(variance).reach
    mp.prec = 200
    lost = mp.erfc((reach - 0.5) / mp.sqrt(2 * mp.mpf(variance)))
    assert 10**6 * lost < total_variation(variance, 10**6) < 10**6 * 2.0**-140


def test_the_distance_is_nothing_for_no_samples_and_negligible_for_the_most() -> None:
    assert total_variation(1.0, 0) == 0.0
    assert total_variation(1.0, noise.MOST_SIZE) < 2.0**-100


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [math.nan, 0.0, -1.0, 0.2499, math.inf, -math.inf, 2.0**80 * 1.001])
def test_another_variance_is_refused(variance: float) -> None:
    with pytest.raises(UsageError, match=r"use 0\.25 to 2\^80"):
        discrete_gaussian(variance, 1, seed(1))
    with pytest.raises(UsageError, match="variance"):
        total_variation(variance, 1)


@pytest.mark.parametrize("size", [-1, (1 << 40) + 1])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=r"use 0 to 2\^40"):
        discrete_gaussian(1.0, size, seed(1))
    with pytest.raises(UsageError, match="samples"):
        total_variation(1.0, size)


def test_a_seed_is_a_secret_of_its_own_kind() -> None:
    secret = NoiseSeed(b"\x42" * 32)
    assert f"{secret!r} {secret}" == "<secret NoiseSeed> <secret NoiseSeed>"
    assert secret != MaskSeed(b"\x42" * 32)
    for escape in (pickle.dumps, copy.copy, hash):
        with pytest.raises(TypeError, match="a secret"):
            escape(secret)
    with pytest.raises(UsageError, match="32 bytes"):
        NoiseSeed(b"short")
