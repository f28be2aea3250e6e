"""The ledger for people: tables and sentences on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from coordinator.ledger.reconcile import AccountComparison, Reconciliation
from coordinator.ledger.views import TIGHT_CAVEAT, AccountSummary, AccountView
from protos.shell import people, tell

_MOST_LINES = 20


def _folding(*columns: str, show_header: bool = True) -> Table:
    """A table whose cells are broken over lines where they are too long, never cut: names, ids and units are there to be read."""
    table = Table(show_header=show_header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_list(found: Sequence[AccountSummary]) -> None:
    """All accounts, one a line."""
    table = _folding("account", "ceiling", "spent, reservations included", "of ceiling", "alerts reached")
    for each in found:
        table.add_row(
            each.key.name,
            each.ceiling.words,
            each.spent.words,
            f"{each.fraction:.1%}",
            ", ".join(f"{at:.0%}" for at in each.crossed),
        )
    people.print(table)


def show_account(view: AccountView) -> None:
    """One account in full."""
    tell(f"{view.key.words}, Rényi filter of order {view.ceiling.order}")
    table = _folding("figure", "guarantee", show_header=False)
    table.add_row("ceiling", view.ceiling.words)
    table.add_row(f"spent ({view.fraction:.1%} of the ceiling)", view.spent.words)
    table.add_row(f"of that opened ({view.settled_releases} releases)", view.settled.words)
    table.add_row("spent, tighter accountant (rdp)", view.tight.words)
    table.add_row("spent, if only this site's noise counted", view.own_noise.words)
    if view.overlap is not None:
        table.add_row(f"worst person, at {', '.join(view.overlap.sites)}", view.overlap.worst.words)
    people.print(table)
    tell(f"{view.reserved_releases} releases are reserved and not opened; they count as spent")
    tell(f"the tighter figure is {TIGHT_CAVEAT}")
    _show_what_is_left_out(view)
    _show_runs(view)
    _show_alerts(view)
    _show_history(view)


def _show_what_is_left_out(view: AccountView) -> None:
    if view.exempted:
        tell(
            f"not in any figure, because plans exempted it: {', '.join(view.exempted)}, released without noise"
        )
    if view.other_units:
        units = ", ".join(each.unit_option for each in view.other_units)
        tell(f"not in any figure: what was charged to this population's accounts for other units ({units})")
    if view.overlap is not None and view.overlap.without_account:
        tell(
            f"not in the worst case: {', '.join(view.overlap.without_account)}, without an account for this unit"
        )


def _show_runs(view: AccountView) -> None:
    table = _folding("run", "stage", "release", "opened", "reserved", "voided", "the run alone, of ceiling")
    for run in view.runs:
        for first, each in zip((True, *(False,) * len(run.stages)), run.stages, strict=False):
            table.add_row(
                run.run if first else "",
                each.stage,
                each.release.what,
                str(each.settled),
                str(each.reserved),
                str(each.voided),
                f"{run.fraction:.1%}" if first else "",
            )
    if view.runs:
        people.print(table)


def _show_alerts(view: AccountView) -> None:
    for each in view.alerts:
        by = f" by {each.run}" if each.run else ""
        reached = "not reached" if each.at is None else f"reached {each.at:%Y-%m-%d %H:%M} UTC{by}"
        tell(f"alert at {each.fraction:.0%} of the ceiling: {reached}")


def _show_history(view: AccountView) -> None:
    table = _folding("set", "ceiling", "officers", "reason", "overlaps")
    for each in view.history:
        table.add_row(
            f"{each.set_at:%Y-%m-%d %H:%M} UTC",
            each.decided.ceiling.words,
            ", ".join(each.officers),
            each.reason,
            ", ".join(each.decided.overlaps),
        )
    people.print(table)


def show_reconciliation(found: Reconciliation) -> None:
    """Both sides of a site's accounts, alarms first."""
    tell(f"{found.site}, by its statement of {found.made_at:%Y-%m-%d %H:%M} UTC")
    for account in found.accounts:
        _show_comparison(account)


def _show_comparison(account: AccountComparison) -> None:
    for alarm in account.alarms[:_MOST_LINES]:
        at = alarm.at
        tell(
            f"ALARM {account.key.words}: {alarm.kind}: {at.run} {at.stage} round {at.round} attempt {at.attempt}, release {at.release[:16]}"
        )
    if len(account.alarms) > _MOST_LINES:
        tell(f"ALARM {account.key.words}: and {len(account.alarms) - _MOST_LINES} more; --json has all")
    table = Table("side", "guarantee", show_header=False, title=account.key.words)
    table.add_row("opened at the centre", account.centre.words)
    table.add_row("charged at the site", account.site.words)
    table.add_row("the larger of the two, for reports", account.quoted.words)
    table.add_row("ceiling at the centre", "none" if account.ceiling is None else account.ceiling.words)
    table.add_row(
        "ceiling at the site", "none" if account.site_ceiling is None else account.site_ceiling.words
    )
    people.print(table)
    tell(f"{account.agreed} attempts are told alike")
    alarms = set(account.alarms)
    for kind, times in sorted(
        Counter(str(each.kind) for each in account.differences if each not in alarms).items()
    ):
        tell(f"expected: {times} attempts were {kind}")
