"""From a site's file to the columns of its data contract, or one sentence about why not.

1. The contract decides: which columns, which type, whether values may be missing, what the two classes are called.
2. Nothing is guessed or repaired: text in a number column, a third class, an empty file are refused.
3. Messages name columns, files and counts for the site's own operator. They depend on the data: they stay in the site's log, and
   the centre hears `contract` and nothing more.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from protos.contract import CategoryColumn, Contract, NumberColumn, Target
from protos.site import DataSource
from strategies.encoding import Vector
from strategies.errors import Refused

_SHOWN = 40
BLOCK_ROWS: Final = 1 << 16
"""How many rows are encoded and scored at a time."""


class DataError(Refused):
    """Data that does not fit its contract, in one sentence for the site's operator; the text may not leave the site."""


@dataclass(frozen=True, slots=True)
class Table:
    """n rows of one site: `columns` by contract name, `target` (n,) float64 with 1 for the positive class, n `keys`, n `customers`.

    Number columns are float64 with NaN for missing; category columns are object arrays of str with None for missing. `customers` is None where
    the contract has no customer column.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    target: Vector
    keys: list[str]
    customers: list[str] | None = None

    def blocks(self) -> Iterator[tuple[Mapping[str, npt.NDArray[Any]], Vector]]:
        """Columns and target of `BLOCK_ROWS` rows at a time, in order: nothing of a table without rows."""
        for first in range(0, len(self.keys), BLOCK_ROWS):
            part = slice(first, first + BLOCK_ROWS)
            yield {name: values[part] for name, values in self.columns.items()}, self.target[part]

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """The rows for which `chosen`, (n,), is true, in order."""
        return type(self)(
            columns={name: values[chosen] for name, values in self.columns.items()},
            target=self.target[chosen],
            keys=[self.keys[place] for place in np.flatnonzero(chosen)],
            customers=None
            if self.customers is None
            else [self.customers[place] for place in np.flatnonzero(chosen)],
        )


def load_table(source: DataSource, contract: Contract) -> Table:
    """Read the contract's columns from the Parquet file that `source` names. Raises `DataError`."""
    path = Path(source.file)
    return table_from(_read(path), contract, renamed=source.columns, named=path.name)


def table_from(data: pa.Table, contract: Contract, *, renamed: Mapping[str, str], named: str) -> Table:
    """Take the contract's columns from `data`, called `named` in messages; `renamed` maps contract names to its names.

    Raises `DataError`.
    """
    if data.num_rows == 0:
        raise DataError(f"{named} has no rows; it must hold at least one row of each class")
    _check_renamed(renamed, contract, named)
    columns = _Columns(data, renamed, named)
    return Table(
        columns={
            name: columns.number(name, column)
            if isinstance(column, NumberColumn)
            else columns.category(name, column)
            for name, column in contract.columns.items()
        },
        target=columns.target(contract.target),
        keys=columns.keys(contract.key),
        customers=None if contract.customer is None else columns.keys(contract.customer),
    )


def _read(path: Path) -> pa.Table:
    """The whole Parquet file at `path`."""
    try:
        # A file handle, because a path would let pyarrow read a folder as a partitioned data set, or guess from its name.
        with path.open("rb") as file:
            data = pq.ParquetFile(file).read()
        data.validate(full=True)  # reading does not check that text is UTF-8
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; `file` must name the Parquet file with this site's rows"
        ) from error
    except (OSError, pa.ArrowException) as error:
        # pyarrow reports a damaged file as an OSError too, but only the operating system's carry a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(
                f"{path} cannot be read ({error.strerror}); `file` must name a Parquet file that the agent's user may read"
            ) from error
        raise DataError(
            f"{path} is not a readable Parquet file ({_one_line(error)}); write it again as Parquet"
        ) from error
    return data


