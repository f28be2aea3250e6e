"""The ledger for people: tables and sentences on stderr, of an account from the facts that `--json` prints, wherever they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.table import Table

from coordinator.ledger.facts import Facts
from coordinator.ledger.reconcile import AccountComparison, Reconciliation
from protos.shell import as_written, people, tell

_MOST_LINES = 20


def _folding(*columns: str, show_header: bool = True) -> Table:
    """A table whose cells are broken over lines where they are too long, never cut: names, ids and units are there to be read."""
    table = Table(show_header=show_header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_list(found: Sequence[Facts]) -> None:
    """All accounts, one a line, by `coordinator.ledger.facts.summary_facts`."""
    table = _folding("account", "ceiling", "spent, reservations included", "of ceiling", "alerts reached")
    for each in found:
        table.add_row(
            _account(each),
            each["ceiling"]["words"],
            each["spent"]["words"],
            _share(each["fraction"]),
            ", ".join(f"{at:.0%}" for at in each["alerts_reached"]),
        )
    people.print(table)


def show_account(found: Facts) -> None:
    """One account in full, by `coordinator.ledger.facts.view_facts`."""
    releases, overlap = found["releases"], found["overlap"]
    tell(f"{_account(found)}, Rényi filter of order {found['ceiling']['order']}")
    table = _folding("figure", "guarantee", show_header=False)
    table.add_row("ceiling", found["ceiling"]["words"])
    table.add_row(f"spent ({_share(found['fraction'])} of the ceiling)", found["spent"]["words"])
    table.add_row(f"of that opened ({releases['settled']} releases)", found["settled"]["words"])
    table.add_row("spent, tighter accountant (rdp)", found["tight"]["words"])
    table.add_row("spent, if only this site's noise counted", found["own_noise_only"]["words"])
    if overlap is not None:
        table.add_row(f"worst person, at {', '.join(overlap['sites'])}", overlap["worst"]["words"])
    people.print(table)
    tell(f"{releases['reserved']} releases are reserved and not opened; they count as spent")
    tell(f"the tighter figure is {found['tight']['caveat']}")
    _show_what_is_left_out(found)
    _show_runs(found["runs"])
    _show_alerts(found["alerts"])
    _show_history(found["history"])


def _show_what_is_left_out(found: Facts) -> None:
    overlap = found["overlap"]
    if found["exempted"]:
        tell(
            f"not in any figure, because plans exempted it: {', '.join(found['exempted'])}, released without noise"
        )
    if found["other_units"]:
        units = ", ".join(
            each["kind"] if each["column"] is None else f"{each['kind']}:{each['column']}"
            for each in found["other_units"]
        )
        tell(f"not in any figure: what was charged to this population's accounts for other units ({units})")
    if overlap is not None and overlap["without_account"]:
        tell(
            f"not in the worst case: {', '.join(overlap['without_account'])}, without an account for this unit"
        )


def _show_runs(runs: Sequence[Facts]) -> None:
    table = _folding("run", "stage", "release", "opened", "reserved", "voided", "the run alone, of ceiling")
    for run in runs:
        for number, each in enumerate(run["stages"]):
            table.add_row(
                "" if number else run["run"],
                each["stage"],
                each["release"]["what"],
                str(each["settled"]),
                str(each["reserved"]),
                str(each["voided"]),
                "" if number else _share(run["fraction"]),
            )
    if runs:
        people.print(table)


def _show_alerts(alerts: Sequence[Facts]) -> None:
    for each in alerts:
        by = f" by {each['run']}" if each["run"] else ""
        reached = (
            "not reached" if each["reached_at"] is None else f"reached {_minute(each['reached_at'])}{by}"
        )
        tell(f"alert at {each['fraction']:.0%} of the ceiling: {reached}")


def _show_history(history: Sequence[Facts]) -> None:
    table = _folding("set", "ceiling", "officers", "reason", "overlaps")
    for each in history:
        table.add_row(
            _minute(each["set_at"]),
            each["ceiling"]["words"],
            ", ".join(each["officers"]),
            as_written(each["reason"]),
            ", ".join(each["overlaps"]),
        )
    people.print(table)


def _account(found: Facts) -> str:
    """As `AccountKey.words`."""
    unit = found["unit"]
    column = "" if unit["column"] is None else f" ({unit['column']})"
    return f"{found['site']}/{found['population']} per {unit['kind']}{column}"


def _share(fraction: float | None) -> str:
    return "more than all" if fraction is None else f"{fraction:.1%}"


def _minute(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"


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
