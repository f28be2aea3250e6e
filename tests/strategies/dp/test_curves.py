"""Renyi curves, against direct sums and integrals of the laws that they are about, in both directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent  # type: ignore[import-untyped]
from dp_accounting.rdp import RdpAccountant as Reference  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.integrate import quad  # type: ignore[import-untyped]
from scipy.special import logsumexp  # type: ignore[import-untyped]

from strategies.dp.curves import ORDERS, UnsupportedRelease, curve, renyi
from strategies.dp.events import Mechanism
from strategies.dp.filters import epsilon_from_renyi
from strategies.dp.mechanisms import GradientGrid
from strategies.errors import UsageError
from tests.strategies.dp.releases_for_tests import discrete, gaussian, silent

Vector = NDArray[np.float64]
Law = Callable[[float], float]


def log_law(deviation: float, reach: int) -> Vector:
    """log P(x) of the discrete Gaussian, x = -reach..reach."""
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = -(x**2) / (2.0 * deviation**2)
    return np.asarray(weights - logsumexp(weights))


def log_law_of_sum(deviation: float, shares: int, reach: int) -> Vector:
    """log P(x) of a sum of `shares` discrete Gaussians, each of `deviation`: plain convolution of positive numbers keeps relative accuracy."""
    one = np.exp(log_law(deviation, reach))
    law = one
    for _ in range(shares - 1):
        law = np.convolve(law, one)
    middle = len(law) // 2
    with np.errstate(divide="ignore"):  # far tails may underflow; no test looks at them
        return np.asarray(np.log(law[middle - reach : middle + reach + 1]))


def directly(log_noise: Vector, shift: int, rate: float, order: int) -> tuple[float, float]:
    """Renyi divergences of the sampled pair by summation over the points where both laws are known: remove, then add."""
    base, moved = log_noise[shift:], log_noise[: len(log_noise) - shift]
    mixed = moved if rate == 1.0 else np.logaddexp(math.log1p(-rate) + base, math.log(rate) + moved)
    remove = logsumexp(order * mixed + (1 - order) * base) / (order - 1)
    add = logsumexp(order * base + (1 - order) * mixed) / (order - 1)
    return float(remove), float(add)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.01])
@pytest.mark.parametrize(("deviation", "shift"), [(0.7, 1), (1.0, 1), (2.5, 3), (20.0, 9)])
def test_the_curve_of_discrete_noise_is_exact_removing_and_bounds_adding(
    deviation: float, shift: int, rate: float
) -> None:
    noise = log_law(deviation, reach=int(10 * shift + 30 * deviation))
    for order in (2, 3, 5, 8):
        bound = renyi(discrete(deviation, shift, rate=rate), order)
        remove, add = directly(noise, shift, rate, order)
        assert bound == pytest.approx(remove, rel=1e-9)
        assert add <= bound * (1 + 1e-9)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.02])
@pytest.mark.parametrize("shares", [2, 3, 6])
@pytest.mark.parametrize("share", [0.501, 0.6, 0.8, 1.5])
def test_the_curve_of_shares_bounds_their_sum_in_both_directions(
    share: float, shares: int, rate: float
) -> None:
    noise = log_law_of_sum(share, shares, reach=int(24 * share))
    for shift, order in itertools.product((1, 2), (2, 3, 4)):
        bound = renyi(discrete(share * math.sqrt(shares), shift, rate=rate, shares=shares), order)
        for direct in directly(noise, shift, rate, order):
            assert direct <= bound * (1 + 1e-9)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.02])
def test_the_curve_of_wide_shares_is_tight(rate: float) -> None:
    noise = log_law_of_sum(2.0, 4, reach=60)
    for order in (2, 3, 4):
        bound = renyi(discrete(4.0, 3, rate=rate, shares=4), order)
        assert bound == pytest.approx(directly(noise, 3, rate, order)[0], rel=1e-9)


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_the_curve_of_shares_bounds_two_coordinates_together(rate: float) -> None:
    one = log_law_of_sum(0.501, 3, reach=14)
    base, moved = one[1:], one[:-1]
    bases, moves = base[:, None] + base[None, :], moved[:, None] + moved[None, :]
    mixed = moves if rate == 1.0 else np.logaddexp(math.log1p(-rate) + bases, math.log(rate) + moves)
    release = discrete(0.501 * math.sqrt(3), math.sqrt(2), rate=rate, shares=3, dimension=2)
    for order in (2, 3, 4):
        assert logsumexp(order * mixed + (1 - order) * bases) / (order - 1) <= renyi(release, order)
        assert logsumexp(order * bases + (1 - order) * mixed) / (order - 1) <= renyi(release, order)


@pytest.mark.parametrize("shares", [2, 3, 5])
@pytest.mark.parametrize("share", [0.501, 0.55, 0.7, 1.0])
def test_a_sum_of_shares_is_within_tau_of_the_discrete_gaussian(share: float, shares: int) -> None:
    """The bound of Kairouz, Liu, Steinke 2021, of which the curve takes (2k - 1) / (k - 1) at order k without sampling."""
    release = discrete(share * math.sqrt(shares), 1.0, shares=shares)
    tau = (renyi(release, 2) - renyi(replace(release, shares=1), 2)) / 3.0
    reach = int(14 * share)
    distance = np.max(
        np.abs(
            log_law_of_sum(share, shares, 30)[30 - reach : 31 + reach]
            - log_law(share * math.sqrt(shares), 40)[40 - reach : 41 + reach]
        )
    )
    assert 0.0 < distance <= tau


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_a_shorter_shift_costs_less_in_both_directions(rate: float) -> None:
    noise = log_law(3.0, reach=120)
    for order in (2, 4):
        for shift in (1, 2, 3):
            assert max(directly(noise, shift, rate, order)) <= renyi(discrete(3.0, 3, rate=rate), order) * (
                1 + 1e-9
            )


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("deviation", [0.6, 1.0, 4.0])
def test_the_curve_of_continuous_noise_is_the_integral_in_the_worse_direction(
    deviation: float, rate: float
) -> None:
    def mixed(x: float) -> float:
        return float(
            np.logaddexp(
                math.log1p(-rate) + base(x), math.log(rate) - ((x - 1.0) ** 2) / (2.0 * deviation**2)
            )
        )

    def base(x: float) -> float:
        return -(x**2) / (2.0 * deviation**2)

    def divergence(of: Law, to: Law, order: int) -> float:
        ends = (-14.0 * deviation, order + 14.0 * deviation)
        total, _ = quad(
            lambda x: math.exp(order * of(x) + (1 - order) * to(x)),
            *ends,
            limit=500,
            epsabs=0.0,
            epsrel=1e-12,
        )
        return math.log(total / (deviation * math.sqrt(2.0 * math.pi))) / (order - 1)

    for order in (2, 3, 8):
        bound = renyi(gaussian(deviation, rate=rate), order)
        assert bound == pytest.approx(divergence(mixed, base, order), rel=1e-5)
        assert divergence(base, mixed, order) <= bound * (1 + 1e-5)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.01, 1e-4])
@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0])
def test_the_curve_of_continuous_noise_is_dp_accountings(noise: float, rate: float) -> None:
    reference = Reference(ORDERS)
    reference.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), 7)
    assert curve(gaussian(noise, rate=rate, steps=7)) == pytest.approx(reference.rdp, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001])
@pytest.mark.parametrize("noise", [0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("dimension", [100, 1_000, 123_456, 1_000_000])
@pytest.mark.parametrize("rotated", [False, True])
def test_rounding_to_the_default_grid_costs_at_most_a_twentieth_at_any_order(
    dimension: int, noise: float, rate: float, *, rotated: bool
) -> None:
    grid = GradientGrid(parameters=dimension, rotated=rotated)
    rounded = discrete(noise * grid.steps, grid.sensitivity, rate=rate, shares=8, dimension=grid.dimension)
    assert np.all(curve(rounded) <= 1.05 * curve(gaussian(noise, rate=rate)))
    assert np.all(curve(rounded) > curve(gaussian(noise, rate=rate)))


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.05, 0.01])
@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 5.0])
def test_rounding_to_a_coarser_grid_hardly_changes_epsilon(noise: float, rate: float) -> None:
    def epsilon(of: Vector) -> float:
        return min(
            epsilon_from_renyi(1000 * each, order, 1e-6)
            for each, order in zip(of.tolist(), ORDERS, strict=True)
        )

    rounded = discrete(noise * 2.0**15, 2.0**15 + 2.0**5, rate=rate, shares=8, dimension=2**10)
    assert epsilon(curve(rounded)) <= 1.02 * epsilon(curve(gaussian(noise, rate=rate)))


def test_steps_add_up() -> None:
    assert renyi(gaussian(2.0, rate=0.1, steps=12), 6) == pytest.approx(
        12 * renyi(gaussian(2.0, rate=0.1), 6), rel=1e-12
    )


def test_a_tiny_sampling_rate_keeps_its_digits() -> None:
    """At order 2 the divergence is log(1 + q^2 (exp(1/sigma^2) - 1))."""
    assert renyi(gaussian(1.0, rate=1e-7), 2) == pytest.approx(1e-14 * math.expm1(1.0), rel=1e-9)


def test_a_higher_order_costs_no_less() -> None:
    for release in (gaussian(1.0, rate=0.01), discrete(2.0, 1.0, rate=0.3, shares=3), discrete(5.0, 2.0)):
        assert np.all(np.diff(curve(release)) >= 0.0)


def test_noise_too_small_for_double_precision_costs_everything() -> None:
    assert np.all(np.isinf(curve(gaussian(1e-160, rate=0.5))))
    assert np.all(np.isinf(curve(gaussian(1e-160))))


def test_noise_too_large_to_matter_costs_next_to_nothing() -> None:
    assert np.all(curve(gaussian(1e9, rate=0.5)) < 1e-14)


def test_a_release_without_noise_is_refused() -> None:
    with pytest.raises(UnsupportedRelease, match="without noise"):
        renyi(silent(gaussian()), 2)


def test_shares_too_narrow_for_their_bound_are_refused_and_one_share_is_not() -> None:
    narrow = discrete(0.99, 1.0, shares=4)
    with pytest.raises(UnsupportedRelease, match="finer grid"):
        renyi(narrow, 2)
    assert renyi(replace(narrow, shares=1), 2) == pytest.approx(1.0 / 0.99**2)
    assert renyi(replace(narrow, mechanism=Mechanism.GAUSSIAN), 2) == pytest.approx(1.0 / 0.99**2)
    assert math.isfinite(renyi(discrete(1.0, 1.0, shares=4), 2))


@pytest.mark.parametrize("order", [1, 0, -3])
def test_an_order_below_two_is_refused(order: int) -> None:
    with pytest.raises(UsageError, match="Renyi order"):
        renyi(gaussian(), order)


def test_every_coordinate_pays_for_the_mismatch_of_shares() -> None:
    def mismatch(dimension: int) -> float:
        release = discrete(1.2, 1.0, shares=3, dimension=dimension)
        return renyi(release, 4) - renyi(replace(release, shares=1), 4)

    assert mismatch(7) == pytest.approx(7 * mismatch(1), rel=1e-9)
    assert mismatch(1) > 0.0
