"""Model quality from two histograms of scores, the only thing a site reports about its held-out rows.

1. A site counts its rows by label and score bin; counts add up over sites.
2. Every metric is exact for rows that score at their bin's midpoint: with B bins a score is off by at most 1 / (2 B).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from strategies.analytics.panels import Panels
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

Counts: TypeAlias = npt.NDArray[np.int64]
"""(2, bins) int64: rows with label 0, then rows with label 1, by score bin."""

_LABELS: Final = 2
_CALIBRATION_GROUPS: Final = 10
_EXACT_INTEGERS: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One group of rows with similar scores: a calibrated model has `observed` close to `mean_score`."""

    mean_score: float
    observed: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMetrics:
    """Quality of a binary score on `rows` rows, `positives` of them positive.

    `auc` counts ties half; `log_loss` is in nats a row; `ks` is the largest distance between the two classes' score
    distributions; `brier` is the mean squared error; `calibration` has at most ten groups of equal score range, lowest
    first, none empty.
    """

    rows: int
    positives: int
    auc: float
    log_loss: float
    ks: float
    brier: float
    calibration: tuple[CalibrationBin, ...]
    auc_interval: tuple[float, float] | None = None
    """95 %, where the counts have noise (`noisy.noisy_metrics`)."""
    noise_std: Mapping[str, float] | None = None
    """Standard deviation that noise gives auc, ks, brier, log_loss, the calibration gap (`spread`) and the rows of a `group` of calibration; None where
    the counts are exact."""
    champion: Self | None = None
    """The same of the plan's champion, on the same rows and from the same release."""
    panels: Panels | None = None
    """What the plan has counted beside scores, of the model itself: groups, attributions, a profile."""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Read back what `dataclasses.asdict` made, through JSON or not, also of a version that knew fewer fields."""
        interval, champion, panels = (facts.get(key) for key in ("auc_interval", "champion", "panels"))
        return cls(
            **{
                **facts,
                "calibration": tuple(CalibrationBin(**each) for each in facts["calibration"]),
                "auc_interval": None if interval is None else tuple(interval),
                "champion": None if champion is None else cls.from_facts(champion),
                "panels": None if panels is None else Panels.from_facts(panels),
            }
        )


def score_counts(scores: Vector, labels: npt.NDArray[Any], bins: int) -> Counts:
    """Count rows by label and score: (2, bins) int64 over uniform bins on [0, 1], the last one closed.

    `scores` is (n,) in [0, 1], `labels` is (n,) of 0 and 1. Raises UsageError for anything else.
    """
    if bins < 1:
        raise UsageError(f"the number of score bins is {bins}; use at least 1")
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise UsageError(f"scores have shape {scores.shape} and labels {labels.shape}; use one (n,) for both")
    if not ((scores >= 0.0) & (scores <= 1.0)).all():  # phrased so that NaN is refused
        raise UsageError("a score is NaN or lies outside [0, 1]; scores are probabilities")
    if not ((labels == 0) | (labels == 1)).all():
        raise UsageError("a label is neither 0 nor 1; encode the target first")
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    place += bins * labels.astype(np.int64)
    return np.bincount(place, minlength=_LABELS * bins).astype(np.int64).reshape(_LABELS, bins)


def counts_from(total: Vector, bins: int) -> Counts:
    """Read a (2 bins,) float64 sum over sites back as (2, bins) int64 counts.

    Raises Refused when the length is wrong or a value is not a count: negative, fractional or beyond 2^53.
    """
    if total.shape != (_LABELS * bins,):
        raise Refused(f"the score counts have shape {total.shape}; {bins} bins take {_LABELS * bins} values")
    if not ((total >= 0.0) & (total <= _EXACT_INTEGERS) & (total == np.floor(total))).all():
        raise Refused(
            "a score count is negative, fractional or beyond 2^53; counts are whole numbers of rows"
        )
    return total.astype(np.int64).reshape(_LABELS, bins)


def metrics_from(counts: Counts) -> ScoreMetrics:
    """Metrics of the rows in `counts`, (2, bins) int64.

    Raises UsageError for another shape or a negative count, Refused when a class has no rows: no metric compares one
    class with nothing.
    """
    if counts.ndim != 2 or counts.shape[0] != _LABELS or counts.size == 0 or counts.min() < 0:  # noqa: PLR2004
        raise UsageError(
            f"score counts have shape {counts.shape}; use (2, bins) of whole numbers, none negative"
        )
    negatives, positives = (int(row.sum()) for row in counts)
    if not negatives or not positives:
        absent = "negative" if not negatives else "positive"
        raise Refused(f"the held-out rows have no {absent} example; metrics need both classes")
    rows = negatives + positives
    middles = (np.arange(counts.shape[1]) + 0.5) / counts.shape[1]
    losses = counts[0] * np.log1p(-middles) + counts[1] * np.log(middles)
    squares = counts[0] * middles**2 + counts[1] * (1.0 - middles) ** 2
    return ScoreMetrics(
        rows=rows,
        positives=positives,
        auc=_auc(counts, negatives, positives),
        log_loss=float(-losses.sum() / rows),
        ks=float(np.abs(np.cumsum(counts[0]) / negatives - np.cumsum(counts[1]) / positives).max()),
        brier=float(squares.sum() / rows),
        calibration=_calibration(counts, middles),
    )


def _auc(counts: Counts, negatives: int, positives: int) -> float:
    """Share of (negative, positive) pairs ranked rightly, ties half: Hanley and McNeil 1982.

    In Python integers, because the number of pairs outgrows int64 beyond 3e9 rows a class.
    """
    below = doubled = 0
    for negative, positive in zip(counts[0].tolist(), counts[1].tolist(), strict=True):
        doubled += positive * (2 * below + negative)
        below += negative
    return float(doubled / (2 * negatives * positives))


def _calibration(counts: Counts, middles: Vector) -> tuple[CalibrationBin, ...]:
    """Mean score against share of positives, by ranges of the score that bins fall into whole."""
    bins = len(middles)
    groups = min(_CALIBRATION_GROUPS, bins)
    group_of = np.arange(bins) * groups // bins
    rows = counts.sum(axis=0)
    found = []
    for group in range(groups):
        inside = group_of == group
        size = int(rows[inside].sum())
        if size:
            mean_score = float((rows[inside] * middles[inside]).sum() / size)
            found.append(CalibrationBin(mean_score, int(counts[1, inside].sum()) / size, size))
    return tuple(found)
