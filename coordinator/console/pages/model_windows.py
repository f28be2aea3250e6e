"""How a version fares where it runs: its windows by place with their figures, where those are going, and its alarms with their evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.downloads import asked_for, link_to
from coordinator.console.pages.model_figures import LABELS
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words
from coordinator.console.visit import Visit
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.forecasting import figure_of
from coordinator.deploy.monitoring.words import going, largest, rows_of, says
from coordinator.registry.versions import find_version
from protos import monitors_pb2 as wire

SERVICE: Final = "covenant.monitor.v1.Monitors/"
WINDOWS: Final = f"{SERVICE}GetWindows"
ACKNOWLEDGE: Final = f"{SERVICE}AcknowledgeAlarm"
_MOST_DRAWN: Final = 5
"""Series of one chart: those whose newest figure is the largest."""


def show(visit: Visit) -> Response:
    """Windows, forecasts and alarms of a version. Raises UsageError for one that nobody watches."""
    version = find_version(visit.centre.engine, visit.path["model"])
    found = views.windows(visit.centre.engine, version.name, version.version)
    alarms = [
        each
        for each in views.alarms(visit.centre.engine)
        if (each["model"], each["version"]) == (version.name, version.version)
    ]
    tables = [_alarms(alarms)]
    for number, place in enumerate(found["places"], start=1):
        tables += [_windows(number, place), _forecasts(number, place)]
    return asked_for(visit, tables) or visit.page(
        "model_windows.html",
        version=version,
        rules=found["rules"],
        open=[each for each in alarms if each["acknowledged_at"] is None],
        may_acknowledge=visit.may(ACKNOWLEDGE),
        charts=[
            _drawn(number, place, found["rules"]["threshold_psi"])
            for number, place in enumerate(found["places"], start=1)
            if place["of"] == "decisions"
        ],
        tables=[(each, link_to(visit, each)) for each in tables],
    )


def acknowledge(visit: Visit) -> Response:
    """Say that an alarm has been seen."""
    alarm = visit.form.get("alarm", "")
    visit.ask(
        ACKNOWLEDGE,
        wire.AcknowledgeAlarmRequest(
            request_id=visit.form.get("request_id", ""), alarm=alarm, why=visit.form.get("why", "").strip()
        ),
    )
    return visit.go(
        f"/models/{visit.path['model']}/windows",
        words("{alarm} is acknowledged: the next window that drifts raises another", alarm=alarm),
    )


def _windows(number: int, place: Mapping[str, Any]) -> Table:
    return Table(
        name=f"windows-{number}",
        caption=words("Windows of {of} at {place}", of=place["of"], place=place["place"]),
        columns=[
            Column("Window", number=True),
            Column("From"),
            Column("To"),
            Column("Rows", number=True),
            Column("Largest PSI, or AUC"),
            Column("State"),
            Column("What it says"),
        ],
        rows=[
            (
                Cell(each["number"]),
                Cell(datetime.fromisoformat(each["begins"])),
                Cell(datetime.fromisoformat(each["ends"])),
                Cell(rows_of(each)),
                Cell(largest(each)),
                _state(each),
                Cell(says(each)),
            )
            for each in reversed(place["windows"])
        ],
    )


def _state(window: Mapping[str, Any]) -> Cell:
    if window["moved"]:
        return Cell("moved", tone="bad")
    return Cell("not moved", tone="good") if window["said"] is None else Cell("says nothing", tone="quiet")


def _forecasts(number: int, place: Mapping[str, Any]) -> Table:
    return Table(
        name=f"forecasts-{number}",
        caption=words("Forecasts for {of} at {place}", of=place["of"], place=place["place"]),
        columns=[
            Column("Figure"),
            Column("Now", number=True),
            Column("Threshold", number=True),
            Column("Forecast, 80 %"),
        ],
        rows=[
            (
                Cell(LABELS.get(name, name)),
                _figure(told["values"][-1]),
                _figure(told["threshold"]),
                Cell(going(told)),
            )
            for name, told in place["forecasts"].items()
        ],
        empty="No window has told figures yet.",
    )


def _figure(value: float) -> Cell:
    return Cell(value, text=f"{value:.3f}")


def _drawn(number: int, place: Mapping[str, Any], threshold: float) -> Chart:
    series = {name: list(_points(name, place["windows"])) for name in place["forecasts"]}
    newest = sorted(series, key=lambda name: series[name][-1][1], reverse=True)[:_MOST_DRAWN]
    return Chart(
        name=f"psi-{number}",
        title=words("PSI by window at {place}", place=place["place"]),
        x="end of the window",
        y="PSI",
        axis="time",
        y_from=0.0,
        bounds=[Bound(name="threshold", at=threshold)],
        series=[Series(name=name, points=series[name]) for name in newest],
        empty="No window has told figures yet.",
    )


def _points(name: str, windows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for each in windows:
        value = figure_of(each["streams"].get(name, {}))
        if value is not None:
            yield each["ends"], value


def _alarms(found: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="alarms",
        caption="Alarms",
        columns=[
            Column("Alarm"),
            Column("Raised"),
            Column("Place"),
            Column("Cause"),
            Column("Why it is thought so"),
            Column("Seen by"),
        ],
        rows=[
            (
                Cell(each["id"], tone="quiet" if each["acknowledged_at"] else "bad"),
                Cell(datetime.fromisoformat(each["raised_at"])),
                Cell(each["place"]),
                Cell(each["cause"]),
                Cell("; ".join((each["words"], *each["evidence"]))),
                Cell(
                    None if each["acknowledged_at"] is None else f"{each['acknowledged_by']}: {each['why']}"
                ),
            )
            for each in found
        ],
        empty="No window has moved further than is tolerated.",
    )


ROUTES: Final = (
    Route("/models/{model}/windows", show, WINDOWS),
    Route(
        "/models/{model}/windows/acknowledge",
        acknowledge,
        ACKNOWLEDGE,
        method="POST",
        form="/models/{model}/windows",
    ),
)
