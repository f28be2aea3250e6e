"""What the page of one run draws: learning curves, seconds and bytes by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordinator.console.charts import Chart, Series
from coordinator.console.pages.run_tables import NOTHING_NOTED, figure
from coordinator.console.reads.progress import MOST_LINES, Point


def charts_of(
    points: Sequence[Point], slow: Sequence[tuple[str, Sequence[tuple[int, float]]]]
) -> Sequence[Chart]:
    """Learning curves, seconds and bytes by round, and how long each of the slowest sites took; none before a round was committed."""
    if not points:
        return ()
    return (
        _metric_chart(
            points,
            "auc",
            "Area under the ROC curve",
            {"AUC": "auc", "KS": "ks", "AUC of the champion": "champion"},
            (0.0, 1.0),
        ),
        _metric_chart(
            points,
            "loss",
            "Loss on held-out rows",
            {"Log loss in nats": "log_loss", "Brier score": "brier"},
            None,
        ),
        Chart(
            name="seconds",
            title="Seconds by round",
            x="Round",
            y="Seconds",
            series=_by_round(
                points,
                {
                    "Waiting for sites": lambda p: p.exchange_s,
                    "At the centre": lambda p: (
                        None
                        if p.seconds is None or p.exchange_s is None
                        else max(0.0, p.seconds - p.exchange_s)
                    ),
                },
            ),
            y_from=0.0,
            empty="No round was committed yet.",
        ),
        Chart(
            name="bytes",
            title="Bytes by round, all sites together",
            x="Round",
            y="Megabytes",
            series=_by_round(
                points,
                {
                    "Sent to sites": lambda p: p.sent / 1e6,
                    "Came from sites": lambda p: p.received / 1e6,
                },
            )
            if any(each.sent for each in points)
            else (),
            y_from=0.0,
            empty=NOTHING_NOTED,
        ),
        _slowest(slow),
    )


def _by_round(
    points: Sequence[Point], values: dict[str, Callable[[Point], float | None]]
) -> Sequence[Series]:
    return [
        Series(name=name, kind="bar", stack="all", points=[(each.number, value(each)) for each in points])
        for name, value in values.items()
        if points
    ]


def _metric_chart(
    points: Sequence[Point],
    name: str,
    title: str,
    values: dict[str, str],
    bounds: tuple[float, float] | None,
) -> Chart:
    series = [
        Series(
            name=label,
            dashed=key == "champion",
            points=[
                (each.number, found) for each in points if (found := figure(each.metrics, key)) is not None
            ],
        )
        for label, key in values.items()
    ]
    return Chart(
        name=name,
        title=title,
        x="Round",
        y="",
        series=[each for each in series if each.points],
        y_from=None if bounds is None else bounds[0],
        y_to=None if bounds is None else bounds[1],
        empty="No round was evaluated yet. The plan says every how many rounds one is.",
    )


def _slowest(sites: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> Chart:
    """Seconds that the slowest sites took in the training stage."""
    return Chart(
        name="site-seconds",
        title=f"Seconds that sites took to answer, by round (at most the {MOST_LINES} slowest)",
        x="Round",
        y="Seconds",
        series=[Series(name=site, points=points) for site, points in sites],
        y_from=0.0,
        empty=NOTHING_NOTED,
    )
