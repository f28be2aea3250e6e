"""`covenant-agent data`: what is wrong with a site's rows, for the people who can mend them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from client.data.reading import Reading, read_source
from client.data.report import DataError, Report
from client.data.representation import Representation, grouped_attributes, representation
from protos.contract import Contract
from protos.documents import load_document
from protos.shell import as_written, emit, people, tell
from protos.site import SiteConfig, load_site
from protos.site_data import DataSource
from strategies.errors import UsageError


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="This site's rows.", no_args_is_help=True)
    commands.command("check")(check)
    commands.command("representation")(show_representation)
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


def show_representation(
    population: Annotated[
        str | None, typer.Argument(help="An entry of `data`; all of them if left out.")
    ] = None,
    minimum: Annotated[int, typer.Option(min=1, max=10**9, help="Mark groups that have fewer rows.")] = 100,
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Rows and share of the positive class of each protected group here, exact: for this site's people alone. Sends nothing, and is asked for by nobody."""
    site = load_site(config)
    found = {name: _represented(site, source, minimum) for name, source in _chosen(site, population)}
    if json:
        emit(
            {
                name: {attribute: one.facts() for attribute, one in each.items()}
                for name, each in found.items()
            }
        )
        return
    for name, each in found.items():
        if not each:
            tell(f"{name}: its contract has no protected attribute with groups (a category or boolean)")
        for one in each.values():
            _show_groups(name, one)


def _represented(site: SiteConfig, source: DataSource, minimum: int) -> Mapping[str, Representation]:
    contract = _contract_of(source)
    reading = _reading(site, source, contract, grouped_attributes(contract))
    return representation(reading.accepted(), contract, minimum)


def _show_groups(name: str, found: Representation) -> None:
    table = Table("group", "rows", "positive", "share", title=as_written(f"{name}: {found.attribute}"))
    for each in found.groups:
        share = "" if each.base_rate is None else f"{each.base_rate:.1%}"
        table.add_row(*map(as_written, (each.group, str(each.rows), str(each.positives), share)))
    people.print(table)
    for sentence in found.cautions:
        tell(sentence)


def _chosen(site: SiteConfig, population: str | None) -> Iterator[tuple[str, DataSource]]:
    if population is not None and population not in site.data:
        raise UsageError(f"this site has no data {population!r}; it has {', '.join(site.data)}")
    return ((name, each) for name, each in site.data.items() if population in (None, name))


def _judged(site: SiteConfig, source: DataSource) -> Report | DataError:
    try:
        return _reading(site, source, _contract_of(source)).report
    except DataError as trouble:
        return trouble


def _contract_of(source: DataSource) -> Contract:
    contract = load_document(source.contract_file, Contract)
    if contract.ref != source.contract:
        raise UsageError(f"{source.contract_file} is {contract.ref}; `contract` says {source.contract}")
    return contract


def _reading(
    site: SiteConfig, source: DataSource, contract: Contract, protected: Collection[str] = ()
) -> Reading:
    from client.bootstrap import utc_now

    return read_source(
        source, contract, today=utc_now().date(), spool=site.journal.parent, protected=protected
    )


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
