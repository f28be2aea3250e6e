"""`covenant privacy audit PLAN`: a lower bound on what a plan's own code leaks, beside what the plan claims."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from coordinator.cli.options import ContractFile, Home, Json, PlanFile
from protos.shell import emit, people
from simulation.cli.options import PROGRESS
from strategies.errors import CovenantError

if TYPE_CHECKING:
    from client.data import Table as Rows
    from protos.contract import Contract
    from protos.plan import Plan
    from simulation.audit.result import AuditResult
    from simulation.audit.setting import Audit
    from strategies.ids import SiteName


Canaries = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1_000_000,
        help="How many, to show more or take less time; else as many as the claim takes.",
    ),
]
FirstRounds = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Audit the plan's first rounds, against what is claimed for those; else as many as pay.",
    ),
]
Confidence = Annotated[float, typer.Option(help="Of the lower bound: above 0 and below 1.")]
RowsSeed = Annotated[
    int,
    typer.Option(min=0, help="Decides the rows and nothing else: coins, samples and noise are secret."),
]
RowsFile = Annotated[
    Path | None,
    typer.Option(help="Rows to hide canaries among, Parquet or CSV; else made up, and hiding them least."),
]
RowsPartition = Annotated[str, typer.Option(help="How rows of --data are dealt, as in `covenant simulate`.")]
Keep = Annotated[
    bool,
    typer.Option(
        help="Keep the result in the coordinator's folder, where the console shows it beside the claim."
    ),
]


def audit(
    plan: PlanFile,
    *,
    contract: ContractFile = None,
    canaries: Canaries = None,
    rounds: FirstRounds = None,
    confidence: Confidence = 0.95,
    seed: RowsSeed = 0,
    data: RowsFile = None,
    partition: RowsPartition = "even",
    keep: Keep = False,
    home: Home = None,
    json: Json = False,
) -> None:
    """Put canaries into a plan's own sums, guess which are in, and tell how much privacy that disproves. Leaves with 1 if the claim is wrong."""
    from coordinator.documents import read_plan
    from coordinator.ledger.audits import keep_audit
    from coordinator.settings import load_settings
    from simulation.audit.setting import audit_of
    from simulation.quiet import silence_logs

    silence_logs()
    kept_in = load_settings(home).home if keep else None
    parsed, agreed = read_plan(plan, contract)
    tables = None if data is None else _dealt(parsed, agreed, data, partition, seed)
    setting = audit_of(
        parsed, agreed, rounds=rounds, canaries=canaries, confidence=confidence, seed=seed, tables=tables
    )
    result = _run(setting)
    if kept_in is not None:
        keep_audit(kept_in, result.kept(datetime.now(UTC)))
    if json:
        emit(result.facts())
    else:
        _show(result)
    if result.refuted:
        raise CovenantError(
            f"the audit shows epsilon of at least {result.epsilon:.3f}, above what is claimed, {result.claimed.words}: do not run this"
            f" plan with this installation. Chance alone shows that much in at most {1 - result.confidence:.2%} of audits"
        )


def _run(setting: Audit) -> AuditResult:
    """The audit, with a bar of its rounds."""
    from simulation.audit.run import audit as run

    with Progress(*PROGRESS, console=people, transient=True, disable=not people.is_terminal) as progress:
        bar = progress.add_task("rounds", total=None, note="")
        return run(
            setting,
            os.urandom,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _dealt(plan: Plan, contract: Contract, data: Path, partition: str, seed: int) -> dict[SiteName, Rows]:
    from client.data import table_from
    from simulation.partition import deal, parse_partition, read_rows

    sites = tuple(sorted(plan.sites.invite))
    dealt = deal(read_rows(data), sites, parse_partition(partition), target=contract.target.column, seed=seed)
    return {
        site: table_from(
            rows, contract, renamed={}, named=f"the rows of {site}", protected=plan.protected_columns
        )
        for site, rows in dealt.items()
    }


def _show(result: AuditResult) -> None:
    claimed, guesses, power = result.claimed, result.guesses, result.power
    table = Table("what", "value", show_header=False, title=f"audit of {result.plan}", title_justify="left")
    table.add_row("claimed for all of the plan", f"at most {result.whole.words}")
    table.add_row("claimed for what was audited", f"at most {claimed.words}")
    table.add_row(
        "shown",
        f"[bold]at least epsilon {result.epsilon:.3f}[/] at delta {claimed.delta:g}, with confidence {result.confidence:g}",
    )
    table.add_row(
        "how",
        f"{guesses.right} of {guesses.made} guesses right, about {result.canaries} canaries in {_runs(result)}",
    )
    table.add_row("against", _adversary(result))
    table.add_row("hidden among", result.crowd)
    if result.exempt:
        table.add_row("no part of the claim", f"{', '.join(result.exempt)}: released without noise")
    people.print(table)
    table = Table("if it were", "typically shown", title="power of this audit", title_justify="left")
    table.add_row("a mechanism exactly at the claim", f"{power.at_claim:.3f}")
    table.add_row("this plan with its noise", f"{power.as_planned:.3f}")
    table.add_row("this plan with a quarter of its noise", f"{power.a_quarter:.3f}")
    table.add_row("this plan without noise", f"{power.no_noise:.3f}")
    table.add_row("this plan without clipping", f"{power.no_clipping:.3f}")
    table.add_row("anything, every guess right", f"{power.most:.3f}")
    people.print(table)
    people.print(_verdict(result), highlight=False, markup=False, soft_wrap=True)


def _runs(result: AuditResult) -> str:
    runs = f"{result.runs} run{'s' if result.runs > 1 else ''}"
    if result.rounds == result.planned_rounds:
        return f"{runs} of {result.rounds} rounds"
    return f"{runs} of the first {result.rounds} of {result.planned_rounds} rounds"


def _adversary(result: AuditResult) -> str:
    sites = len(result.sites)
    return (
        "white box: sees the opened sum of every round, and knows all but coins, samples and noise; "
        f"the sum has {sites} of {result.invited} sites' rows and noise, as the claim counts on"
    )


def _verdict(result: AuditResult) -> str:
    if result.refuted:
        return "The claim is wrong for what ran here."
    power, claimed = result.power, result.claimed.epsilon
    faults = {
        "a quarter of the noise": power.a_quarter,
        "no noise": power.no_noise,
        "no clipping": power.no_clipping,
    }
    noticed = [fault for fault, shown in faults.items() if shown > claimed]
    missed = [fault for fault in faults if fault not in noticed]
    parts = ["Nothing here contradicts the claim; that does not prove it."]
    if noticed:
        parts.append(f"This audit would typically notice {' or '.join(noticed)}.")
    if missed:
        parts.append(
            f"It would typically not notice {' or '.join(missed)}: more canaries, or a plan with a smaller epsilon, may."
        )
    return " ".join([*parts, f"{result.elapsed_s:.0f} s"])
