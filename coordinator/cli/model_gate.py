"""`covenant model validate` and `covenant model champion`: judging a candidate by its plan, and naming a model in the plan of the next."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Access, Home, Json, centre_at, model_desk_at
from coordinator.registry.champions import as_champion
from coordinator.registry.versions import find_version
from protos.gates import Verdict
from protos.shell import as_written, emit, people, tell
from strategies.errors import Refused, UsageError

VersionArgument = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A registered version.")]


def validate(
    model: VersionArgument,
    why: Annotated[str, typer.Option(help="Why it is judged now: a sentence for the log.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Have the gate judge a version by its plan. A candidate that passes is validated; the verdict is logged either way."""
    name, _, number = model.partition("@")
    if not number.isdecimal() or len(number) > 9:  # noqa: PLR2004 (digits of a version)
        raise UsageError(f"{model!r} names no version; write NAME@NUMBER, such as {name}@1")
    verdict, stage = model_desk_at(home, access).validate(name, int(number), why)
    if json:
        emit(
            {
                "model": verdict.model,
                "stage": str(stage),
                "passed": verdict.passed,
                "failures": list(verdict.failures),
                "digest": verdict.digest,
                "verdict": verdict.model_dump(mode="json"),
            }
        )
    else:
        _show(verdict)
        tell(f"{verdict.model} is {stage}")
    if not verdict.passed:
        raise typer.Exit(Refused.exit_code)


def champion(model: VersionArgument, home: Home = None) -> None:
    """Print what a plan says whose champion is this version, as JSON, which YAML can hold: the value of `evaluation.champion`."""
    centre = centre_at(home)
    emit(
        as_champion(centre.engine, find_version(centre.engine, model)).model_dump(
            mode="json", exclude_none=True
        )
    )


def _show(verdict: Verdict) -> None:
    """Gates and rules, one a line."""
    table = Table("gate", "figure", "judged by", "passed", title=f"the gates of {verdict.model}")
    for each in verdict.gates:
        value, judged = ("" if figure is None else f"{figure:.4f}" for figure in (each.value, each.judged))
        table.add_row(*map(as_written, (each.gate.words, value, judged, "yes" if each.passed else "no")))
    for rule in verdict.policies:
        table.add_row(*map(as_written, (f"rule {rule.rule}", "", "", "yes" if rule.holds else "no")))
    people.print(table)
    for sentence in verdict.failures:
        tell(f"failed: {sentence}")
