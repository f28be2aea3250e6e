"""Two versions side by side: figures, weights, plans in words, privacy, and whose rows shaped them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.charts import Chart, Series
from coordinator.console.downloads import asked_for, link_to
from coordinator.console.pages.model_figures import LABELS, metrics_of
from coordinator.console.plan_tables import CHANGE_COLUMNS, change_rows
from coordinator.console.reads import models as reads
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.registry.compare import Comparison, compare
from coordinator.registry.versions import find_version
from strategies.dp.units import Guarantee


def show(visit: Visit) -> Response:
    """The comparison that the address names, else the form."""
    first, second = (visit.query.get(each, "").strip() for each in ("first", "second"))
    offered = [each.ref for each in reads.page(visit.centre.engine).rows]
    if not (first and second):
        return visit.page("compare.html", found=None, offered=offered, filled=(first, second))
    versions = [find_version(visit.centre.engine, each) for each in (first, second)]
    found = compare(visit.centre, *versions)
    refs = tuple(each.ref for each in versions)
    tables = [_metrics(found, refs), _plans(found), _sides(found, refs)]
    return asked_for(visit, tables) or visit.page(
        "compare.html",
        found=found,
        offered=list(dict.fromkeys([*refs, *offered])),
        filled=refs,
        charts=_charts(found, refs),
        tables=[(each, link_to(visit, each)) for each in tables],
        weights=_weights(found),
    )


def _metrics(found: Comparison, refs: tuple[str, ...]) -> Table:
    rows = []
    for name, (one, other) in found.metrics.items():
        apart = None if one is None or other is None else other - one
        rows.append(
            [
                Cell(LABELS.get(name, name.replace("_", " ").capitalize())),
                _figure(one),
                _figure(other),
                _figure(apart, "+.4g"),
            ]
        )
    return Table(
        name="figures",
        caption="Figures",
        columns=[
            Column("Metric"),
            *(Column(each, number=True) for each in refs),
            Column("Difference", number=True),
        ],
        rows=rows,
        empty="Neither version has figures of an evaluation.",
    )


def _plans(found: Comparison) -> Table:
    return Table(
        name="plans",
        caption="How their plans differ",
        columns=CHANGE_COLUMNS,
        rows=change_rows(found.plan),
        empty="They come of the same plan.",
    )


def _sides(found: Comparison, refs: tuple[str, ...]) -> Table:
    """What each is, beside the other."""
    sides = found.first, found.second
    costs = found.plan.cost_old, found.plan.cost_new
    shared = set(found.first.participants) & set(found.second.participants)
    only = [sorted(set(each.participants) - shared) for each in sides]
    rows: Sequence[tuple[str, Sequence[Cell]]] = (
        ("Stage", [Cell(str(each.version.stage)) for each in sides]),
        ("Run", [Cell(each.version.run_id, href=f"/runs/{each.version.run_id}") for each in sides]),
        (
            "Plan",
            [Cell(each.plan.digest, text=f"{each.plan.name} {each.plan.digest[:12]}") for each in sides],
        ),
        ("Rounds", [Cell(each.rounds) for each in sides]),
        ("Costs at most", [Cell(_cost(each)) for each in costs]),
        ("Participants of both", [Cell(len(shared), text=f"{len(shared)} sites")] * 2),
        ("Participants of this one only", [Cell(", ".join(each) or "none") for each in only]),
        (
            "Registry digest",
            [Cell(each.version.digest, text=each.version.digest[:12], code=True) for each in sides],
        ),
    )
    return Table(
        name="sides",
        caption="What they are",
        columns=[Column("What"), *(Column(each) for each in refs)],
        rows=[[Cell(label), *cells] for label, cells in rows],
    )


def _charts(found: Comparison, refs: tuple[str, ...]) -> Sequence[Chart]:
    """Figures from 0 to 1 as bars, and both calibrations in one picture."""
    drawn = {
        label: found.metrics[key]
        for key, label in LABELS.items()
        if key in found.metrics and key != "log_loss" and all(each is not None for each in found.metrics[key])
    }
    if not drawn:
        return ()
    metrics = [metrics_of(each.version.metrics) for each in (found.first, found.second)]
    lines = [
        Series(name=ref, points=[(group.mean_score, group.observed) for group in each.calibration])
        for ref, each in zip(refs, metrics, strict=True)
        if each is not None
    ]
    calibrated = Series(name="calibrated", points=[(0.0, 0.0), (1.0, 1.0)], dashed=True)
    return [
        Chart(
            name="beside",
            title="Figures beside each other",
            x="metric",
            y="value",
            axis="category",
            y_from=0.0,
            y_to=1.0,
            series=[
                Series(name=ref, kind="bar", points=[(label, both[place]) for label, both in drawn.items()])
                for place, ref in enumerate(refs)
            ],
        ),
        Chart(
            name="calibrations",
            title="Calibration of both: a calibrated model lies on the dashed line",
            x="mean score of a group of rows",
            y="share of positives",
            y_from=0.0,
            series=[*lines, calibrated],
        ),
    ]


def _weights(found: Comparison) -> str:
    apart = found.distance
    if apart is None:
        return "The models have other shapes, so their weights cannot be compared."
    relative = "" if apart.relative is None else f", {apart.relative:.2%} of the first"
    cosine = "" if apart.cosine is None else f"; the cosine of the angle between them is {apart.cosine:.4f}"
    return f"{apart.parameters} weights lie {apart.l2:.4g} apart (L2{relative}), at most {apart.largest:.4g} in one{cosine}."


def _cost(cost: Guarantee | None) -> str:
    return "everything: privacy mode none promises nothing" if cost is None else cost.words


def _figure(value: float | None, form: str = ".4f") -> Cell:
    return Cell(value, text=None if value is None else format(value, "g" if value.is_integer() else form))


ROUTES: Final = (Route("/models/compare", show, "covenant.control.v1.Models/GetLineage"),)
