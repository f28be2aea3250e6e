"""The tables of a page as files: `?format=csv&table=NAME` of the page's own address."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response

from coordinator.console.tables import Table
from coordinator.console.visit import Visit
from strategies.errors import UsageError


def asked_for(visit: Visit, tables: Iterable[Table]) -> Response | None:
    """The table that the address asks for as CSV, the first unless it names one; None where it asks for the page. Raises UsageError for none of these."""
    if visit.query.get("format") != "csv":
        return None
    by_name = {each.name: each for each in tables}
    name = visit.query.get("table", next(iter(by_name), ""))
    if name not in by_name:
        raise UsageError(f"this page has no table {name[:40]!r}; it has {', '.join(by_name)}")
    return visit.table(by_name[name])


def link_to(visit: Visit, table: Table) -> str:
    """Where a table of this page is had as a file."""
    return visit.with_query(format="csv", table=table.name)
