"""`covenant model fairness`: what can be said of a version's data, decisions and production by protected group, each figure with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Home, Json, centre_at
from coordinator.registry.fairness import Line, Stage, data_lines, decision_lines, sentences, stages_of
from coordinator.registry.versions import ModelVersion, find_version
from protos.quantities import thousands
from protos.shell import as_written, emit, people, tell
from strategies.analytics.fairness import Fairness
from strategies.analytics.panels import Panels
from strategies.analytics.reweighing import reweighing
from strategies.errors import UsageError


def fairness(
    model: ModelArgument,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="ATTRIBUTE=GROUP: compare with this group and not with the largest; repeatable.",
        ),
    ] = None,
    reweigh: Annotated[
        bool,
        typer.Option(
            help="Also print weights for `training.reweigh` of the next plan: group and label are independent under them.",
        ),
    ] = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Fairness by protected group: representation, decisions on held-out rows, and decisions where it runs. Asks no site, and costs no budget.

    Each figure has its 95 % interval for noise and numbers of rows, or says why it cannot be said.
    """
    engine, references = centre_at(home).engine, dict(map(_pair, against or ()))
    version = find_version(engine, model)
    stages = stages_of(engine, version.name, version.version, version.released, references)
    weights = _weights(version.released) if reweigh else {}
    if json:
        emit(_facts(version, stages, weights, reweigh=reweigh))
        return
    for stage in stages:
        _show(stage)
    for attribute, found in weights.items():
        _show_weights(attribute, found)


def _pair(text: str) -> tuple[str, str]:
    attribute, found, group = text.partition("=")
    if not (attribute and found and group):
        raise UsageError(f"{text!r} names no group; write ATTRIBUTE=GROUP, such as sex=male")
    return attribute, group


def _weights(panels: Panels | None) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    return {
        each.attribute: {group: asdict(weights) for group, weights in reweighing(each).items()}
        for each in ((panels and panels.groups) or ())
        if each.counts
    }


def _facts(
    version: ModelVersion, stages: Iterable[Stage], weights: Mapping[str, Any], *, reweigh: bool
) -> dict[str, Any]:
    told: dict[str, Any] = {"model": version.ref, "stages": [each.facts() for each in stages]}
    return told | {"reweigh": weights} if reweigh else told


def _show(stage: Stage) -> None:
    tell(f"{stage.name}: {stage.cannot or stage.about}")
    for found in stage.attributes:
        people.print(_table(f"{found.attribute}, {stage.name}: {_rows(found)}", data_lines(found)))
        at = (stage.declines_at or {})[found.attribute]
        people.print(
            _table(
                f"{found.attribute}, {stage.name}: declined from a score of {at:.4g} on, compared with {found.reference}",
                decision_lines(found),
            )
        )
        for each in sentences(found):
            tell(each)


def _rows(found: Fairness) -> str:
    """How many rows each group has, as far as noise lets it be told."""
    told = ", ".join(
        f"{each.group} {thousands(each.rows.value)}"
        + (f" ({thousands(each.rows.low)} to {thousands(each.rows.high)})" if found.noise_std else "")
        for each in found.groups
    )
    return f"rows of {told or 'no group'}"


def _table(title: str, lines: Iterator[Line]) -> Table:
    table = Table("group", "figure", "value", "95 % interval", title=as_written(title))
    for each in lines:
        table.add_row(*map(as_written, (each.group, each.label, each.value, each.range)))
    return table


def _show_weights(attribute: str, weights: Mapping[str, Mapping[str, float]]) -> None:
    """As YAML, for the plan."""
    tell("training.reweigh of the next plan:")
    tell(f"  reweigh: {{attribute: {attribute}, weights: {{")
    for group, each in weights.items():
        tell(f"    {group!r}: {{negative: {each['negative']:g}, positive: {each['positive']:g}}},")
    tell("  }}")
