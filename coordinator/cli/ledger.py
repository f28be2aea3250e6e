"""`covenant ledger`: the privacy accounts of the sites' populations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.ledger_tables import show_account, show_list, show_reconciliation
from coordinator.cli.options import Home, Json, centre_at
from coordinator.ledger.ceilings import Decision
from coordinator.ledger.facts import crossing_facts, reconciliation_facts, summary_facts, view_facts
from coordinator.ledger.store import Ledger
from protos.account_statement import MAX_STATEMENT_BYTES
from protos.shell import emit, people
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import Refused, UsageError
from strategies.ids import run_id, site_name

app = typer.Typer(
    no_args_is_help=True, help="Privacy accounts: what was spent, what may be, and who decided so."
)

_UNIT_HELP: Final = "Whom figures protect: record, customer:COLUMN[:MAX_ROWS[:MAX_SITES]] or site."
_MOST_PARTS: Final = 4
SiteArgument = Annotated[str, typer.Argument(help="The site.")]
PopulationArgument = Annotated[
    str, typer.Argument(help="The population's name at the site: its key under `data` in site.yaml.")
]
Reason = Annotated[str, typer.Option(help="Why; kept for good.")]


@app.command("list")
def list_accounts(home: Home = None, json: Json = False) -> None:
    """All accounts, with ceilings and what is spent of them."""
    found = _ledger(home).accounts()
    if json:
        emit({"accounts": [summary_facts(each) for each in found]})
        return
    show_list(found)


@app.command("show")
def show(
    site: SiteArgument,
    population: PopulationArgument,
    unit: Annotated[
        str | None, typer.Option(help=f"{_UNIT_HELP} Needed if there are several accounts.")
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """One account in full: figures, runs, alerts, exemptions, and every decision on its ceiling."""
    found = _ledger(home).show(site_name(site), population, None if unit is None else parse_unit(unit))
    if json:
        emit(view_facts(found))
        return
    show_account(found)


@app.command("set-ceiling")
def set_ceiling(
    site: SiteArgument,
    population: PopulationArgument,
    *,
    unit: Annotated[str, typer.Option(help=_UNIT_HELP)],
    epsilon: Annotated[float, typer.Option(help="The most epsilon that one unit may ever lose, at --delta.")],
    delta: Annotated[float, typer.Option(help="Above 0 and below 1, such as 1e-6.")],
    officer: Annotated[
        list[str],
        typer.Option(
            help="A privacy officer who decided this; repeat it for a second one, whom anything that loosens an account needs. The names are "
            "recorded as given: officers' signatures come with a later version."
        ),
    ],
    reason: Reason,
    alert_at: Annotated[
        list[float] | None,
        typer.Option(
            help="Fraction of the ceiling to alert at, such as 0.8; repeatable. Without it, as before."
        ),
    ] = None,
    overlap: Annotated[
        list[str] | None,
        typer.Option(help="Site at which the same persons may be; repeatable. Without it, as before."),
    ] = None,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="No site has the same persons any more.")
    ] = False,
    order: Annotated[
        int | None,
        typer.Option(
            help="Order of the Rényi filter, at the first ceiling only; without it, the one that suits it."
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Set the ceiling of an account, or open the account with its first one.

    One officer may open an account or lower its ceiling; raising it takes two. A ceiling below what is spent is refused.
    """
    if no_overlap and overlap:
        raise UsageError("--overlap and --no-overlap contradict each other; give one of them")
    decision = Decision(
        epsilon=epsilon,
        delta=delta,
        unit=parse_unit(unit),
        officers=officer,
        reason=reason,
        alert_at=alert_at or None,
        overlaps=[] if no_overlap else overlap or None,
        order=order,
    )
    ledger = _ledger(home)
    crossed = ledger.set_ceiling(site_name(site), population, decision)
    found = ledger.show(site_name(site), population, decision.unit)
    if json:
        emit({**view_facts(found), "alerts_reached_now": [crossing_facts(each) for each in crossed]})
        return
    people.print(
        f"{found.key.name}: the ceiling is {found.ceiling.words}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for each in crossed:
        people.print(f"alert: {each.fraction:.0%} of it is spent already", highlight=False)


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


def parse_unit(text: str) -> PrivacyUnit:
    """The unit that `--unit` names. Raises UsageError."""
    kind, *rest = text.split(":")
    if (
        kind not in set(UnitKind)
        or len(rest) >= _MOST_PARTS
        or not all(part.isdecimal() for part in rest[1:])
    ):
        raise UsageError(
            f"--unit is {text!r}; use record, site or customer:COLUMN[:MAX_ROWS[:MAX_SITES]], such as customer:customer_id:4"
        )
    if kind != UnitKind.CUSTOMER and rest:
        raise UsageError(f"--unit is {text!r}; a {kind} has no column and no numbers, write {kind}")
    numbers = dict(zip(("max_rows", "max_sites"), map(int, rest[1:]), strict=False))
    return PrivacyUnit(kind=UnitKind(kind), column=rest[0] if rest else None, **numbers)


def _ledger(home: Path | None) -> Ledger:
    centre = centre_at(home)
    return Ledger(centre.engine, centre.clock)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_STATEMENT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
