"""`covenant-agent data`: what is wrong with a site's rows, for the people who can mend them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from client.data.reading import read_source
from client.data.report import DataError, Report
from protos.contract import Contract
from protos.documents import load_document
from protos.shell import emit, people
from protos.site import SiteConfig, load_site
from protos.site_data import DataSource
from strategies.errors import UsageError


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="This site's rows.", no_args_is_help=True)
    commands.command("check")(check)
    agent.add_typer(commands, name="data")


def check(
    population: Annotated[
        str | None, typer.Argument(help="An entry of `data`; all of them if left out.")
    ] = None,
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Read all rows and judge them by their contract: rule, column and number of rows, and never a value. Sends nothing."""
    site = load_site(config)
    found = {name: _judged(site, source) for name, source in _chosen(site, population)}
    if json:
        emit(
            {
                name: each.facts() if isinstance(each, Report) else {"accepted": False, "trouble": str(each)}
                for name, each in found.items()
            }
        )
    else:
        _show(found)
    refused = [name for name, each in found.items() if not (isinstance(each, Report) and each.accepted)]
    if refused:
        raise DataError(
            f"{', '.join(refused)}: this site takes part in nothing with these rows, and tells the centre `contract` and no more"
        )


def _chosen(site: SiteConfig, population: str | None) -> Iterator[tuple[str, DataSource]]:
    if population is not None and population not in site.data:
        raise UsageError(f"this site has no data {population!r}; it has {', '.join(site.data)}")
    return ((name, each) for name, each in site.data.items() if population in (None, name))


def _judged(site: SiteConfig, source: DataSource) -> Report | DataError:
    from client.bootstrap import utc_now

    contract = load_document(source.contract_file, Contract)
    if contract.ref != source.contract:
        raise UsageError(f"{source.contract_file} is {contract.ref}; `contract` says {source.contract}")
    try:
        return read_source(source, contract, today=utc_now().date(), spool=site.journal.parent).report
    except DataError as trouble:
        return trouble


def _show(found: dict[str, Report | DataError]) -> None:
    """A table for people."""
    for name, each in found.items():
        if isinstance(each, DataError):
            people.print(f"{name}: {each}", markup=False, highlight=False)
            continue
        verdict = "accepted" if each.accepted else "refused"
        people.print(
            f"{name}: {each.rows} rows of {each.source} read in {each.seconds:.1f} s, {verdict} by {each.contract}",
            markup=False,
            highlight=False,
        )
        if each.accepted:
            continue
        table = Table("rule", "column", "rows", "what is wrong", title=f"{name} and {each.contract}")
        for one in each.violations:
            table.add_row(one.rule, one.column or "", str(one.rows), one.sentence)
        people.print(table)
