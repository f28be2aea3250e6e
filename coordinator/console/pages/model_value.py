"""What a version is worth by a cost matrix that is pasted, and what it cost. Nothing is kept: the document is read, used and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import HTMLResponse, Response

from coordinator.console.charts import Chart, Series
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words
from coordinator.console.visit import Visit
from coordinator.registry.versions import ModelVersion, find_version
from coordinator.worth.figures import Value, Valued, value_of
from coordinator.worth.page import page_of
from coordinator.worth.sheets import Sheet, cautions, sheets_of
from protos.costs import Costs
from protos.documents import read_document
from strategies.errors import Refused, UsageError

_GET: Final = "covenant.control.v1.Models/GetModel"
_MOST_BYTES: Final = 16 << 10
_A_MINUTE: Final = 30.0
_BURST: Final = 15.0
_DRAWN: Final = 12
_EXAMPLE: Final = """covenant: costs/v1
currency: EUR
approve: {good: -150, bad: 4200}   # costs are positive, income is negative
decline: {good: 20, bad: 0}
decline_at: 0.3
review: {from_score: 0.2, cost: 25, finds: 0.6}
volume_per_year: {least: 90000, most: 120000}
rates: {site_hour: 2, gigabyte: 0.1, approval: 90}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """What the template shows of one source."""

    title: str
    cannot: str
    tables: Sequence[tuple[Table, Sequence[str]]]
    chart: Chart | None


def show(visit: Visit) -> Response:
    """The form."""
    version = find_version(visit.centre.engine, visit.path["model"])
    if visit.path["model"] != version.ref:
        return visit.go(f"/models/{version.ref}/value")
    typed = visit.typed(f"/models/{version.ref}/value")
    return _page(visit, version, typed["costs"] or _EXAMPLE, typed["thresholds"])


def ask(visit: Visit) -> Response:
    """The value by what was typed, as a page or as a file; or what is wrong with it."""
    visit.console.rates.take(f"value {visit.who.name}", burst=_BURST, per_minute=_A_MINUTE)
    version = find_version(visit.centre.engine, visit.path["model"])
    text, thresholds = visit.form.get("costs", ""), visit.form.get("thresholds", "")
    try:
        found = value_of(visit.centre, version, _costs(text), _scores(thresholds))
    except (UsageError, Refused) as error:
        return _page(visit, version, text, thresholds, status=400, trouble=str(error))
    if visit.form.get("form") == "html":
        name = f"value-{version.name}-{version.version}.html"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HTMLResponse(page_of(found), headers=headers)
    return _page(visit, version, text, thresholds, found=found)


def _page(
    visit: Visit,
    version: ModelVersion,
    costs: str,
    thresholds: str,
    *,
    status: int = 200,
    found: Value | None = None,
    trouble: str = "",
) -> Response:
    shown: dict[str, Any] = {"views": (), "spent": (), "cautions": ()}
    if found is not None:
        sheets = list(sheets_of(found))
        shown = {
            "views": [
                _view(source, of_one, found.costs.currency, drawn=number < _DRAWN)
                for number, (source, of_one) in enumerate(sheets)
                if source is not None
            ],
            "spent": [_table(each) for source, of_one in sheets if source is None for each in of_one],
            "cautions": list(cautions(found)),
        }
    return visit.page(
        "model_value.html",
        status=status,
        version=version,
        costs=costs,
        thresholds=thresholds,
        found=found,
        trouble=trouble,
        **shown,
    )


def _costs(text: str) -> Costs:
    """Raises UsageError."""
    if len(text.encode()) > _MOST_BYTES:
        raise UsageError(f"costs have at most {_MOST_BYTES >> 10} KiB; paste a shorter document")
    return read_document(text, Costs, "the costs")


def _scores(text: str) -> Sequence[float]:
    """`0.2, 0.3`. Raises UsageError."""
    try:
        return [float(each) for each in text.replace(",", " ").split()]
    except ValueError as error:
        raise UsageError("thresholds are scores between 0 and 1; write them as 0.2 0.3") from error


def _view(found: Valued, sheets: Sequence[Sheet], currency: str, *, drawn: bool) -> SourceView:
    return SourceView(
        title=found.title,
        cannot=found.cannot,
        tables=[_table(each) for each in sheets],
        chart=_chart(found, sheets[0].name, currency) if sheets and drawn else None,
    )


def _table(sheet: Sheet) -> tuple[Table, Sequence[str]]:
    return (
        Table(
            name=sheet.name,
            caption=sheet.title,
            columns=[Column(each, number=place > 0) for place, each in enumerate(sheet.columns)],
            rows=[[Cell(each) for each in row] for row in sheet.rows],
        ),
        sheet.notes,
    )


def _chart(found: Valued, name: str, currency: str) -> Chart:
    """Expected cost of a decision over thresholds; the ends are declining everybody and nobody."""

    def series(label: str, of: str, *, dashed: bool) -> Series:
        points = [(round(at, 6), round(getattr(each, of), 4)) for at, each in found.curve]
        return Series(name=label, points=points, dashed=dashed)

    return Chart(
        name=f"{name}-curve",
        title=words("Expected cost of a decision over thresholds, {source}", source=found.title),
        x="declining from this score on",
        y=words("cost of a decision, {currency}", currency=currency),
        series=[
            series("expected", "value", dashed=False),
            series("95 %, at least", "low", dashed=True),
            series("95 %, at most", "high", dashed=True),
        ],
    )


ROUTES: Final = (
    Route("/models/{model}/value", show, _GET),
    Route("/models/{model}/value", ask, _GET, "POST", form="/models/{model}/value"),
)
