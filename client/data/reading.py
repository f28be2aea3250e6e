"""From a source to a checked table, in one pass over its rows, whatever the source is."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa

from client.data.checks import Checks
from client.data.connectors.interface import Connector
from client.data.connectors.memory import InMemory
from client.data.connectors.open import connector_of
from client.data.report import DataError, Findings, Report, Unreadable
from client.data.storage import SPOOL_ABOVE_BYTES, Store, kept_columns
from client.data.table import Table
from protos.contract import Contract
from protos.site_data import DataSource

_UNFORESEEN: Final = (pa.ArrowException, ValueError, TypeError, ArithmeticError, AttributeError, LookupError)
"""Of rows that are like nothing that was thought of: still a refusal that says `contract`, and not a crash that says something else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a source gave: a report, and the table where the report accepts it."""

    report: Report
    table: Table | None

    def accepted(self) -> Table:
        """The table. Raises `DataError` with the report's sentence."""
        self.report.require()
        if self.table is None:
            raise DataError("there is no table")
        return self.table


def read_source(
    source: DataSource,
    contract: Contract,
    *,
    today: date,
    spool: Path | None,
    leaving: Callable[[], bool] = lambda: False,
    protected: Collection[str] = (),
) -> Reading:
    """Read and judge all rows of `source`, and keep of its protected attributes those that are asked for. Raises `Unreadable` where they cannot be read, or need not be any more because the process is
    `leaving`, and `DataError` where the source is configured wrongly."""
    connector = connector_of(source)
    return read(
        connector,
        contract,
        renamed=source.columns,
        today=today,
        spool=spool,
        leaving=leaving,
        protected=protected,
    )


def table_from(
    data: pa.Table,
    contract: Contract,
    *,
    renamed: Mapping[str, str],
    named: str,
    protected: Collection[str] = (),
) -> Table:
    """Take the contract's columns from `data`, called `named` in messages, on no particular day; `renamed` maps contract names to its names.

    Raises `DataError`.
    """
    read_in = InMemory(data, named)
    return read(read_in, contract, renamed=renamed, today=None, spool=None, protected=protected).accepted()


def read(
    connector: Connector,
    contract: Contract,
    *,
    renamed: Mapping[str, str],
    today: date | None,
    spool: Path | None,
    most: int = SPOOL_ABOVE_BYTES,
    leaving: Callable[[], bool] = lambda: False,
    protected: Collection[str] = (),
) -> Reading:
    """As `read_source`, through `connector`; up to `most` bytes stay in memory."""
    began = time.monotonic()
    _check_renamed(renamed, contract, connector.named)
    _check_apart(renamed, contract, connector.named)
    found = Findings(connector.named, dict(renamed))
    checks = Checks(contract, found, today, textual=connector.textual)
    try:
        store = Store(contract, spool, most=most, protected=protected)
        table = _table(connector, contract, checks, store, leaving)
    except MemoryError:  # Arrow's is an ArrowException too
        raise
    except _UNFORESEEN as error:
        # Not what it says: Arrow quotes the value that it cannot take.
        raise DataError(
            f"{connector.named} has a column that cannot be judged ({type(error).__name__}); compare its types with the contract's"
        ) from None
    report = Report(
        source=connector.named,
        contract=contract.ref,
        contract_sha256=contract.digest,
        rows=checks.rows,
        seconds=round(time.monotonic() - began, 3),
        violations=found.violations(),
    )
    return Reading(report, table if report.accepted else None)


def _table(
    connector: Connector, contract: Contract, checks: Checks, store: Store, leaving: Callable[[], bool]
) -> Table | None:
    wanted = {name: checks.found.renamed.get(name, name) for name in _names(contract)}
    if not _all_there(wanted, connector.columns(), checks.found):
        return None
    stored = list(dict.fromkeys(wanted.values()))
    for batch in _batches(connector, stored):
        if leaving():
            raise Unreadable(f"{connector.named} is not read to its end: the agent is leaving")
        store.append(*checks.take({name: batch.column(place) for name, place in _places(wanted, stored)}))
    table, repeated = store.finish()
    checks.finish(repeated)
    return table


def _batches(connector: Connector, stored: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in connector.batches(stored):
        try:
            batch.validate(full=True)  # reading does not check that text is UTF-8
        except MemoryError:
            raise
        except pa.ArrowException as error:
            raise Unreadable(f"{connector.named} {connector.damaged}") from error
        yield batch


def _places(wanted: Mapping[str, str], stored: list[str]) -> Iterable[tuple[str, int]]:
    return ((name, stored.index(own)) for name, own in wanted.items())


def _names(contract: Contract) -> list[str]:
    told = [contract.key] if contract.customer is None else [contract.key, contract.customer]
    return [*contract.columns, *told, contract.target.column]


def _all_there(wanted: Mapping[str, str], there: list[str], found: Findings) -> bool:
    complete = True
    for name, own in wanted.items():
        count = there.count(own)
        if count == 0:
            found.note("column", name, 0, f"is missing{_nearest(own, there)}")
        elif count > 1:
            found.note("column", name, 0, f"is there {count} times; keep one")
        complete = complete and count == 1
    return complete


def _check_renamed(renamed: Mapping[str, str], contract: Contract, named: str) -> None:
    known = set(_names(contract))
    for name in renamed:
        if name not in known:
            raise DataError(
                f"`columns` for {named} renames {name!r}, which is not a column of contract {contract.ref}{_nearest(name, known)}"
            )


def _check_apart(renamed: Mapping[str, str], contract: Contract, named: str) -> None:
    """What is never a feature is none under a second name either."""
    never = (contract.key, contract.customer, contract.target.column, *(contract.protected or ()))
    barred = {renamed.get(name, name): name for name in never if name is not None}
    for name in kept_columns(contract):
        own = renamed.get(name, name)
        if own in barred:
            raise DataError(
                f"`columns` for {named} takes {own!r} for {name!r} and for {barred[own]!r}, which is never a feature in {contract.ref}; map {name!r} to another column"
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the known word that resembles `name`, whatever its case, or nothing."""
    folded = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; the nearest is {folded[near[0]]!r}" if near else ""
