"""Dealing the rows of one table to simulated sites: as a column says, or skewed as the field's experiments do it.

1. One seed decides everything: the same rows, the same seed, the same sites on every machine.
2. Every row is at exactly one site, and a site keeps the order of its rows.
3. A site without rows, or whose rows are all of one class, cannot train: that is refused with what to change.

Sources: label skew by a Dirichlet distribution, class by class as Yurochkin et al. 2019 deal it ("Bayesian Nonparametric Federated
Learning of Neural Networks"), site by site in Hsu, Qi, Brown 2019; quantity skew, Li et al. 2022 ("Federated Learning on Non-IID Data
Silos"), section 4.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

Indices = npt.NDArray[np.int64]
_ACCEPTED: Final = "by:COLUMN, dirichlet:ALPHA, quantity:ALPHA or even"
_NAMED: Final = 5
_LARGEST_ALPHA: Final = 1e300  # of larger ones the sum over sites overflows; the sites are equal long before


@dataclass(frozen=True, slots=True)
class ByColumn:
    """Each value of `column` goes whole to one site: to the site of that name, or, where values are no sites' names, balanced."""

    column: str


@dataclass(frozen=True, slots=True)
class _Skew:
    """Raises `UsageError` unless alpha is finite and above 0."""

    alpha: float

    def __post_init__(self) -> None:
        _check_alpha(self.alpha, f"alpha {self.alpha}")


@dataclass(frozen=True, slots=True)
class Dirichlet(_Skew):
    """Label skew: of each class, the sites get shares drawn from Dir(alpha). The smaller alpha, the more the sites differ."""


@dataclass(frozen=True, slots=True)
class Quantity(_Skew):
    """Quantity skew: the sites' sizes are drawn from Dir(alpha), their labels are alike in expectation."""


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
    """The rows of a Parquet or CSV file: CSV in UTF-8, with a header and commas. Raises `UsageError` naming the file.

    A CSV column is of numbers or of text as written: dates and truth values are not interpreted.
    """
    readers: Mapping[str, Callable[[BinaryIO], pa.Table]] = {".parquet": _read_parquet, ".csv": _read_csv}
    kind = path.suffix.lower()
    if kind not in readers:
        raise UsageError(f"{path} is neither .parquet nor .csv; give one of these with the rows of all sites")
    try:
        # A file handle, because a path would let pyarrow read a folder as a partitioned data set, or guess from its name.
        with path.open("rb") as file:
            table = readers[kind](file)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; name the file with the rows of all sites") from error
    except (OSError, pa.ArrowException) as error:
        said = error.strerror if isinstance(error, OSError) else None  # pyarrow's own OSErrors carry none
        reason = said or " ".join(str(error).split())[:200]
        raise UsageError(f"{path} cannot be read ({reason}); give a readable Parquet or CSV file") from error
    if table.num_rows == 0:
        raise UsageError(f"{path} has no rows; give the rows of all sites")
    return table


def deal(
    table: pa.Table, sites: Sequence[SiteName], partition: Partition, *, target: str, seed: int
) -> dict[SiteName, pa.Table]:
    """The rows of each site. `target` is the column with the two classes.

    Raises `UsageError` for a column that is not there once, no sites or the same site twice; `Refused` for missing values, and
    where a site would have no rows or rows of one class only.
    """
    _check_sites(sites)
    labels = values_of(table, target)
    if len(set(labels)) == 1:
        raise Refused(f"column {target!r} is {labels[0]!r} in every row; training needs rows of both classes")
    source = np.random.Generator(np.random.PCG64(seed))
    match partition:
        case ByColumn(column):
            owners = _by_value(values_of(table, column), column, sites)
        case Dirichlet(alpha):
            owners = _by_label(labels, alpha, len(sites), source)
        case Quantity(alpha):
            owners = _shuffled(table.num_rows, _drawn(alpha, len(sites), source), source)
        case Even():
            owners = _shuffled(table.num_rows, np.ones(len(sites)), source)
        case unreachable:
            assert_never(unreachable)
    _check(owners, labels, sites, partition)
    return {site: table.take(np.flatnonzero(owners == place)) for place, site in enumerate(sites)}


