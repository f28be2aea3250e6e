"""`covenant-agent budget`: the site's accounts, as its own book has them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from client.accounts.views import AccountView, export_to, views
from client.cli.options import HERE, ConfigFile, Json
from protos.shell import emit, people
from protos.site import load_site


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("budget")(budget)


def budget(
    config: ConfigFile = HERE,
    export: Annotated[
        Path | None,
        typer.Option(help="Write all charges, signed, for `covenant ledger reconcile`."),
    ] = None,
    json: Json = False,
) -> None:
    """What was released of this site's rows so far, as its own account has it, and what is left."""
    from client.bootstrap import open_accounts

    site = load_site(config)
    with closing(open_accounts(site)) as book:
        found = list(views(site, book))
        if export is not None:
            export_to(export, site, book)
            people.print(
                f"wrote {export}; send it to the centre for `covenant ledger reconcile`", highlight=False
            )
    if json:
        emit({"site": site.site, "accounts": [each.facts() for each in found]})
    else:
        _show(site.site, found)


def _show(site: str, found: Sequence[AccountView]) -> None:
    """A table for people."""
    if not found:
        people.print(
            f"{site} has no account: no population has `account` in its configuration, so only plans without privacy take part"
        )
        return
    table = Table(
        "population",
        "ceiling",
        "spent",
        "of it",
        "if only its own noise counted",
        "releases",
        title=f"accounts of {site}",
    )
    for each in found:
        table.add_row(
            each.population,
            each.account.ceiling.words,
            each.spent.words,
            _bar(each.account.ceiling.fraction(each.account.cost)),
            each.account.worst_own_noise().words,
            str(len(each.charges)),
        )
    people.print(table)
    for each in found:
        for release in each.account.exempted():
            people.print(
                f"{each.population}: {release.what} left this site without noise, as plans said and policy allowed"
            )
        if each.overlaps:
            people.print(
                f"{each.population}: people may be at {', '.join(each.overlaps)} too. Tell the centre's privacy officer, who declares it with the ceiling:"
                " `covenant ledger show` then has the worst case"
            )


def _bar(share: float) -> str:
    """How much of a ceiling is spent, as a bar of ten."""
    full = min(10, round(10 * share))
    return f"{'█' * full}{'░' * (10 - full)} {share:.0%}"
