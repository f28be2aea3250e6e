"""What a release costs, as its Renyi divergence at integer orders: exact sums, no integrals, upper bounds throughout.

1. A curve holds for both directions of the neighbouring relation. For a symmetric law of the noise the reflection x -> s - x swaps it with
   its shift by s, so that adding a unit is dominated by removing one (Mironov, Talwar, Zhang 2019, theorem 5).
2. Discrete Gaussian noise P of variance sigma^2 on the integers, shifted by an integer vector s, has
   E_P[(P_s/P)^k] = exp(k (k - 1) |s|^2 / (2 sigma^2)) for every integer k, as in the continuum (Canonne, Kamath, Steinke 2020).
3. A sum of m discrete Gaussians is no discrete Gaussian; its law is within a factor exp(tau) of one, coordinate by coordinate (Kairouz,
   Liu, Steinke 2021), and a curve pays for that factor. More survivors than planned only add independent noise.
4. What is not proved is refused (`UnsupportedRelease`), never approximated.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from strategies.dp.events import Mechanism, Release
from strategies.errors import UsageError

ORDERS: Final[tuple[int, ...]] = (
    *range(2, 65), 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024,
)  # fmt: skip
"""The Renyi orders at which curves are evaluated: integers, at which the sums of rule 2 are exact."""

LEAST_SHARE_VARIANCE: Final = 0.25
"""Variance in squared grid steps below which the bound of rule 3 is not stated."""


class UnsupportedRelease(UsageError):  # noqa: N818  (names the release, not a defect)
    """No theorem in use here bounds the cost of this release."""


@lru_cache(maxsize=1 << 16)
def renyi(release: Release, order: int) -> float:
    """Renyi divergence of `release`, all its steps composed, at an integer `order` of at least 2; in nats.

    An upper bound in both directions of add/remove-one, for the law that `release` states; the distance of the sampler from that law is
    `release.total_variation`, which callers charge to delta. Infinite where the noise is too small for double precision. Raises
    UnsupportedRelease for a release without noise and for shares of noise narrower than half a grid step, UsageError for other orders.
    """
    if order < ORDERS[0]:
        raise UsageError(f"the Renyi order is {order}; use a whole number of at least {ORDERS[0]}")
    ratio = release.sensitivity / math.sqrt(release.variance) if release.variance > 0.0 else math.inf
    step = _one_step(release.sampling_rate, ratio * ratio, _mismatch(release), order)
    return release.steps * step


def curve(release: Release) -> NDArray[np.float64]:
    """`renyi(release, order)` at every order of `ORDERS`: (len(ORDERS),) float64."""
    return np.array([renyi(release, order) for order in ORDERS], dtype=np.float64)


def _mismatch(release: Release) -> float:
    """Max-divergence of the noise, all coordinates together, from the Gaussian law of the same variance, in either direction.

    Kairouz, Liu, Steinke 2021, for shares of standard deviation at least 1/2.
    """
    if release.mechanism is Mechanism.NONE:
        raise UnsupportedRelease(
            f"{release.what}: a release without noise has no finite cost; list it as an exemption"
        )
    if release.mechanism is Mechanism.GAUSSIAN or release.shares == 1:
        return 0.0
    share = release.variance / release.shares
    if not share >= LEAST_SHARE_VARIANCE:
        raise UnsupportedRelease(
            f"{release.what}: each of {release.shares} shares of noise has variance {share:.3g} squared grid steps; the bound for their sum "
            f"needs at least {LEAST_SHARE_VARIANCE}: use a finer grid"
        )
    k = np.arange(1, release.shares, dtype=np.float64)
    tau = 10.0 * float(np.sum(np.exp(-2.0 * math.pi**2 * share * k / (k + 1.0))))
    return tau * release.dimension


@lru_cache(maxsize=1 << 16)
def _one_step(rate: float, ratio_squared: float, mismatch: float, order: int) -> float:
    """Renyi divergence of one step at `order`, for squared sensitivity over variance `ratio_squared`.

    With c_k = log E[(P_s/P)^k] the binomial sum of Mironov, Talwar, Zhang 2019 is 1 + sum_{k>=2} C(a,k) (1-q)^(a-k) q^k (exp(c_k) - 1), as its
    weights sum to one and c_0 = c_1 = 0; in this form a small cost keeps its digits.
    """
    if rate == 1.0:
        return _log_moment(order, ratio_squared, mismatch) / (order - 1)
    k, log_binomials = _binomials(order)
    moments = k * (k - 1.0) * (0.5 * ratio_squared) + (2.0 * k - 1.0) * mismatch
    with np.errstate(divide="ignore"):  # a moment that underflows to 0 adds nothing: log 0
        log_excess = moments + np.log(-np.expm1(-moments))
    weights = log_binomials + (order - k) * math.log1p(-rate) + k * math.log(rate)
    excess = float(np.logaddexp.reduce(weights + log_excess))
    return float(np.logaddexp(0.0, excess)) / (order - 1)


def _log_moment(k: int, ratio_squared: float, mismatch: float) -> float:
    """Bound of log E_P[(P_s/P)^k]: of the Gaussian law, and `mismatch` for each of the 2k - 1 densities in it."""
    return k * (k - 1) * (0.5 * ratio_squared) + (2 * k - 1) * mismatch


@lru_cache(maxsize=256)
def _binomials(order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """k = 2..order, and log C(order, k), from exact integers."""
    ks = range(2, order + 1)
    return np.array(ks, dtype=np.float64), np.array([math.log(math.comb(order, k)) for k in ks])