def _alpha(kind: str, text: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    _check_alpha(alpha, f"{kind}:{text}")
    return alpha


def _check_alpha(alpha: float, said: str) -> None:
    if not 0 < alpha < math.inf:  # phrased so that NaN is refused
        raise UsageError(f"{said}: alpha must be a number above 0, such as 0.5")


def _check_sites(sites: Sequence[SiteName]) -> None:
    if not sites:
        raise UsageError("there are no sites to deal rows to; name at least one")
    site, times = Counter(sites).most_common(1)[0]
    if times > 1:
        raise UsageError(f"site {site} is named {times} times; name each site once")


def _read_parquet(file: BinaryIO) -> pa.Table:
    table = pq.ParquetFile(file).read()
    table.validate(full=True)  # reading does not check that text is UTF-8
    return table


def _read_csv(file: BinaryIO) -> pa.Table:
    guessed = pv.read_csv(file)
    numbers = (pa.types.is_integer, pa.types.is_floating)
    text = {each.name: pa.string() for each in guessed.schema if not any(is_(each.type) for is_ in numbers)}
    file.seek(0)
    # The guess calls text that is not UTF-8 binary, and true, 2016-01-01 no text at all: read again, text is checked and exact.
    return pv.read_csv(file, convert_options=pv.ConvertOptions(column_types=text))


def values_of(table: pa.Table, column: str) -> list[str]:
    """A column as text. Raises `UsageError` where it is not there once, `Refused` where values are missing or empty."""
    times = table.column_names.count(column)
    if times > 1:
        raise UsageError(f"column {column!r} is {times} times in the data; keep one")
    if times == 0:
        near = difflib.get_close_matches(column, table.column_names, n=3, cutoff=0.4)
        there = ", ".join(near or table.column_names[:_NAMED])
        raise UsageError(
            f"there is no column {column!r} in the data; {'the nearest are' if near else 'there are'} {there}"
        )
    values = table.column(column)
    absent = pc.is_null(values, nan_is_null=True).to_pylist()
    words = ["" if gone else str(value) for gone, value in zip(absent, values.to_pylist(), strict=True)]
    if missing := words.count(""):
        raise Refused(
            f"column {column!r} has {missing} missing values; fill them in, or leave these rows out"
        )
    return words


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
        place_of = {str(site): place for place, site in enumerate(sites)}
    else:
        place_of = {}
        loads = [0] * len(sites)
        for value, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
            place_of[value] = loads.index(min(loads))
            loads[place_of[value]] += size
    return np.array([place_of[value] for value in values])


def _by_label(labels: Sequence[str], alpha: float, count: int, source: np.random.Generator) -> Indices:
    owners = np.zeros(len(labels), dtype=np.int64)
    classes = np.asarray(labels)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(classes == label)
        owners[rows] = _shuffled(len(rows), _drawn(alpha, count, source), source)
    return owners


def _drawn(alpha: float, count: int, source: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count,) shares from Dir(alpha)."""
    return source.dirichlet(np.full(count, min(alpha, _LARGEST_ALPHA)))


def _shuffled(count: int, shares: npt.NDArray[np.float64], source: np.random.Generator) -> Indices:
    """(count,) places of sites: as many of each as `shares` gives it, in random order."""
    owners = np.empty(count, dtype=np.int64)
    owners[source.permutation(count)] = np.repeat(np.arange(len(shares)), whole_numbers(shares, count))
    return owners


def whole_numbers(shares: npt.NDArray[np.float64], count: int) -> Indices:
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
    alpha = "a larger alpha, " if isinstance(partition, Dirichlet | Quantity) else ""
    by_column = isinstance(partition, ByColumn)
    remedy = "another column or fewer sites" if by_column else f"{alpha}fewer sites or more rows"
    for found, what in ((empty, "no rows"), (single, "rows of one class only, and training needs both")):
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise Refused(f"{', '.join(found[:_NAMED])}{more} would get {what}; use {remedy}")