def _check_renamed(renamed: Mapping[str, str], contract: Contract, named: str) -> None:
    known = {*contract.columns, contract.key, contract.target.column} | {contract.customer or contract.key}
    for name in renamed:
        if name not in known:
            raise DataError(
                f"`columns` for {named} renames {name!r}, which is not a column of contract {contract.ref}{_nearest(name, known)}"
            )


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of one file, each checked against its contract as it is taken."""

    data: pa.Table
    renamed: Mapping[str, str]
    named: str

    def number(self, name: str, column: NumberColumn) -> Vector:
        """(n,) float64, NaN for missing."""
        values = self._column(name)
        if not _is_number(values.type):
            raise self._error(name, f"holds {values.type}; the contract says number, store it as one")
        numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
        if np.isinf(numbers).any():
            raise self._error(
                name, f"has {np.isinf(numbers).sum()} infinite values; a number must be finite or missing"
            )
        if column.missing == "refuse":
            self._check_missing(name, int(np.isnan(numbers).sum()), "the contract refuses them")
        return numbers

    def category(self, name: str, column: CategoryColumn) -> npt.NDArray[np.object_]:
        """(n,) str, None for missing. Words outside the vocabulary stay: the encoding counts them as "other"."""
        words = self._words(name, "category")
        found = {word for word in words if word is not None}
        # Each stray word is "other", but no word at all in common is a coding that the contract does not know.
        if found and not found & set(column.vocabulary):
            raise self._error(
                name,
                f"holds {_shortened(min(found))} and no word of the contract's vocabulary, {_listed(column.vocabulary)}; "
                "use the contract's words",
            )
        return words

    def target(self, target: Target) -> Vector:
        """(n,) float64, 1 for the positive class."""
        words = self._words(target.column, "category")
        classes = (target.positive, target.negative)
        self._check_missing(target.column, sum(word is None for word in words), "every row needs its class")
        for word in words:
            if word not in classes:
                raise self._error(
                    target.column,
                    f"holds {_shortened(word)}; the contract's classes are {target.positive!r} and {target.negative!r}"
                    f"{_nearest(word, classes)}",
                )
        positive = words == target.positive
        if positive.all() or not positive.any():
            raise self._error(
                target.column, f"is {words[0]!r} in every row; training needs rows of both classes"
            )
        return np.asarray(positive, dtype=np.float64)

    def keys(self, name: str) -> list[str]:
        """One str a row; the same record has the same key wherever it is stored."""
        words = self._words(name, "key")
        self._check_missing(name, sum(word is None for word in words), "every row needs its key")
        return list(words)

    def _words(self, name: str, wanted: str) -> npt.NDArray[np.object_]:
        """A column of text or whole numbers as (n,) str, None for missing or empty."""
        values = self._column(name)
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        # Decimal and float codes are refused: 1, 1.0 and 1.00 would be three words for one code.
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise self._error(
                name, f"holds {values.type}; the contract says {wanted}, store it as text or whole numbers"
            )
        words = pc.cast(pc.cast(values, kind), pa.string()).to_pylist()
        return np.array([word or None for word in words], dtype=object)

    def _column(self, name: str) -> pa.ChunkedArray:
        stored = self.renamed.get(name, name)
        count = self.data.column_names.count(stored)
        if count == 0:
            raise self._error(name, f"is missing{_nearest(stored, self.data.column_names)}")
        if count > 1:
            raise self._error(name, f"is there {count} times; keep one")
        return self.data.column(stored)

    def _check_missing(self, name: str, missing: int, rule: str) -> None:
        if missing:
            raise self._error(name, f"has {missing} missing values; {rule}")

    def _error(self, name: str, sentence: str) -> DataError:
        stored = self.renamed.get(name, name)
        alias = "" if stored == name else f" (`{name}` in the contract)"
        return DataError(f"column {stored!r}{alias} of {self.named} {sentence}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the known word that resembles `name`, whatever its case, or nothing."""
    folded = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; the nearest is {folded[near[0]]!r}" if near else ""


def _shortened(word: str) -> str:
    return repr(word if len(word) <= _SHOWN else word[:_SHOWN] + "...")


def _listed(words: tuple[str, ...]) -> str:
    shown = ", ".join(words[:5])
    return f"{shown}, ..." if len(words) > 5 else shown  # noqa: PLR2004


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
