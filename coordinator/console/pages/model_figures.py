"""How well a version does, as tables and charts: figures with what noise gives them, beside the champion's on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from coordinator.console.charts import Chart, Series
from coordinator.console.tables import Cell, Column, Table
from strategies.analytics.histograms import CalibrationBin, ScoreMetrics

LABELS: Final[Mapping[str, str]] = {
    "auc": "AUC",
    "ks": "KS",
    "brier": "Brier score",
    "log_loss": "Log loss, nats a row",
}
_SURE: Final = 1.959964
"""Standard deviations about a value within which 95 % lie."""
_NONE: Final = "No evaluation of this version's weights is recorded: the plan's evaluation has to end with its last round (`evaluation.every`)."


def metrics_of(facts: Mapping[str, Any] | None) -> ScoreMetrics | None:
    """The registered metrics, if there are any."""
    return None if facts is None else ScoreMetrics.from_facts(facts)


def metrics_table(found: ScoreMetrics | None, champion: str | None) -> Table:
    """Figures with 95 % intervals, and the champion's."""
    beside = [Column(champion or "Champion", number=True), Column("Difference", number=True)]
    compared = found is not None and found.champion is not None
    return Table(
        name="metrics",
        caption="Metrics on held-out rows",
        columns=[
            Column("Metric"),
            Column("Value", number=True),
            Column("95 % interval"),
            *(beside if compared else ()),
        ],
        rows=[] if found is None else [_metric(found, key, label) for key, label in LABELS.items()],
        empty=_NONE,
    )


def charts(found: ScoreMetrics | None) -> Sequence[Chart]:
    """Calibration, the distribution of scores, and the ROC curve where the groups have all rows."""
    if found is None or not found.calibration:
        return ()
    return [_calibration(found), _scores(found), *_roc(found)]


def _metric(found: ScoreMetrics, key: str, label: str) -> Sequence[Cell]:
    value, std = float(getattr(found, key)), float((found.noise_std or {}).get(key, 0.0))
    if key == "auc" and found.auc_interval is not None:
        low, high = found.auc_interval
        interval = f"{low:.4f} to {high:.4f}, for noise and sampling of rows"
    elif std:
        interval = f"{value - _SURE * std:.4f} to {value + _SURE * std:.4f}, for noise"
    else:
        interval = "exact on these rows"
    cells = [Cell(label), Cell(value, text=f"{value:.4f}"), Cell(interval)]
    if found.champion is not None:
        theirs = float(getattr(found.champion, key))
        cells += [Cell(theirs, text=f"{theirs:.4f}"), Cell(value - theirs, text=f"{value - theirs:+.4f}")]
    return cells


def _calibration(found: ScoreMetrics) -> Chart:
    points = [(each.mean_score, each.observed) for each in found.calibration]
    ends = [min(x for x, _ in points), max(x for x, _ in points)]
    theirs = () if found.champion is None else found.champion.calibration
    return Chart(
        name="calibration",
        title="Calibration: a calibrated model lies on the dashed line",
        x="mean score of a group of rows",
        y="share of positives",
        y_from=0.0,
        series=[
            Series(name="this version", points=points),
            *_champion([(each.mean_score, each.observed) for each in theirs]),
            Series(name="calibrated", points=[(x, x) for x in ends], dashed=True),
        ],
    )


def _scores(found: ScoreMetrics) -> Chart:
    """The groups have equal ranges of the score, so each is named by its tenth."""
    named = [(f"{each.mean_score:.2f}", each) for each in found.calibration]
    noisy = ", as counted with noise" if (found.noise_std or {}).get("group") else ""
    return Chart(
        name="scores",
        title="How scores are spread over held-out rows",
        x="mean score of a group",
        y=f"rows{noisy}",
        axis="category",
        y_from=0.0,
        series=[
            Series(
                name="negative",
                kind="bar",
                stack="rows",
                points=[(name, round(each.rows * (1.0 - each.observed), 1)) for name, each in named],
            ),
            Series(
                name="positive",
                kind="bar",
                stack="rows",
                points=[(name, round(each.rows * each.observed, 1)) for name, each in named],
            ),
        ],
    )


def _roc(found: ScoreMetrics) -> Iterator[Chart]:
    if sum(each.rows for each in found.calibration) != found.rows:
        return  # noise hides groups: what is left would draw another curve
    theirs = found.champion
    whole = theirs is not None and sum(each.rows for each in theirs.calibration) == theirs.rows
    yield Chart(
        name="roc",
        title=f"ROC at the edges of {len(found.calibration)} groups of scores",
        x="share of negatives that score as high",
        y="share of positives",
        y_from=0.0,
        y_to=1.0,
        series=[
            Series(name="this version", points=_curve(found.calibration)),
            *_champion(_curve(theirs.calibration) if theirs is not None and whole else ()),
            Series(name="by chance", points=[(0.0, 0.0), (1.0, 1.0)], dashed=True),
        ],
    )


def _champion(points: Sequence[tuple[float, float]]) -> Iterator[Series]:
    if points:
        yield Series(name="champion", points=points)


def _curve(groups: Sequence[CalibrationBin]) -> list[tuple[float, float]]:
    """From the highest scores down: false and true positives as shares."""
    positives = [each.rows * each.observed for each in reversed(groups)]
    negatives = [each.rows * (1.0 - each.observed) for each in reversed(groups)]
    all_positive, all_negative = sum(positives) or 1.0, sum(negatives) or 1.0
    rising = zip(accumulate(negatives), accumulate(positives), strict=True)
    return [(0.0, 0.0), *((no / all_negative, yes / all_positive) for no, yes in rising)]
