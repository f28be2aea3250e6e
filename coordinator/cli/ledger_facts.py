"""Accounts as the control API tells them, for people or as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from protos.shell import emit, people


def show_facts_of_all(found: Sequence[dict[str, Any]], *, json: bool) -> None:
    """All accounts, one a line."""
    if json:
        emit({"accounts": list(found)})
        return
    table = Table("account", "ceiling", "spent, reservations included", "of ceiling")
    for each in found:
        table.add_row(_name(each), each["ceiling"]["words"], each["spent"]["words"], _share(each["fraction"]))
    people.print(table)


def show_facts(found: dict[str, Any], *, json: bool) -> None:
    """One account: its figures, its runs and the decisions on its ceiling."""
    if json:
        emit(found)
        return
    table = Table("figure", "guarantee", show_header=False, title=_name(found))
    for name, key in (
        ("ceiling", "ceiling"),
        (f"spent ({_share(found['fraction'])} of the ceiling)", "spent"),
        ("of that opened", "settled"),
        ("spent, tighter accountant (rdp)", "tight"),
        ("spent, if only this site's noise counted", "own_noise_only"),
    ):
        table.add_row(name, found[key]["words"])
    people.print(table)
    for run in found["runs"]:
        people.print(f"{run['run']}: {run['alone']['words']}", highlight=False, markup=False)
    for each in found["history"]:
        people.print(
            f"{each['set_at'][:16]}: {each['ceiling']['words']}, by {', '.join(each['officers'])}: {each['reason']}",
            highlight=False,
            markup=False,
        )


def _name(facts: dict[str, Any]) -> str:
    unit = facts["unit"]
    column = f" {unit['column']}" if unit["column"] else ""
    return f"{facts['site']}/{facts['population']} per {unit['kind']}{column}"


def _share(fraction: float | None) -> str:
    return "more than all" if fraction is None else f"{fraction:.1%}"
