"""`covenant simulate payments` and `covenant bench payments`: made-up payments of several banks, and what banks gain by learning together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Json
from protos.shell import emit, people
from simulation.cli.options import interrupt_on_terminate
from simulation.cli.report_files import require_writable, write_report

if TYPE_CHECKING:
    from simulation.payments.setting import Setting
    from simulation.payments.study import StudyResult

# Bounds are the setting's own: it says them in sentences.
Banks = Annotated[int, typer.Option(help="Banks; they differ in size.")]
Accounts = Annotated[int, typer.Option(help="Accounts of all banks together.")]
Days = Annotated[
    int, typer.Option(help="Days, in seasons of 30; campaigns of fraud move on with each season.")
]
FraudShare = Annotated[
    float, typer.Option(help="Share of payments that are fraud, about. In life it is far smaller.")
]
Alpha = Annotated[
    float,
    typer.Option(
        help="How evenly typologies are spread over banks and seasons: a Dirichlet distribution's. 0.1 is harsh, 100 even."
    ),
]
Seed = Annotated[int, typer.Option(help="Decides everything.")]
_BANKS, _ACCOUNTS, _DAYS, _FRAUD, _ALPHA = 8, 6_000, 120, 0.01, 0.15


def simulate_payments(
    out: Annotated[Path, typer.Option(help="The folder to write to; made if it is not there.")],
    banks: Banks = _BANKS,
    accounts: Accounts = _ACCOUNTS,
    days: Days = _DAYS,
    fraud_share: FraudShare = _FRAUD,
    alpha: Alpha = _ALPHA,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Make up payments of several banks with fraud among them: Parquet with a `bank` column, the truth in a second file, a contract and two plans."""
    from simulation.payments.files import write
    from simulation.payments.setting import Setting

    interrupt_on_terminate()
    setting = Setting(
        banks=banks, accounts=accounts, days=days, fraud_share=fraud_share, alpha=alpha, seed=seed
    )
    with people.status("payments") as status:
        written = write(setting, out, progress=lambda count: status.update(f"{count:,} payments"))
    if json:
        emit(
            {
                "folder": str(written.folder),
                "payments": written.payments,
                "labelled_fraud": written.labelled,
                "fraud": written.fraud,
                "setting": setting.facts(),
            }
        )
        return
    people.print(
        f"{written.payments:,} payments of {banks} banks in {out}; {written.fraud:,} are fraud, of which {written.labelled:,} labels know or say so\n"
        "Try a plan on them: covenant simulate plan.yaml --data payments.parquet --partition by:bank",
        highlight=False,
        soft_wrap=True,
    )


def bench_payments(  # noqa: PLR0917 (each is an option of the command)
    banks: Banks = _BANKS,
    accounts: Accounts = _ACCOUNTS,
    days: Days = _DAYS,
    fraud_share: FraudShare = _FRAUD,
    alpha: Alpha = _ALPHA,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 1,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="How many seeds, each with payments of its own.")
    ] = 1,
    arm: Annotated[
        list[str] | None, typer.Option(help="local, federated, private or pooled; repeatable. All, without.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the chart here, as SVG.")] = None,
    json: Json = False,
) -> None:
    """Mean F1 of each bank's own model, of a federated one, of one with noise and of a pooled one, on later days of made-up payments."""
    from simulation.payments.setting import Setting
    from simulation.payments.study import study
    from simulation.quiet import silence_logs

    silence_logs()
    interrupt_on_terminate()
    settings = [
        Setting(banks=banks, accounts=accounts, days=days, fraud_share=fraud_share, alpha=alpha, seed=each)
        for each in range(seed, seed + seeds)
    ]
    require_writable(svg, "chart", "--svg")
    with people.status("payments") as status:
        found = study(settings, arms=arm, progress=status.update)
    if json:
        emit(found.facts())
    else:
        _show(found, settings[0])
    if svg is not None:
        from simulation.payments.chart import chart

        write_report(svg, chart(found), "chart", "--svg")


def _show(found: StudyResult, setting: Setting) -> None:
    counted = f"{len(found.comparisons)} seed{'s' if len(found.comparisons) > 1 else ''}"
    table = Table(
        "model",
        "F1 on the bank's own later days",
        "on all banks' later days",
        title=f"{setting.banks} banks, mean over banks and {counted}",
    )
    for arm in found.arms:
        table.add_row(arm, found.mean(arm).words, found.mean_everywhere(arm).words)
    people.print(table)
    recall = Table("fraud on later days", "payments", *found.arms, title="what is caught of it")
    for name, each in found.recalls().items():
        shares = each.shares()
        recall.add_row(
            name, f"{each.payments:,}", *(f"{shares[arm]:.0%}" if shares else "" for arm in found.arms)
        )
    people.print(recall)
    if found.guarantee is not None:
        people.print(f"private: {found.guarantee.words}", highlight=False)
