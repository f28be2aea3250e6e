"""Dealing the rows of one table to simulated sites: as a column says, or skewed as the field's experiments do it.

1. One seed decides everything: the same rows, the same seed, the same sites on every machine.
2. Every row is at exactly one site, and a site keeps the order of its rows.
3. A site without rows, or whose rows are all of one class, cannot train: that is refused with what to change.

Sources: label skew by a Dirichlet distribution, Hsu, Qi, Brown 2019; quantity skew, Li et al. 2022 ("Federated Learning on Non-IID
Data Silos"), section 4.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

Indices = npt.NDArray[np.int64]
_ACCEPTED: Final = "by:COLUMN, dirichlet:ALPHA, quantity:ALPHA or even"
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class ByColumn:
    """Each value of `column` goes whole to one site: to the site of that name, or, where values are no sites' names, balanced."""

    column: str


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Label skew: of each class, the sites get shares drawn from Dir(alpha). The smaller alpha, the more the sites differ."""

    alpha: float


@dataclass(frozen=True, slots=True)
class Quantity:
    """Quantity skew: the sites' sizes are drawn from Dir(alpha), their labels are alike in expectation."""

    alpha: float


@dataclass(frozen=True, slots=True)
class Even:
    """The same number of rows for each site, in random order."""


Partition = ByColumn | Dirichlet | Quantity | Even


def parse_partition(text: str) -> Partition:
    """Read `by:COLUMN`, `dirichlet:ALPHA`, `quantity:ALPHA` or `even`. Raises `UsageError`."""
    kind, _, value = text.partition(":")
    if kind == "even" and not value:
        return Even()
    if kind == "by" and value:
        return ByColumn(value)
    if kind in {"dirichlet", "quantity"}:
        alpha = _alpha(kind, value)
        return Dirichlet(alpha) if kind == "dirichlet" else Quantity(alpha)
    raise UsageError(f"{text!r} is not a way to deal rows to sites; use {_ACCEPTED}")


def describe(partition: Partition) -> str:
    """The partition in words."""
    match partition:
        case ByColumn(column):
            return f"by the values of column {column}"
        case Dirichlet(alpha):
            return f"label skew, Dirichlet with alpha {alpha:g}"
        case Quantity(alpha):
            return f"quantity skew, Dirichlet with alpha {alpha:g}"
        case Even():
            return "evenly, in random order"
        case unreachable:
            assert_never(unreachable)


def read_rows(path: Path) -> pa.Table:
    """The rows of a Parquet or CSV file. Raises `UsageError` naming the file."""
    readers: Mapping[str, Callable[[Path], pa.Table]] = {".parquet": pq.read_table, ".csv": pv.read_csv}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path} is neither .parquet nor .csv; give one of these with the rows of all sites")
    try:
        table = readers[path.suffix.lower()](path)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; name the file with the rows of all sites") from error
    except (OSError, pa.ArrowException) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} cannot be read ({first}); write it again as Parquet or CSV") from error
    if table.num_rows == 0:
        raise UsageError(f"{path} has no rows; give the rows of all sites")
    return table


def deal(
    table: pa.Table, sites: Sequence[SiteName], partition: Partition, *, target: str, seed: int
) -> dict[SiteName, pa.Table]:
    """The rows of each site. `target` is the column with the two classes.

    Raises `UsageError` for a column that is not there, `Refused` where a site would have no rows or rows of one class only.
    """
    labels = _words(table, target)
    source = np.random.Generator(np.random.PCG64(seed))
    match partition:
        case ByColumn(column):
            owners = _by_value(_words(table, column), column, sites)
        case Dirichlet(alpha):
            owners = _by_label(labels, alpha, len(sites), source)
        case Quantity(alpha):
            shares = source.dirichlet(np.full(len(sites), alpha))
            owners = _shuffled(np.arange(table.num_rows), shares, source, table.num_rows)
        case Even():
            owners = _shuffled(
                np.arange(table.num_rows), np.full(len(sites), 1 / len(sites)), source, table.num_rows
            )
        case unreachable:
            assert_never(unreachable)
    _check(owners, labels, sites, partition)
    return {site: table.take(np.flatnonzero(owners == place)) for place, site in enumerate(sites)}


