"""The value of a version as one HTML file: it asks nothing of the network and runs nothing; everything is escaped but this program's own charts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from coordinator.governance.evidence.charts import banded
from coordinator.worth.figures import Value, Valued
from coordinator.worth.sheets import cautions, sheets_of

_TEMPLATES: Final = Path(__file__).parent / "templates"
_MOST_CHARTS: Final = 12


def page_of(value: Value) -> str:
    """The file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = list(sheets_of(value))
    return environment.get_template("value.html.j2").render(
        value=value,
        cautions=list(cautions(value)),
        sources=[
            (source, sheets, chart_of(source, value.costs.currency) if number < _MOST_CHARTS else "")
            for number, (source, sheets) in enumerate(found)
            if source is not None
        ],
        spent=[sheet for source, sheets in found if source is None for sheet in sheets],
    )


def chart_of(found: Valued, currency: str) -> str:
    """What a decision costs over all thresholds, with the interval of each, as SVG; nothing without counts. Safe to be put into a page as it is."""
    from markupsafe import Markup

    if found.best is None:
        return ""
    marks = [(each.at, f"{each.at:.3g}") for each in found.thresholds]
    if found.best_at not in {each.at for each in found.thresholds}:
        marks.append((found.best_at, f"cheapest here, {found.best_at:.3g}"))
    words = "; ".join(
        f"from {each.at:.3g}: {each.decision.value:.2f} ({each.decision.low:.2f} to {each.decision.high:.2f})"
        for each in found.thresholds
    )
    drawn = banded(
        found.curve,
        f"Expected cost of a decision over thresholds, {found.title}",
        f"{currency} a decision, declining {words}; cheapest on these counts from {found.best_at:.3g}: {found.best.cost.value:.2f}",
        ("declining from this score on", f"{currency} a decision, 95 % interval"),
        marks,
    )
    return Markup(drawn)  # noqa: S704  (this program's own chart, in which names are escaped)
