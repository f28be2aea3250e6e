"""Findings, as people read them: a table of all rules, and a sentence for each thing to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from client.admission.consent import SHOWN
from client.admission.findings import Finding, Outcome
from protos.plan import Plan
from protos.shell import as_written, people, tell
from protos.site import SiteConfig

_STYLES: Final = {
    Outcome.PASSES: "green",
    Outcome.REFUSES: "bold red",
    Outcome.AWAITS: "yellow",
    Outcome.OPEN: "dim",
}


def show_findings(plan: Plan, site: SiteConfig, findings: Sequence[Finding]) -> None:
    """Print what `site` finds in `plan`."""
    table = Table(
        "rule", "", "the plan", f"{site.site} admits", title=f"plan {plan.name} ({plan.digest[:SHOWN]})"
    )
    for each in findings:
        style = _STYLES[each.outcome]
        table.add_row(
            as_written(each.rule),
            f"[{style}]{each.outcome}[/]",
            as_written(each.asks),
            as_written(each.admits),
        )
    people.print(table)
    for each in findings:
        if each.outcome in {Outcome.REFUSES, Outcome.AWAITS}:
            sentence = f"{each.rule}: {each.reason or each.asks}. {each.remedy}"
            tell(sentence)
