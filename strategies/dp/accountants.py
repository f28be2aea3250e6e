"""What a fixed plan promises: epsilon at a given delta, from all its releases. Accountants report; only a ceiling admits (`filters`).

1. A figure here is valid for a plan fixed beforehand. Where later releases depend on the results of earlier ones, the ceiling's filter is
   what holds.
2. Every accountant uses the same rule for which releases one unit pays for together (`budget.grouped`), and evaluates the worst choice.
3. A sampler within total variation eta of its law adds (1 + e^epsilon) eta to delta: once for either neighbour, and the second is scaled by
   e^epsilon. It is taken off delta first; if nothing is left, epsilon is infinite.
4. What is not proved is refused (`UnsupportedRelease`), and so is a release without noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Final, Protocol

import dp_accounting.rdp  # type: ignore[import-untyped]
import numpy as np
from dp_accounting.pld import privacy_loss_distribution  # type: ignore[import-untyped]
from numpy.typing import NDArray

from strategies.dp.budget import grouped, merged
from strategies.dp.curves import ORDERS, UnsupportedRelease, curve
from strategies.dp.events import Mechanism, Release
from strategies.dp.units import Guarantee, Neighbours, PrivacyUnit, require_delta
from strategies.errors import UsageError

WIDEST_DISCRETE: Final = 10_000.0
"""Standard deviation of one-dimensional discrete noise, in grid steps, up to which its privacy loss is tabulated (seconds)."""

FINEST_LOSS: Final = 1e-4
"""Step of the grid of privacy losses, in nats; coarser in proportion where losses are above 10 nats."""

LARGEST_TRIAL: Final = 700.0
"""Epsilon above which e^epsilon leaves double precision: no total variation is then small enough."""


class Accountant(Protocol):
    """Turns how often each release happens into one guarantee, for a plan fixed beforehand."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def guarantee(self, charges: Mapping[Release, int], delta: float, unit: PrivacyUnit) -> Guarantee:
        """Epsilon at `delta` per `unit` of all `charges` together; 0 for none, infinite where nothing is promised.

        Raises UsageError for a delta outside (0, 1) and for releases about another unit, UnsupportedRelease where no theorem applies.
        """


class RdpAccountant:
    """Renyi divergences add up order by order, and the best order converts (Mironov 2017; conversion by Canonne, Kamath, Steinke 2020).

    The best order is chosen afterwards, which is valid as every order bounds the same fixed mechanism; for releases chosen adaptively it
    would not be.
    """

    @property
    def name(self) -> str:
        """RDP."""
        return "rdp"

    def guarantee(self, charges: Mapping[Release, int], delta: float, unit: PrivacyUnit) -> Guarantee:
        """See `Accountant.guarantee`; takes every release with noise."""
        releases = _checked(charges, delta, unit)
        total = _total_curve(releases)
        return _guarantee(lambda left: _epsilon_of_curve(total, left), releases, delta, unit)


class PldAccountant:
    """The privacy loss distribution of a dominating pair, composed by convolution: tight up to the grid of losses (dp_accounting).

    Takes `GAUSSIAN`, whose pair is one-dimensional, and discrete noise from one source on a vector of length one. Noise in shares has no
    closed law, and for sampled discrete noise in several dimensions no dominating pair is proved; they raise UnsupportedRelease.
    """

    @property
    def name(self) -> str:
        """PLD."""
        return "pld"

    def guarantee(self, charges: Mapping[Release, int], delta: float, unit: PrivacyUnit) -> Guarantee:
        """See `Accountant.guarantee`. Losses are rounded up to the grid; the convolution's floating-point error is not bounded."""
        releases = _checked(charges, delta, unit)
        for release in releases:
            _require_pair(release)
        rough = _epsilon_of_curve(_total_curve(releases), delta)
        if math.isinf(rough):  # noise too small for double precision
            return Guarantee(epsilon=math.inf, delta=delta, unit=unit)
        grid = max(FINEST_LOSS, FINEST_LOSS * rough / 10.0)
        choices = product(*grouped(releases))
        composed = [_composed(Counter(merged(*choice)), grid) for choice in choices]
        return _guarantee(
            lambda left: max(_epsilon_of_losses(losses, left) for losses in composed), releases, delta, unit
        )


def _checked(charges: Mapping[Release, int], delta: float, unit: PrivacyUnit) -> dict[Release, int]:
    """The charges that happen at all, if they are about `unit`."""
    require_delta(delta)
    releases = {release: count for release, count in merged(charges).items() if count}
    for release in releases:
        if not unit.is_same_person(release.unit) or release.neighbours is not Neighbours.ADD_OR_REMOVE_ONE:
            raise UsageError(
                f"{release.what} is per {release.unit.words} ({release.neighbours}); the guarantee asked for is per {unit.words}"
            )
        if not release.unit.max_sites >= unit.max_sites:
            raise UsageError(
                f"{release.what} is charged for a person at up to {release.unit.max_sites} sites; the guarantee asked for is for up to "
                f"{unit.max_sites}"
            )
    return releases


