"""Plans: what was proposed, and how far each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console import plan_tables as tables
from coordinator.console.reads import plans as reads
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.office.standing import PlanStanding
from protos.membership import Role

_LIST: Final = "covenant.governance.v1.Plans/ListPlans"
_PAGE: Final = 25
_MOST_START: Final = 1_000_000
_DIGITS: Final = 10


def show_all(visit: Visit) -> Response:
    """All plans, the latest first."""
    table = _list(visit)
    return visit.table(table) if visit.query.get("format") == "csv" else visit.page("plans.html", plans=table)


def _list(visit: Visit) -> Table:
    start = start_in(visit.query, "from")
    found = reads.lines(visit.centre, start, _PAGE + 1)
    return Table(
        name="plans",
        caption="Plans that were proposed",
        columns=[
            Column("Plan"),
            Column("Digest"),
            Column("Proposed"),
            Column("Author"),
            Column("Approved by"),
            Column("Standing"),
            Column("Who must still sign"),
        ],
        rows=[_row(each) for each in found[:_PAGE]],
        empty="No plan was proposed yet. An engineer proposes one with `covenant plan sign --access`.",
        newer=visit.with_query(**{"from": str(max(0, start - _PAGE)) if start > _PAGE else None})
        if start
        else None,
        older=visit.with_query(**{"from": str(start + _PAGE)}) if len(found) > _PAGE else None,
    )


def _row(line: reads.Line) -> Sequence[Cell]:
    each = line.standing
    return (
        Cell(each.plan, href=address_of(each)),
        Cell(each.digest, text=each.digest[: tables.SHOWN], code=True),
        Cell(line.proposed_at),
        Cell(each.author),
        Cell(", ".join(f"{one.officer} ({Role(one.role).words})" for one in each.approvals) or None),
        standing_cell(each),
        Cell(missing_words(each)),
    )


def address_of(standing: PlanStanding) -> str:
    """Where the page of a plan is."""
    return f"/plans/{standing.digest}?contract={standing.contract_digest}"


def standing_cell(standing: PlanStanding) -> Cell:
    """In one word, how far a plan is."""
    if standing.approved:
        return Cell("approved", tone="good")
    return (
        Cell("waits for approval", tone="warn")
        if standing.missing
        else Cell("cannot be launched", tone="bad")
    )


def missing_words(standing: PlanStanding) -> str | None:
    """Who must still sign; None where nobody must."""
    lacking = [
        f"{each.asked - each.given} {Role(each.role).words}: {' or '.join(each.could) or 'nobody on the list could'}"
        for each in standing.missing
    ]
    return "; ".join(lacking) or None


def start_in(query: Mapping[str, str], name: str) -> int:
    """Where a list begins, by a field of the address; 0 for what is no number."""
    given = query.get(name, "0")
    return (
        min(int(given), _MOST_START) if given.isascii() and given.isdecimal() and len(given) < _DIGITS else 0
    )


ROUTES: Final = (Route("/plans", show_all, _LIST),)
