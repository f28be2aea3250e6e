"""Two histograms of the same bins, each from rows and with noise: their shares, and the covariance of what lies between them.

1. Bins are put into groups by the *reference* and the number of rows alone, never by what the window shows: groups chosen by looking at the difference
   would find one.
2. A group that the reference hardly has is kept apart, since a fault shows just there, and its variance is never taken as less than that of `LEAST`
   rows: chance in small numbers is larger than its normal approximation.
3. The covariance is sampling of both sides (multinomial) and noise of both, at shares pooled over both, as they would be without drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

LEAST: Final = 10.0
"""Rows that a group of its own is expected to have in the window."""
LEAST_ROWS: Final = 100.0
"""A window with fewer rows says nothing about a distribution."""
SEEN: Final = 3.0
"""Rows are seen if they are this many standard deviations of the noise on their sum above none."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts`, (k,) of any numeric dtype, each with independent noise of standard deviation `noise_std` rows, which may have made some negative."""

    counts: npt.NDArray[Any]
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if self.counts.ndim != 1 or self.counts.size < 2:  # noqa: PLR2004
            raise UsageError(f"a histogram has shape {self.counts.shape}; use (k,) with k of 2 or more")
        if not (self.noise_std >= 0.0 and np.isfinite(self.noise_std)):
            raise UsageError(f"the noise of a histogram is {self.noise_std}; use 0 or more rows")

    @property
    def rows(self) -> float:
        """Rows in all bins, as the noise tells them."""
        return float(self.counts.sum())

    def require_rows(self, what: str) -> None:
        """Raises Refused where `what` has no rows that the noise lets see, or too few to speak of a distribution."""
        hidden = SEEN * self.noise_std * float(np.sqrt(self.counts.size))
        if not self.rows > hidden:
            raise Refused(
                f"{what} shows no traffic: its counts sum to {self.rows:.0f}, and noise alone would reach {hidden:.0f}"
            )
        if not self.rows >= LEAST_ROWS:
            raise Refused(
                f"{what} has about {self.rows:.0f} rows; below {LEAST_ROWS:.0f} a distribution says nothing. Use longer windows"
            )

    def grouped(self, groups: npt.NDArray[np.int64]) -> Vector:
        """Counts by group, (groups.max() + 1,) float64."""
        return np.asarray(np.bincount(groups, weights=self.counts.astype(np.float64)), dtype=np.float64)


def groups_of(reference: Histogram, rows: float, *, apart: bool = True) -> npt.NDArray[np.int64]:
    """The group of each bin, (k,), numbered from 0 in the order of bins: what the reference has plenty of alone, runs of rare bins together.

    `rows` is what the window has. The last bin ("missing", "other") stays alone if `apart`.
    """
    counts = np.clip(reference.counts.astype(np.float64), 0.0, None)
    expected = np.where(reference.counts > SEEN * reference.noise_std, rows * counts / counts.sum(), 0.0)
    found = np.zeros(counts.size, dtype=np.int64)
    inside = 0.0
    for place in range(1, counts.size):
        inside += expected[place - 1]
        last = apart and place == counts.size - 1
        cut = expected[place] >= LEAST or inside >= LEAST or last
        found[place] = found[place - 1] + cut
        inside = 0.0 if cut else inside
    if found[-1] == 0:
        found[-1] = 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Shares of `window` and `reference` by group, (g,) each, and what chance makes of them.

    `of_window` and `of_reference` are their covariances, (g, g), if both had the shares `pooled`; `floor` is the share of each group below which chance
    and noise hide what it is, and `small` what its variance, in shares, is raised by for being small.
    """

    groups: npt.NDArray[np.int64]
    window: Vector
    reference: Vector
    pooled: Vector
    floor: Vector
    of_window: Matrix
    of_reference: Matrix
    small: Vector

    @classmethod
    def of(cls, reference: Histogram, window: Histogram, *, apart: bool = True) -> Self:
        """Raises UsageError for other bins, Refused where one of them has too few rows to say anything."""
        if reference.counts.shape != window.counts.shape:
            raise UsageError(
                f"the window has {window.counts.size} bins, the reference {reference.counts.size}; compare counts of the same bins"
            )
        window.require_rows("the window")
        reference.require_rows("the reference")
        groups = groups_of(reference, window.rows, apart=apart)
        ours, theirs = window.grouped(groups), reference.grouped(groups)
        pooled = np.clip((ours + theirs) / (window.rows + reference.rows), 0.0, None)
        pooled = pooled / pooled.sum()
        sizes = np.bincount(groups).astype(np.float64)
        sides = ((window.rows, window.noise_std), (reference.rows, reference.noise_std))
        return cls(
            groups=groups,
            window=ours / window.rows,
            reference=theirs / reference.rows,
            pooled=pooled,
            floor=np.maximum(*(np.maximum(LEAST, 2.0 * std * np.sqrt(sizes)) / rows for rows, std in sides)),
            of_window=_covariance(pooled, *sides[0], sizes),
            of_reference=_covariance(pooled, *sides[1], sizes),
            small=sum(
                (np.maximum(LEAST / rows - pooled, 0.0) / rows for rows, _ in sides), np.zeros(sizes.size)
            ),
        )

    @property
    def difference(self) -> Vector:
        """(g,), sums to 0."""
        return self.window - self.reference

    @property
    def covariance(self) -> Matrix:
        """Of `difference`, (g, g), without drift."""
        return self.of_window + self.of_reference

    @property
    def least(self) -> Vector:
        """`pooled`, and at least `floor`, (g,)."""
        return np.maximum(self.pooled, self.floor)


def _covariance(shares: Vector, rows: float, noise_std: float, sizes: Vector) -> Matrix:
    """Of shares from `rows` sampled rows whose counts have noise, (g, g); `sizes` are the bins of each group. The total is noisy as well."""
    sampled = np.diag(shares) - np.outer(shares, shares)
    centred = np.eye(shares.size) - np.outer(shares, np.ones(shares.size))
    noise = centred @ np.diag(sizes * noise_std**2) @ centred.T
    found: Matrix = sampled / rows + noise / rows**2
    return found
