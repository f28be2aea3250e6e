"""`covenant plan`: check a plan, and launch it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import Home, Json, centre_at
from coordinator.documents import read_plan
from protos.shell import emit, people

app = typer.Typer(no_args_is_help=True, help="Plans: what a run does, decided before any site is asked.")
PlanFile = Annotated[Path, typer.Argument(help="The plan, in YAML.")]
ContractFile = Annotated[
    Path | None, typer.Option("--contract", help="Its data contract; else NAME.yaml beside the plan.")
]

_SHOWN = {
    "plain": "plain: the centre sees each site's update",
    "secure": "secure: the centre sees sums over at least three sites, and nothing of one site",
}


@app.command("check")
def check(plan: PlanFile, contract: ContractFile = None, json: Json = False) -> None:
    """Check a plan against its contract; prints the digests that signatures and logs refer to."""
    parsed, agreed = read_plan(plan, contract)
    width = agreed.feature_spec(parsed.features).width
    model = parsed.dense_model(width)
    facts = {
        "plan": parsed.name,
        "digest": parsed.digest,
        "contract": {"ref": agreed.ref, "digest": agreed.digest},
        "inputs": width,
        "parameters": model.size,
        "aggregation": parsed.aggregation.mode,
        "privacy": parsed.privacy.mode,
    }
    if json:
        emit(facts)
        return
    people.print(f"[green]ok[/] {parsed.name} {parsed.digest}", highlight=False)
    people.print(
        f"   contract {agreed.ref}, {width} inputs, {model.size} parameters, {parsed.training.rounds} rounds",
        highlight=False,
    )
    people.print(
        f"   aggregation is {_SHOWN[parsed.aggregation.mode]}; privacy is none: nothing protects a person's rows"
    )


@app.command("launch")
def launch(plan: PlanFile, contract: ContractFile = None, home: Home = None, json: Json = False) -> None:
    """Launch a plan on the running coordinator; prints the run's id."""
    from coordinator.runs import launch as start

    run = start(centre_at(home), plan, contract)
    if json:
        emit({"run": run})
        return
    people.print(f"launched {run}; follow it with `covenant run watch {run}`", highlight=False)
