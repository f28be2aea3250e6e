"""`covenant ledger`: the privacy accounts of the sites' populations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import ceilings
from coordinator.cli.ledger_tables import show_account, show_list, show_reconciliation
from coordinator.cli.options import Access, Home, Json, centre_at, desk_at
from coordinator.ledger.facts import reconciliation_facts
from coordinator.ledger.store import Ledger
from coordinator.ledger.units import UNIT_HELP
from protos.account_statement import MAX_STATEMENT_BYTES
from protos.shell import emit, people
from strategies.errors import Refused, UsageError
from strategies.ids import run_id

app = typer.Typer(
    no_args_is_help=True, help="Privacy accounts: what was spent, what may be, and who decided so."
)
app.add_typer(ceilings.app, name="ceiling")

SiteArgument = Annotated[str, typer.Argument(help="The site.")]
PopulationArgument = Annotated[
    str, typer.Argument(help="The population's name at the site: its key under `data` in site.yaml.")
]
Reason = Annotated[str, typer.Option(help="Why; kept for good.")]


@app.command("list")
def list_accounts(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All accounts, with ceilings and what is spent of them."""
    found = list(desk_at(home, access).ledger.accounts())
    if json:
        emit({"accounts": found})
        return
    show_list(found)


@app.command("show")
def show(
    site: SiteArgument,
    population: PopulationArgument,
    unit: Annotated[
        str | None, typer.Option(help=f"{UNIT_HELP} Needed if there are several accounts.")
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """One account in full: figures, runs, alerts, exemptions, and every decision on its ceiling."""
    found = desk_at(home, access).ledger.account(site, population, unit)
    if json:
        emit(found)
        return
    show_account(found)


@app.command("release")
def release(
    run: Annotated[str, typer.Argument(help="A failed or stopped run, such as run-0123456789abcdef.")],
    reason: Reason,
    home: Home = None,
    json: Json = False,
) -> None:
    """Give up what a failed or stopped run still has reserved. Nothing that was opened comes back. Resuming the run reserves again what is left of its plan."""
    given_up = _ledger(home).release_run(run_id(run), reason)
    if json:
        emit({"run": run, "voided": given_up})
        return
    people.print(f"{run}: {given_up} reserved releases were given up", highlight=False)


@app.command("reconcile")
def reconcile(
    statement: Annotated[
        Path, typer.Argument(help="What the site wrote with `covenant-agent budget --export`.")
    ],
    home: Home = None,
    json: Json = False,
) -> None:
    """Compare a site's signed statement of its accounts with the ledger; a difference that nothing explains is an alarm and exit code 3.

    After a gap in the log, what the site has charged and the ledger lost is adopted first.
    """
    ledger, data = _ledger(home), _read(statement)
    adopted = ledger.adopt(data)
    found = ledger.reconcile(data)
    if adopted is not None:
        times = sum(each.times for each in adopted.adopted)
        people.print(
            f"{adopted.site}: after the gap in the log, {times} charges were adopted from its statement; its accounts may be charged again",
            highlight=False,
        )
    if json:
        emit(reconciliation_facts(found))
    else:
        show_reconciliation(found)
    if found.alarms:
        raise Refused(
            f"{found.site}: {len(found.alarms)} attempts are not told alike by site and centre, and nothing explains it: stop the runs "
            "concerned, and find out which side lost or gained them"
        )


def _ledger(home: Path | None) -> Ledger:
    centre = centre_at(home)
    return Ledger(centre.engine, centre.clock)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_STATEMENT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