def _alpha(kind: str, text: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if not 0 < alpha < math.inf:  # phrased so that NaN is refused
        raise UsageError(f"{kind}:{text}: alpha must be a number above 0, such as {kind}:0.5")
    return alpha


def _words(table: pa.Table, column: str) -> list[str]:
    """A column as text. Raises `UsageError` where it is not there, `Refused` where values are missing."""
    if column not in table.column_names:
        near = difflib.get_close_matches(column, table.column_names, n=3, cutoff=0.4)
        there = ", ".join(near or table.column_names[:_NAMED])
        raise UsageError(
            f"there is no column {column!r} in the data; {'the nearest are' if near else 'there are'} {there}"
        )
    values = table.column(column)
    if values.null_count:
        raise Refused(
            f"column {column!r} has {values.null_count} missing values; every row needs one to belong to a site"
        )
    return [str(value) for value in values.to_pylist()]


def _by_value(values: Sequence[str], column: str, sites: Sequence[SiteName]) -> Indices:
    """The site of each row by its value: the site of that name, or the one that had the fewest rows when its value was dealt."""
    sizes = Counter(values)
    if set(sizes) & set(sites):
        strangers = sorted(set(sizes) - set(sites))
        if strangers:
            raise Refused(
                f"column {column!r} holds {strangers[0]!r}, which is none of the sites {', '.join(sites)}; invite it, or leave its "
                "rows out"
            )
        place_of = {value: sites.index(site) for site in sites for value in [str(site)]}
        return np.array([place_of[value] for value in values])
    loads = [0] * len(sites)
    place_of = {}
    for value, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
        place_of[value] = loads.index(min(loads))
        loads[place_of[value]] += size
    return np.array([place_of[value] for value in values])


def _by_label(labels: Sequence[str], alpha: float, count: int, source: np.random.Generator) -> Indices:
    owners = np.zeros(len(labels), dtype=np.int64)
    classes = np.asarray(labels)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(classes == label)
        shares = source.dirichlet(np.full(count, alpha))
        owners[rows] = _shuffled(rows, shares, source, len(labels))[rows]
    return owners


def _shuffled(
    rows: Indices, shares: npt.NDArray[np.float64], source: np.random.Generator, total: int
) -> Indices:
    """Deal `rows` in random order by `shares`: (total,) places, of which those of `rows` are set."""
    owners = np.zeros(total, dtype=np.int64)
    owners[source.permutation(rows)] = np.repeat(np.arange(len(shares)), _whole(shares, len(rows)))
    return owners


def _whole(shares: npt.NDArray[np.float64], count: int) -> Indices:
    """Whole numbers that add up to `count`, nearest to `shares` of it: largest remainders."""
    exact = shares / shares.sum() * count
    sizes = np.floor(exact).astype(np.int64)
    most = np.argsort(-(exact - sizes), kind="stable")[: count - int(sizes.sum())]
    sizes[most] += 1
    return np.asarray(sizes)


def _check(owners: Indices, labels: Sequence[str], sites: Sequence[SiteName], partition: Partition) -> None:
    classes = np.asarray(labels)
    empty = [site for place, site in enumerate(sites) if not (owners == place).any()]
    single = [
        site
        for place, site in enumerate(sites)
        if site not in empty and len(set(classes[owners == place])) == 1
    ]
    remedy = (
        "another column or fewer sites"
        if isinstance(partition, ByColumn)
        else "a larger alpha, fewer sites or more rows"
    )
    for found, what in ((empty, "no rows"), (single, "rows of one class only, and training needs both")):
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise Refused(f"{', '.join(found[:_NAMED])}{more} would get {what}; use {remedy}")
