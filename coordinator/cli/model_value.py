"""`covenant model value`: what a version is worth by a bank's own cost matrix, and what it cost, so that a pocket calculator can follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Home, Json, centre_at
from coordinator.registry.versions import find_version
from protos.costs import Costs
from protos.documents import load_document
from protos.files import new_file
from protos.shell import as_written, emit, people, tell

if TYPE_CHECKING:
    from coordinator.worth.sheets import Sheet


def value(
    model: ModelArgument,
    costs: Annotated[
        Path,
        typer.Option("--costs", help="The cost matrix, the volume of a year and rates: costs/v1 in YAML."),
    ],
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Decline from this score on, instead of the document's `decline_at`; repeatable."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the report as one HTML file, with charts.")
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """What a version's decisions come to in money, line by line, with intervals; and what it cost to make. Asks no site, and costs no budget.

    Held-out rows first, then windows of outcomes from where it runs.
    """
    from coordinator.worth.figures import facts_of, value_of
    from coordinator.worth.page import page_of
    from coordinator.worth.sheets import cautions, sheets_of

    stated = load_document(costs, Costs)
    centre = centre_at(home)
    found = value_of(centre, find_version(centre.engine, model), stated, threshold or ())
    if html is not None:
        with new_file(html) as file:
            file.write(page_of(found).encode())
    if json:
        emit(facts_of(found))
        return
    for each in cautions(found):
        tell(f"- {each}")
    for source, sheets in sheets_of(found):
        if source is not None:
            tell(f"{source.title}: {source.cannot}" if source.cannot else f"{source.title}:")
        for sheet in sheets:
            _show(sheet)
    if html is not None:
        tell(f"wrote {html}")


def _show(sheet: Sheet) -> None:
    table = Table(title=as_written(sheet.title), title_justify="left")
    for place, each in enumerate(sheet.columns):
        table.add_column(as_written(each), justify="right" if place else "left")
    last = len(sheet.rows) - 1
    for place, row in enumerate(sheet.rows):
        table.add_row(*map(as_written, row), end_section=sheet.sums and place == last - 1)
    if sheet.rows:
        people.print(table)
    for note in sheet.notes:
        tell(note)