def _guarantee(
    at: Callable[[float], float], releases: Mapping[Release, int], delta: float, unit: PrivacyUnit
) -> Guarantee:
    """The guarantee of `releases`, whose ideal laws have epsilon `at(delta)`, non-increasing in delta.

    With total variation eta any epsilon of at least at(delta - (1 + e^epsilon) eta) is valid: enlarge a trial value until it is, then take
    what it gives, which is valid too and no larger.
    """
    eta = math.fsum(count * release.steps * release.total_variation for release, count in releases.items())
    epsilon = (
        0.0 if not releases else at(delta) if eta == 0.0 else _epsilon_with_total_variation(at, eta, delta)
    )
    return Guarantee(epsilon=epsilon, delta=delta, unit=unit)


def _epsilon_with_total_variation(at: Callable[[float], float], eta: float, delta: float) -> float:
    trial = 0.0
    while trial <= LARGEST_TRIAL and eta * (1.0 + math.exp(trial)) < delta:
        found = at(delta - eta * (1.0 + math.exp(trial)))
        if found <= trial:
            return found
        trial = found * 1.001 + 1e-9  # grows by a margin, so that the loop ends
    return math.inf


def _total_curve(releases: Mapping[Release, int]) -> NDArray[np.float64]:
    """Renyi divergence of all `releases` for the unit that pays most, (len(ORDERS),): worst parts are taken order by order."""
    total = np.zeros(len(ORDERS))
    for group in grouped(releases):
        parts = [np.array([count * curve(release) for release, count in part.items()]) for part in group]
        total += np.max([[math.fsum(column) for column in part.T] for part in parts], axis=0)
    return total


def _epsilon_of_curve(total: NDArray[np.float64], delta: float) -> float:
    epsilon, _ = dp_accounting.rdp.compute_epsilon(ORDERS, total.tolist(), delta)
    return float(epsilon)


def _epsilon_of_losses(losses: Any, delta: float) -> float:  # noqa: ANN401  (dp_accounting is untyped)
    return max(0.0, float(losses.get_epsilon_for_delta(delta)))


def _require_pair(release: Release) -> None:
    if release.mechanism is Mechanism.NONE:
        raise UnsupportedRelease(
            f"{release.what}: a release without noise has no finite cost; list it as an exemption"
        )
    if release.mechanism is Mechanism.GAUSSIAN:
        return
    if release.shares != 1 or release.dimension != 1:
        raise UnsupportedRelease(
            f"{release.what}: no dominating pair is proved for {release.mechanism} noise in {release.shares} shares and {release.dimension} "
            "dimensions; use the rdp accountant"
        )
    if not release.variance <= WIDEST_DISCRETE**2:
        raise UnsupportedRelease(
            f"{release.what}: the noise has standard deviation {math.sqrt(release.variance):.3g} grid steps; its privacy loss is tabulated "
            f"up to {WIDEST_DISCRETE:g}; use the rdp accountant"
        )


def _composed(counts: Mapping[Release, int], grid: float) -> Any:  # noqa: ANN401  (dp_accounting is untyped)
    """The privacy loss distribution of releases composed, in both directions; equal mathematics first, so that their order is no matter."""
    steps: Counter[tuple[float, float, int]] = Counter()
    for release, count in counts.items():
        if release.mechanism is Mechanism.GAUSSIAN:
            steps[release.sampling_rate, release.noise_multiplier, 0] += count * release.steps
        elif release.sensitivity >= 1.0:  # an integer shorter than 1 is 0, and nothing moves
            steps[release.sampling_rate, math.sqrt(release.variance), math.floor(release.sensitivity)] += (
                count * release.steps
            )
    losses = privacy_loss_distribution.identity(value_discretization_interval=grid)
    for (rate, deviation, shift), times in sorted(steps.items()):
        losses = losses.compose(_losses(rate, deviation, shift, times, grid))
    return losses


def _losses(rate: float, deviation: float, shift: int, times: int, grid: float) -> Any:  # noqa: ANN401  (dp_accounting is untyped)
    """`times` steps of one law: continuous Gaussian of unit sensitivity for `shift` 0, else discrete, where the longest shift dominates.

    Discrete Gaussian noise is log-concave, so hockey-stick divergences grow with the shift, and those of the sampled pair with them.
    """
    if shift:
        one = privacy_loss_distribution.from_discrete_gaussian_mechanism(
            deviation, shift, sampling_prob=rate, value_discretization_interval=grid, use_connect_dots=True
        )
        return one.self_compose(times)
    if rate == 1.0:  # a sum of Gaussian losses is one of a smaller deviation
        return privacy_loss_distribution.from_gaussian_mechanism(
            deviation / math.sqrt(times), value_discretization_interval=grid
        )
    one = privacy_loss_distribution.from_gaussian_mechanism(
        deviation, value_discretization_interval=grid, sampling_prob=rate
    )
    return one.self_compose(times)
