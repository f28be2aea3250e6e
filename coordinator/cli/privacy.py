"""`covenant privacy`: what a plan's privacy comes to, and plans fitted to a budget. Nothing here needs a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.epsilon_chart import EpsilonChart
from coordinator.cli.options import ContractFile, Json, PlanFile
from coordinator.cli.privacy_facts import calibration_facts, explanation_facts
from coordinator.cli.privacy_tables import chart_of, show_calibration, show_explanation
from coordinator.documents import read_draft
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_calibration import Calibration, calibrate, values_of
from protos.plan_dials import Vary
from protos.plan_explanation import explain
from protos.plan_shares import Split
from protos.shell import emit, tell
from protos.yaml_edit import with_values
from strategies.errors import CovenantError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Privacy of plans: what is released, what that costs, and what would fit a budget.",
)


@app.command("explain")
def explain_plan(
    plan: PlanFile,
    contract: ContractFile = None,
    svg: Annotated[
        Path | None, typer.Option(help="Write the chart of epsilon over rounds here, as SVG.")
    ] = None,
    json: Json = False,
) -> None:
    """What a plan releases, to whom and with which guarantee, and what is not protected. Plans above their own limit are explained too."""
    found = explain(*read_draft(plan, contract))
    chart = chart_of(found)
    if svg is not None:
        _write_chart(svg, chart, found.plan)
    if json:
        emit(explanation_facts(found))
        return
    show_explanation(found, chart)


@app.command("calibrate")
def calibrate_plan(
    plan: PlanFile,
    *,
    epsilon: Annotated[
        float, typer.Option(help="The most that the whole plan may cost, per the plan's own unit.")
    ],
    contract: ContractFile = None,
    delta: Annotated[
        float | None, typer.Option(help="Above 0 and below 1, such as 1e-6; without it, the plan's own.")
    ] = None,
    vary: Annotated[
        Vary, typer.Option(help="What is fitted: the noise of training, the rounds, or the expected batch.")
    ] = Vary.NOISE,
    split: Annotated[
        str | None,
        typer.Option(
            help="Fit the noise of other stages too, to shares of the budget: preparation=0.1,evaluation=0.1. Shares are of the Rényi budget, "
            "at the order that suits the result. Where held-out rows are told apart by the unit, evaluation's share is not taken from training."
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Write the plan with the fitted numbers to this new file; all else in it stays."),
    ] = None,
    json: Json = False,
) -> None:
    """Fit a plan to a privacy budget, preparation, evaluation and retries included. The result passes `covenant plan check`."""
    parsed, agreed = read_draft(plan, contract)
    shares = None if split is None else parse_split(split)
    found = calibrate(parsed, agreed, epsilon=epsilon, delta=delta, vary=vary, split=shares)
    if write is not None:
        _write_plan(plan, parsed, write, found)
    if json:
        emit(calibration_facts(found, None if write is None else str(write)))
        return
    show_calibration(found)
    if write is not None:
        tell(f"wrote {write}")


def parse_split(text: str) -> Split:
    """The shares that `--split` names. Raises UsageError."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        stage, _, number = part.strip().partition("=")
        try:
            share = float(number)
        except ValueError as error:
            raise UsageError(
                f"--split is {text!r}; use shares such as preparation=0.1,evaluation=0.1"
            ) from error
        if stage in shares:
            raise UsageError(f"--split names {stage} twice; give it one share")
        shares[stage] = share
    return shares


def _write_chart(path: Path, chart: EpsilonChart | None, plan: str) -> None:
    if chart is None:
        raise UsageError(f"plan {plan} promises nothing, so there is no epsilon to draw; leave --svg out")
    try:
        path.write_text(chart.svg(), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; name a file in a folder of yours"
        ) from error


def _write_plan(source: Path, given: Plan, target: Path, found: Calibration) -> None:
    """The text of `source` with the fitted numbers; read again before it is written, so that it is the plan that was checked."""
    old, new = values_of(given), values_of(found.plan)
    changed = {path: value for path, value in new.items() if value != old.get(path)}
    text = with_values(source.read_bytes().decode("utf-8-sig"), changed)
    if read_document(text, Plan, str(target)) != found.plan:
        raise CovenantError(
            f"{source} could not be rewritten; change the numbers by hand, as printed without --write"
        )
    try:
        with target.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{target} exists, and a plan is never overwritten; name a new file") from error
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}; name a file in a folder of yours"
        ) from error
