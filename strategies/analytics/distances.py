"""How far two noisy histograms lie apart: PSI, Jensen-Shannon and Kolmogorov-Smirnov, with what chance and noise add taken off, and 95 % intervals.

A distance of two samples is above zero though nothing moved. To second order in the difference, sampling and noise with covariance S add half the trace
of the distance's second derivatives times S; that is subtracted. What is left may be below zero and is told as 0. Intervals count the first order
(what the gradient makes of chance) and the second, which is all there is where nothing moved. Post-processing only.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from strategies.analytics.estimates import Estimate
from strategies.analytics.two_histograms import Between, Matrix
from strategies.encoding import Vector

_Z: Final = 1.959963984540054
_MISSED: Final = 0.05


def population_stability(between: Between) -> Estimate:
    """The population stability index, sum of (p - q) ln(p / q) over groups: symmetric Kullback-Leibler divergence in nats."""
    p, q = _positive(between)
    ratio = np.log(p / q)
    return _debiased(
        float(((p - q) * ratio).sum()),
        between,
        slopes=(ratio + 1.0 - q / p, -ratio + 1.0 - p / q),
        bend=2.0 / between.least,
    )


def jensen_shannon(between: Between) -> Estimate:
    """The Jensen-Shannon divergence in bits, between 0 and 1."""
    p, q = _positive(between)
    middle = (p + q) / 2.0
    found = _debiased(
        float((p * np.log(p / middle) + q * np.log(q / middle)).sum()) / 2.0,
        between,
        slopes=(np.log(p / middle) / 2.0, np.log(q / middle) / 2.0),
        bend=0.25 / between.least,
    )
    bits = (min(1.0, each / math.log(2.0)) for each in (found.value, found.low, found.high))
    return Estimate(*bits)


def kolmogorov_smirnov(between: Between) -> Estimate:
    """The largest distance of the two distribution functions, over bounds of groups; of ordered bins only.

    The interval holds at all bounds at once (Bonferroni).
    """
    from scipy.stats import norm  # a second or two, which processes need not wait that compare nothing

    sums = np.tri(between.window.size - 1, between.window.size)
    gaps = np.abs(sums @ between.difference)
    variances = np.clip(np.einsum("ij,jk,ik->i", sums, between.covariance, sums), 0.0, None)
    half = float(norm.isf(_MISSED / (2 * gaps.size))) * np.sqrt(variances)
    value = math.sqrt(max(0.0, float((gaps**2 - variances).max())))
    low, high = max(0.0, float((gaps - half).max())), min(1.0, float((gaps + half).max()))
    return Estimate(min(1.0, max(value, low)), low, high)


def _positive(between: Between) -> tuple[Vector, Vector]:
    """Shares that a logarithm takes: what noise hides is taken as the most that it can hide, on both sides."""
    return np.maximum(between.window, between.floor), np.maximum(between.reference, between.floor)


def _debiased(value: float, between: Between, slopes: tuple[Vector, Vector], bend: Vector) -> Estimate:
    """`slopes` are the gradient by window and reference, `bend` the second derivatives by either at the pooled shares, (g,) each."""
    parts: tuple[Matrix, Matrix] = (between.of_window, between.of_reference)
    bias = float((bend * np.diag(between.covariance)).sum()) / 2.0
    first = sum(float(slope @ part @ slope) for slope, part in zip(slopes, parts, strict=True))
    at_rest = bend[:, None] * between.covariance
    half = _Z * math.sqrt(max(0.0, first) + float((at_rest * at_rest.T).sum()) / 2.0)
    found = value - bias
    return Estimate(max(0.0, found), max(0.0, found - half), max(0.0, found + half))
