"""`covenant-agent rehearse`: a plan on this site's own rows, with nobody else, of which nothing is sent and nothing charged."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from client.admission.findings import refusals
from client.admission.trial import contract_of, try_plan
from client.bootstrap import utc_now
from client.cli.findings import show_findings
from client.cli.options import HERE, ConfigFile, Json
from client.limits import apply_limits, told_of_memory
from client.progress import progress_for
from client.rehearsal import Rehearsal, Rehearser
from protos.documents import load_document
from protos.plan import Plan
from protos.quantities import format_size
from protos.shell import emit, people
from protos.site import SiteConfig, load_site
from strategies.errors import Refused

_MIB: Final = 1 << 20


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("rehearse")(rehearse)


def rehearse(
    plan: Annotated[Path, typer.Argument(help="A plan's file.")],
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How many rounds to train.")] = 2,
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Run a plan on this site's rows alone: time, memory, loss, cost and bytes. Sends nothing, charges nothing and writes nothing.

    A plan that this site would refuse is rehearsed all the same, where it has the data, and the command leaves with 3.
    """
    site, tried = load_site(config), load_document(plan, Plan)
    contract, source = contract_of(tried, site), site.source_for(tried.contract)
    if contract is None or source is None:
        raise Refused(
            f"{site.site} has no data under contract {tried.contract}, so there is nothing to rehearse with"
        )
    now = utc_now()
    findings = list(try_plan(tried, site, (), now))
    apply_limits(site.run)
    rehearser = Rehearser(
        tried, contract, source, site, time.monotonic, os.urandom, progress_for(people), now.date()
    )
    with told_of_memory(site):
        done = rehearser.rehearse(rounds)
    refused = refusals(findings)
    if json:
        emit(
            {
                "site": site.site,
                "plan": tried.digest,
                "findings": [each.facts() for each in findings],
                **done.facts(),
            }
        )
    else:
        show_findings(tried, site, findings)
        _show(site, done)
    if refused:
        raise typer.Exit(Refused.exit_code)


def _show(site: SiteConfig, done: Rehearsal) -> None:
    rounds = Table(
        "round", "seconds", "log loss", "AUC", title=f"rehearsed at {site.site}, with {site.site} alone"
    )
    for each in done.rounds:
        known = each.metrics
        loss, auc = ("-", "-") if known is None else (f"{known.log_loss:.4f}", f"{known.auc:.4f}")
        rounds.add_row(str(each.number), f"{each.seconds:.2f}", loss, auc)
    people.print(rounds)
    training, held_out = done.rows
    memory = "" if site.run.memory is None else f" of {format_size(site.run.memory)}"
    for line in (
        f"{training} rows to train on, {held_out} held out; read in {done.load_s:.1f} s, prepared in {done.prepare_s:.1f} s, scored in {done.evaluate_s:.1f} s",
        f"at most {done.peak_bytes / _MIB:.0f} MiB were resident{memory}; a round may take {done.deadline_s:g} s",
        f"cost of the whole plan: {done.cost}",
        "it would send "
        + ", ".join(f"{size} bytes to {stage}" for stage, size in done.sent.items())
        + ", each time",
        "nothing was sent, and nothing charged",
    ):
        people.print(line, highlight=False, markup=False, soft_wrap=True)
    if done.slowest_s > done.deadline_s:
        people.print(
            "a round takes longer than the plan's round_deadline: this site would be late", style="bold red"
        )
