"""`covenant diagnose RUN`: why a run went as it did, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import Home, Json, centre_at
from coordinator.diagnosis.diagnose import Finding, diagnose
from coordinator.diagnosis.evidence import RunEvidence, gather, read_events
from protos.shell import emit, people, tell
from strategies.ids import run_id


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diagnose")(diagnose_run)


def diagnose_run(
    run: Annotated[str, typer.Argument(help="A run's id, such as run-0123456789abcdef.")],
    log: Annotated[
        Path | None,
        typer.Option(help="The server processes' log; else logs/serverapp.log in the coordinator's folder."),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """What kept a run from going well: cause, evidence and next command. Run it on the coordinator's machine, whatever the run's state."""
    centre, named = centre_at(home), run_id(run)
    events = read_events(log or centre.settings.logs / "serverapp.log", named)
    evidence = gather(centre.engine, named, events)
    found = diagnose(evidence)
    if json:
        emit(
            {
                "run": evidence.run,
                "state": evidence.state,
                "committed": evidence.committed,
                "rounds": evidence.rounds,
                "findings": [each.facts() for each in found],
            }
        )
        return
    _show(evidence, found)


def _show(evidence: RunEvidence, found: list[Finding]) -> None:
    people.print(
        f"{evidence.run} is {evidence.state}: {evidence.committed} of {evidence.rounds} rounds",
        highlight=False,
    )
    if not found:
        people.print("nothing is known that kept it from going well", highlight=False)
    for each in found:
        sites = f" ({', '.join(each.sites)})" if each.sites else ""
        tell(f"\n{each.cause}{sites}: {each.means}")
        for line in each.evidence:
            tell(f"  seen: {line}")
        if each.seen > len(each.evidence):
            people.print(f"  seen {each.seen} times in all", highlight=False)
        for line in each.next:
            tell(f"  next: {line}")
        tell(f"  more: docs/runbooks/{each.page}")
