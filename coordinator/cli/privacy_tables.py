"""A plan's privacy for people: sentences, tables and a chart on stderr. Every epsilon stands with its delta, unit and neighbours."""

from __future__ import annotations

import math

from rich.table import Table

from coordinator.cli.epsilon_chart import EpsilonChart
from protos.plan_calibration import Calibration
from protos.plan_explanation import Explanation, Figures, StageExplained
from protos.plan_snippet import snippet
from protos.shell import people, tell
from strategies.dp.events import Mechanism

_NAMES = {"prepare": "preparation", "train": "training", "evaluate": "evaluation"}


def chart_of(found: Explanation) -> EpsilonChart | None:
    """The chart of a plan's epsilon; None where nothing is promised."""
    figures = found.figures
    if figures is None or not all(math.isfinite(each.at_most.epsilon) for each in figures.rounds):
        return None
    return EpsilonChart(found.plan, figures.rounds, figures.limit)


def show_explanation(found: Explanation, chart: EpsilonChart | None) -> None:
    """All of an explanation."""
    tell(f"plan {found.plan} {found.digest}")
    tell(f"Privacy mode {found.words}")
    for stage in found.stages:
        people.print(_stage_table(stage))
    if found.figures is not None:
        _show_figures(found.figures)
    for line in [] if chart is None else chart.lines():
        tell(line)
    tell("Not protected, whatever the figures say:" if found.figures else "Not protected:")
    for sentence in found.not_protected:
        tell(f"- {sentence}")


def _stage_table(stage: StageExplained) -> Table:
    table = _pairs(_NAMES[stage.stage])
    table.add_row("released", stage.what)
    table.add_row("who sees it", stage.seen)
    again = f", {stage.retries} of them for attempts that come to nothing" if stage.retries else ""
    table.add_row("how often", f"{stage.times} at most{again}" if stage.release else f"{stage.times}")
    table.add_row("noise", stage.noise)
    release = stage.release
    if release is None or release.mechanism is Mechanism.NONE:
        table.add_row("cost", "everything: no noise, no guarantee")
        return table
    steps = "in clipping norms" if release.mechanism is Mechanism.GAUSSIAN else "in steps of the grid"
    table.add_row("noise multiplier", f"{release.noise_multiplier:g} (standard deviation over sensitivity)")
    table.add_row("standard deviation", f"{math.sqrt(release.variance):.6g} {steps}, on the sum")
    table.add_row("sensitivity", f"{release.sensitivity:.6g} {steps}, to one {release.unit.words}")
    table.add_row(
        "sampling rate", f"{release.sampling_rate:g}" if release.sampling_rate < 1.0 else "1: all units"
    )
    if release.steps > 1:
        table.add_row("noisy steps", f"{release.steps} each time")
    if stage.alone is not None:
        table.add_row("cost, it alone", stage.alone.words)
    return table


def _show_figures(figures: Figures) -> None:
    table = _pairs("everything together")
    table.add_row("cost at most", figures.whole.words)
    table.add_row("the plan's limit", figures.limit.words)
    if figures.nobody_colludes is not None:
        table.add_row("if nobody colludes", figures.nobody_colludes.words)
    table.add_row("if only a site's own noise counts", figures.own_noise.words)
    for sites, figure in figures.persons.items():
        table.add_row(f"a person at {sites} site{'s' if sites > 1 else ''}", figure.words)
    for about, figure in figures.tight.items():
        table.add_row(f"{about}, tight (pld)", figure.words)
    people.print(table)
    tell(figures.words)
    if figures.over_limit is not None:
        people.print("[bold red]above its limit:[/]", end=" ")
        tell(f"{figures.over_limit}. `covenant plan check` refuses this plan")


def show_calibration(found: Calibration) -> None:
    """What was fitted, and the lines to paste."""
    tell(f"plan {found.plan.name}, {found.vary} fitted to its budget")
    table = _pairs(None)
    table.add_row("cost before", found.before.words)
    table.add_row("cost now", found.after.words)
    people.print(table)
    tell("In the plan:")
    tell(snippet(found))


def _pairs(title: str | None) -> Table:
    return Table("what", "value", show_header=False, title=title, title_justify="left")
