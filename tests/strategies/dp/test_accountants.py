"""Accountants, against the contract, published figures and independent numerics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import ndtr  # type: ignore[import-untyped]

from strategies.dp.accountants import PldAccountant, RdpAccountant
from strategies.dp.curves import ORDERS, UnsupportedRelease, curve
from strategies.dp.events import Mechanism, Part
from tests.contracts.accountant_contract import DELTA, PUBLISHED, AccountantContract, counts, noises, rates
from tests.strategies.dp.releases_for_tests import OTHER_SPLIT, RECORD, SPLIT, discrete, gaussian

Vector = NDArray[np.float64]


class TestRdp(AccountantContract):
    accountant = RdpAccountant()
    conversion = "canonne-kamath-steinke-2020"


class TestPld(AccountantContract):
    accountant = PldAccountant()
    conversion = "none"


def rdp(*args: object) -> float:
    return RdpAccountant().guarantee(*args, DELTA, RECORD).epsilon  # type: ignore[arg-type]


def pld(*args: object) -> float:
    return PldAccountant().guarantee(*args, DELTA, RECORD).epsilon  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "case",
    [case for case in PUBLISHED if case["conversion"] == "mironov-2017"],
    ids=lambda case: case["source"].split(":")[0],
)
def test_the_curve_meets_figures_published_with_the_older_conversion(case: dict[str, float]) -> None:
    of = curve(gaussian(case["noise_multiplier"], rate=case["sampling_rate"], steps=int(case["steps"])))
    epsilon = min(
        renyi + math.log(1 / case["delta"]) / (order - 1) for renyi, order in zip(of, ORDERS, strict=True)
    )
    assert epsilon == pytest.approx(case["epsilon"], rel=0.01)


def composed_delta(rate: float, noise: float, steps: int) -> Callable[[float], float]:
    """delta(epsilon) of `steps` sampled Gaussians, the worse direction, by convolving the loss rounded to the nearest grid point."""
    step, reach = 1e-3, 60.0
    grid = np.arange(-reach, reach, step)
    edges = np.append(grid, reach) - step / 2

    def law(weights: Callable[[Vector], Vector], sign: float) -> Vector:
        """Probabilities of the losses: they are a monotone function of x, so an edge between losses is a point x."""
        inner = np.exp(sign * edges) - (1.0 - rate)
        x = np.where(inner > 0.0, noise**2 * np.log(np.maximum(inner, 1e-300) / rate) + 0.5, -np.inf)
        return np.abs(np.diff(weights(x)))

    base = lambda x: ndtr(x / noise)  # noqa: E731
    mixed = lambda x: (1.0 - rate) * ndtr(x / noise) + rate * ndtr((x - 1.0) / noise)  # noqa: E731
    laws = [law(mixed, 1.0), law(base, -1.0)]
    centre = len(grid) // 2
    spectra = [np.fft.rfft(np.roll(each, -centre)) ** steps for each in laws]
    sums = [np.roll(np.fft.irfft(each, len(grid)), centre) for each in spectra]
    return lambda epsilon: max(
        float(np.sum(np.maximum(0.0, -np.expm1(epsilon - grid)) * each)) for each in sums
    )


@pytest.mark.parametrize(
    ("rate", "noise", "steps"), [(0.01, 1.0, 300), (0.1, 1.5, 40), (0.3, 4.0, 100), (0.2, 1.0, 1)]
)
def test_pld_is_the_composition_of_the_privacy_loss_integrated_numerically(
    rate: float, noise: float, steps: int
) -> None:
    delta = composed_delta(rate, noise, steps)
    independent = brentq(lambda epsilon: delta(epsilon) - DELTA, 1e-3, 30.0)
    assert pld({gaussian(noise, rate=rate, steps=steps): 1}) == pytest.approx(independent, rel=0.01)


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.0, 1000), (0.05, 1.2, 200)])
def test_pld_agrees_with_opacus(rate: float, noise: float, steps: int) -> None:
    other = PRVAccountant()
    other.history = [(noise, rate, steps)]
    assert pld({gaussian(noise, rate=rate, steps=steps): 1}) == pytest.approx(
        other.get_epsilon(delta=DELTA), rel=0.01
    )


@pytest.mark.parametrize("noise", [0.7, 1.0, 5.0])
def test_pld_is_the_exact_figure_of_one_gaussian(noise: float) -> None:
    """Balle and Wang 2018, theorem 8."""
    mu = 1.0 / noise
    exact = brentq(lambda e: ndtr(mu / 2 - e / mu) - math.exp(e) * ndtr(-mu / 2 - e / mu) - DELTA, 1e-6, 60.0)
    assert pld({gaussian(noise): 1}) == pytest.approx(exact, rel=1e-4)


@settings(max_examples=12, deadline=None)
@given(noises, rates, counts)
def test_the_tight_figure_is_at_most_the_rdp_figure(noise: float, rate: float, count: int) -> None:
    charges = {gaussian(noise, rate=rate): count}
    assert pld(charges) <= rdp(charges) * 1.001 + 1e-4


@pytest.mark.parametrize("rate", [1.0, 0.2])
@pytest.mark.parametrize(("deviation", "shift"), [(1.0, 1), (3.0, 2)])
def test_pld_of_one_dimensional_discrete_noise_is_the_direct_sum(
    deviation: float, shift: int, rate: float
) -> None:
    x = np.arange(-200, 201, dtype=np.float64)
    weights = np.exp(-(x**2) / (2 * deviation**2))
    base = weights / weights.sum()
    mixed = (1 - rate) * base + rate * np.roll(base, shift)

    def delta(epsilon: float) -> float:
        return max(
            float(np.sum(np.maximum(0.0, p - math.exp(epsilon) * q)))
            for p, q in ((mixed, base), (base, mixed))
        )

    epsilon = pld({discrete(deviation, shift, rate=rate): 1})
    assert delta(epsilon * 1.001 + 1e-4) <= DELTA <= delta(epsilon * 0.999 - 1e-4)
    assert pld({discrete(deviation, shift + 0.9, rate=rate): 1}) == pytest.approx(
        epsilon, rel=1e-6
    )  # shifts are integers


def test_pld_of_a_shift_below_one_grid_step_is_nothing() -> None:
    assert pld({discrete(1.0, 0.5): 1}) == 0.0


@pytest.mark.parametrize("release", [discrete(3.0, dimension=2), discrete(3.0, shares=2), discrete(2e4, 1e4)])
def test_pld_refuses_what_has_no_proved_pair(release: object) -> None:
    with pytest.raises(UnsupportedRelease, match="use the rdp accountant"):
        pld({release: 1})
    assert 0.0 < rdp({release: 1}) < math.inf


def test_rdp_takes_every_mechanism_with_noise() -> None:
    every = [replace(discrete(4.0), mechanism=each) for each in Mechanism if each is not Mechanism.NONE]
    assert len({rdp({each: 1}) for each in every}) == 1
    assert rdp(dict.fromkeys(every, 1)) == pytest.approx(
        rdp({gaussian(2.0): 1}), rel=1e-9
    )  # four of deviation 4 are one of deviation 2


@pytest.mark.parametrize("epsilon", [rdp, pld])
def test_the_worst_choice_of_parts_over_several_partitions_counts(epsilon: Callable[[object], float]) -> None:
    cheap, dear = gaussian(9.0), gaussian(2.0)
    charges = {
        replace(dear, part=Part.TRAINING, partition=SPLIT): 1,
        replace(cheap, part=Part.EVALUATION, partition=SPLIT): 1,
        replace(cheap, part=Part.TRAINING, partition=OTHER_SPLIT): 1,
        replace(dear, part=Part.EVALUATION, partition=OTHER_SPLIT): 1,
        gaussian(3.0): 1,
    }
    assert epsilon(charges) == pytest.approx(epsilon({dear: 2, gaussian(3.0): 1}), rel=1e-9)


def test_accountants_have_names() -> None:
    assert [RdpAccountant().name, PldAccountant().name] == ["rdp", "pld"]
