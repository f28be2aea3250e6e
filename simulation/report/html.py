"""The report as one HTML file that asks nothing of the network and runs nothing: it can be mailed, archived and printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulation.report.charts import charts
from simulation.report.gates import Verdict
from simulation.report.tables import facts, figures, gates_table, rounds_table, sites_table
from simulation.report.words import has_passed, printable, protections, summary
from simulation.result import SimulationResult

_TEMPLATES: Final = Path(__file__).parent / "templates"


def html(result: SimulationResult, verdicts: Sequence[Verdict]) -> str:
    """The whole page. Equal results give equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The only markup that isn't escaped: matplotlib's, in which names from the result are escaped as text.
    drawn = [
        (chart, None if chart.svg is None else Markup(chart.svg))  # noqa: S704
        for chart in charts(result, verdicts)
    ]
    page = environment.get_template("report.html.j2").render(
        result=result,
        passed=has_passed(result, verdicts),
        summary=summary(result, verdicts),
        gates=gates_table(verdicts),
        verdicts=verdicts,
        figures=figures(result),
        protections=protections(result),
        charts=drawn,
        sites=sites_table(result),
        rounds=rounds_table(result),
        facts=facts(result),
    )
    return printable(page)
