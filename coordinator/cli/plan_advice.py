"""`covenant plan advise`: what the history of runs says about a plan's deadline, batch, minimum and sites."""

from __future__ import annotations

import json as jsons
from typing import Any

from rich.table import Table

from coordinator.cli.options import Access, ContractFile, Home, Json, PlanFile, loop_desk_at
from coordinator.documents import read_draft
from protos.shell import as_written, emit, people, tell


def advise_plan(
    plan: PlanFile,
    contract: ContractFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """What the history of runs like it advises about a plan, beside what it says; changes nothing."""
    parsed, _ = read_draft(plan, contract)
    found = loop_desk_at(home, access).advice(parsed)
    if json:
        emit({"plan": parsed.name, "digest": parsed.digest, **found})
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    table = Table("value", "plan", "advised", "rests on", "why", title=f"from {found['runs']} runs like it")
    for each in found["proposals"]:
        proposed = "nothing" if each["proposed"] is None else _value(each["proposed"])
        cells = (each["what"], _value(each["now"]), proposed, str(each["rests_on"]), each["says"])
        table.add_row(*map(as_written, cells))
    people.print(table)
    if not found["sites"]:
        tell("no site was asked in runs like it")
        return
    sites = Table("site", "asked", "missed", "refused", "longest", title="stages of rounds")
    for each in found["sites"]:
        missed = f"{each['missed']}{' (often)' if each['often'] else ''}"
        cells = (
            each["site"],
            str(each["asked"]),
            missed,
            str(each["refused"]),
            f"{each['longest_seconds']:.1f} s",
        )
        sites.add_row(*map(as_written, cells))
    people.print(sites)


def _value(value: object) -> str:
    return value if isinstance(value, str) else jsons.dumps(value)
