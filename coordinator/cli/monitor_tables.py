"""Monitoring as tables for people: what is watched, windows with their figures, alarms, alerts; and series of figures as a line of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring.words import going, largest, rows_of, says
from protos.shell import as_written, people, tell

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_MINUTE: Final = 16
_MOST_SHOWN: Final = 24


def sparkline(values: Sequence[float], highest: float) -> str:
    """The latest values as blocks, from 0 to `highest`."""
    top = max([highest, *values[-_MOST_SHOWN:]]) or 1.0
    return "".join(_BLOCKS[min(7, max(0, round(value / top * 7)))] for value in values[-_MOST_SHOWN:])


def monitors_table(found: Facts) -> None:
    """What is watched."""
    table = Table("model", "windows", "latest", "says", "false alarms", "alarm", title="watched")
    for each in found:
        rules, alarm = each["rules"], each["alarm"]
        latest = "\n".join(f"{one['place']} {one['number']} ({one['of']})" for one in each["latest"])
        told = "\n".join(says(one) for one in each["latest"])
        rate = f"at most {rules['false_alarm_rate']:g} in {rules['horizon']} windows"
        cells = (f"{each['model']}@{each['version']}", str(each["windows"]), latest, told, rate)
        table.add_row(*map(as_written, (*cells, "" if alarm is None else f"{alarm['id']}: {alarm['cause']}")))
    people.print(table)


def show_windows(found: dict[str, Any]) -> None:
    """The windows of a version."""
    if not found["places"]:
        tell(f"no window of {found['model']}@{found['version']} has come yet")
    for name, gaps in found["missing"].items():
        told = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in gaps)
        tell(
            f"{name}: windows of sequence {told} are not here: the place keeps them back, or they were refused"
        )
    for place in found["places"]:
        _windows_table(place)
        if place["forecasts"]:
            _forecasts_table(place)


def alarms_table(found: Facts) -> None:
    """Alarms with their evidence."""
    if not found:
        tell("no alarm is open")
    for each in found:
        tell(
            f"{each['id']} of {each['model']}@{each['version']} at {each['place']}, raised {each['raised_at'][:_MINUTE]} UTC: {each['cause']}"
        )
        for line in (each["words"], *each["evidence"]):
            tell(f"  {line}")
        if each["acknowledged_at"] is not None:
            tell(
                f"  acknowledged by {each['acknowledged_by']} {each['acknowledged_at'][:_MINUTE]} UTC: {each['why']}"
            )


def alerts_table(found: Facts) -> None:
    """Alerts and what became of them."""
    table = Table("about", "channel", "made", "tries", "state", title="alerts")
    for each in found:
        if each["delivered_at"] is not None:
            state = f"delivered {each['delivered_at'][:_MINUTE]}"
        elif each["given_up_at"] is not None:
            state = f"given up: {each['trouble']}"
        else:
            state = "waits" if each["trouble"] is None else f"waits: {each['trouble']}"
        cells = (each["about"], each["channel"], each["made_at"][:_MINUTE], str(each["tries"]), state)
        table.add_row(*map(as_written, cells))
    people.print(table)


def show_taken(taken: Sequence[dict[str, Any]]) -> None:
    """What became of windows that came."""
    for each in taken:
        tell(
            f"{each['place']}: {each['new']} new windows"
            + "".join(f", raised {alarm}" for alarm in each["alarms"])
        )
        for why in each["refused"]:
            tell(f"  refused: {why}")


def _windows_table(place: dict[str, Any]) -> None:
    table = Table("window", "from", "rows", "largest", "says", title=f"{place['place']}: {place['of']}")
    for each in place["windows"]:
        rows = "" if (count := rows_of(each)) is None else str(count)
        table.add_row(
            *map(
                as_written,
                (str(each["number"]), each["begins"][:_MINUTE], rows, largest(each), says(each)),
            )
        )
    people.print(table)


def _forecasts_table(place: dict[str, Any]) -> None:
    table = Table(
        "figure", "so far", "now", "threshold", "forecast (80 %)", title=f"where {place['place']} is going"
    )
    for name, told in place["forecasts"].items():
        values, threshold = told["values"], told["threshold"]
        cells = (name, sparkline(values, threshold), f"{values[-1]:.3f}", f"{threshold:.3f}", going(told))
        table.add_row(*map(as_written, cells))
    people.print(table)
