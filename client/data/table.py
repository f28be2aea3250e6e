"""A site's rows as its contract means them, in the order of their keys.

1. A table is read-only and shared: what a session trains on is a `Part`, places in it, without a copy.
2. Nothing here prints a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Coded, Columns

BLOCK_ROWS: Final = 1 << 16
"""Most rows that are taken from a large table at a time."""

Integers = npt.NDArray[np.int64]


class Texts(Sequence[str]):
    """n texts in Arrow's memory: about four bytes each more than their own."""

    def __init__(self, stored: pa.ChunkedArray) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[str]:
        for chunk in self._stored.chunks:
            for first in range(0, len(chunk), BLOCK_ROWS):
                yield from chunk.slice(first, BLOCK_ROWS).to_pylist()

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        return str(self._stored[place].as_py())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} texts>"

    @property
    def arrow(self) -> pa.ChunkedArray:
        """The same, for whole-column work."""
        return self._stored

    def take(self, places: npt.NDArray[np.integer]) -> Texts:
        """Those at `places`, (m,), in that order."""
        return Texts(self._stored.take(pa.array(places)))


def texts(values: Sequence[str]) -> Texts:
    """`values` in Arrow's memory."""
    if isinstance(values, Texts):
        return values
    return Texts(pa.chunked_array([pa.array(list(values), pa.large_string())]))


@dataclass(frozen=True, slots=True)
class Table:
    """n rows of one site: `columns` by contract name, `target` (n,) float64 with 1 for the positive class, n `keys`, n `customers`.

    Number columns are float64 with NaN for missing; category columns are coded, or object arrays of str with None for missing. `customers` is None
    where the contract has no customer column. `protected` holds the protected attributes that were asked for: never among the columns, so that nothing
    encodes them.
    """

    columns: Columns
    target: Vector
    keys: Sequence[str]
    customers: Sequence[str] | None = None
    protected: Columns = field(default_factory=dict)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """The rows for which `chosen`, (n,), is true, in order."""
        places = np.flatnonzero(chosen)
        return type(self)(
            columns={name: values[places] for name, values in self.columns.items()},
            target=self.target[places],
            keys=_taken(self.keys, places),
            customers=None if self.customers is None else _taken(self.customers, places),
            protected={name: values[places] for name, values in self.protected.items()},
        )

    def __repr__(self) -> str:
        return f"<{len(self.keys)} rows of {len(self.columns)} columns>"


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of `table` at `places`, (m,) int64, without a copy of them."""

    table: Table
    places: Integers

    def __len__(self) -> int:
        return len(self.places)

    @property
    def target(self) -> Vector:
        """(m,) float64."""
        return self.table.target[self.places]

    @property
    def keys(self) -> Sequence[str]:
        """m keys, in order."""
        return _taken(self.table.keys, self.places)

    @property
    def customers(self) -> Sequence[str] | None:
        """m customers, in order, where the contract has them."""
        return None if self.table.customers is None else _taken(self.table.customers, self.places)

    @property
    def columns(self) -> Columns:
        """All columns of these rows, (m,) each, copied."""
        return self.at(slice(None))

    def at(self, rows: Integers | slice, names: Sequence[str] | None = None) -> Mapping[str, Any]:
        """The columns `names` (all, if None) of some of these rows, by their number here, copied."""
        places = self.places[rows]
        chosen = self.table.columns if names is None else {name: self.table.columns[name] for name in names}
        return {name: values[places] for name, values in chosen.items()}

    def protected_at(self, rows: Integers | slice, names: Sequence[str]) -> Mapping[str, Any]:
        """The protected attributes `names` of some of these rows, by their number here, copied. Raises UsageError for one that was not read."""
        missing = [name for name in names if name not in self.table.protected]
        if missing:
            raise UsageError(f"{missing[0]} is a protected attribute, and was not read with these rows")
        places = self.places[rows]
        return {name: self.table.protected[name][places] for name in names}

    def some(self, rows: Integers | npt.NDArray[np.bool_]) -> Part:
        """Some of these rows."""
        return Part(self.table, self.places[rows])


def blocks(rows: int) -> Iterator[slice]:
    """From 0 to `rows`, at most `BLOCK_ROWS` at a time; one empty block where there are none."""
    for first in range(0, max(rows, 1), BLOCK_ROWS):
        yield slice(first, min(first + BLOCK_ROWS, rows))


def _taken(values: Sequence[str], places: Integers) -> Sequence[str]:
    return values.take(places) if isinstance(values, Texts) else [values[place] for place in places]


__all__ = ["BLOCK_ROWS", "Coded", "Part", "Table", "Texts", "blocks", "texts"]
