"""Whether a window has drifted further from the reference than is tolerated: a test whose false-alarm rate is stated for a horizon of windows.

1. The statistic of a stream is d' S^-1 d, of the difference d of shares and its covariance S (`two_histograms`). Where nothing moved it is chi-square.
2. A drift of at most the tolerated PSI makes it noncentral. Of all drifts of that size the one that S^-1 shows most decides: the largest generalised
   eigenvalue of S^-1 and of the PSI's second order. So the rate holds for whatever drift is tolerated, not only for none.
3. A rate for a horizon is spent equally over its windows, and a window's share over its streams by Holm 1979. Both are union bounds: they hold though
   streams are dependent and all windows are compared with one reference, whose noise they share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from strategies.analytics.distances import jensen_shannon, kolmogorov_smirnov, population_stability
from strategies.analytics.estimates import Estimate
from strategies.analytics.two_histograms import Between, Histogram, Matrix
from strategies.errors import UsageError

_POWER: Final = 0.8
_FAR: Final = 100.0
_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Statistic:
    """A test's `value` and its degrees of `freedom`.

    `tolerated` is the largest noncentrality that a drift of the tolerated PSI can have; `for_psi` is what each unit of PSI adds to the noncentrality, on
    average over the directions in which shares can drift.
    """

    value: float
    freedom: int
    tolerated: float
    for_psi: float

    @property
    def p_value(self) -> float:
        """How probable so much is, at most, if the drift is one that is tolerated."""
        return _above(self.value, self.freedom, self.tolerated)

    @property
    def excess(self) -> float:
        """What is above its mean without drift, 0 at least: what streams share an alarm by."""
        return max(0.0, self.value - self.freedom)

    def finds(self, level: float) -> float:
        """The PSI that this test finds 4 times in 5 at `level`; infinite beyond `_FAR`."""
        # A second or two, which processes need not wait that compare nothing.
        from scipy.stats import chi2, ncx2

        bound = float(
            ncx2.isf(level, self.freedom, self.tolerated) if self.tolerated else chi2.isf(level, self.freedom)
        )
        low, high = 0.0, _FAR
        if _above(bound, self.freedom, self.for_psi * high) < _POWER:
            return float("inf")
        for _ in range(_STEPS):
            middle = (low + high) / 2.0
            enough = _above(bound, self.freedom, self.for_psi * middle) >= _POWER
            low, high = (low, middle) if enough else (middle, high)
        return high


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How one stream of a window differs from the reference; `ks` is None where bins have no order."""

    rows: float
    psi: Estimate
    js: Estimate
    ks: Estimate | None
    statistic: Statistic


def drift_between(
    reference: Histogram, window: Histogram, *, tolerated_psi: float, ordered: bool, apart: bool = True
) -> Drift:
    """Compare two histograms of the same bins. Raises UsageError, and Refused where one of them has too few rows to say anything."""
    if not 0.0 <= tolerated_psi < 1.0:  # phrased so that NaN is refused
        raise UsageError(f"the tolerated PSI is {tolerated_psi}; use at least 0 and below 1")
    between = Between.of(reference, window, apart=apart)
    return Drift(
        rows=window.rows,
        psi=population_stability(between),
        js=jensen_shannon(between),
        ks=kolmogorov_smirnov(between) if ordered else None,
        statistic=_statistic(between, tolerated_psi),
    )


def window_level(rate: float, horizon: int) -> float:
    """What one of `horizon` windows may use of a false-alarm `rate`. Raises UsageError."""
    if not (0.0 < rate < 1.0 and horizon >= 1):
        raise UsageError(
            f"a false-alarm rate of {rate} in {horizon} windows; use between 0 and 1, and 1 or more"
        )
    return rate / horizon


def moved_streams(p_values: Mapping[str, float], level: float) -> tuple[str, ...]:
    """The streams that moved, the clearest first: all of them are right but with probability `level` (Holm 1979)."""
    found = []
    ordered = sorted(p_values.items(), key=lambda each: each[1])
    for place, (name, p_value) in enumerate(ordered):
        if not p_value <= level / (len(ordered) - place):
            break
        found.append(name)
    return tuple(found)


def _statistic(between: Between, tolerated_psi: float) -> Statistic:
    """On all groups but the largest, since differences sum to 0."""
    from scipy.linalg import eigh

    kept = np.arange(between.pooled.size) != int(between.pooled.argmax())
    covariance: Matrix = (between.covariance + np.diag(between.small))[np.ix_(kept, kept)]
    difference = between.difference[kept]
    inverse = np.linalg.inv(covariance)
    size = np.diag(1.0 / between.least[kept]) + 1.0 / float(between.pooled.max())
    seen = eigh((inverse + inverse.T) / 2.0, size, eigvals_only=True)
    return Statistic(
        value=float(difference @ inverse @ difference),
        freedom=int(kept.sum()),
        tolerated=tolerated_psi * float(seen.max()),
        for_psi=float(seen.mean()),
    )


def _above(value: float, freedom: int, noncentrality: float) -> float:
    """The probability that (noncentral) chi-square exceeds `value`."""
    from scipy.stats import chi2, ncx2

    if noncentrality == 0.0:
        return float(chi2.sf(value, freedom))
    found = float(ncx2.sf(value, freedom, noncentrality))
    return min(1.0, max(0.0, found)) if np.isfinite(found) else 1.0
