"""Where rows are while an agent runs: memory, and beyond a bound a private file without a name, mapped.

1. A file has no name (it is unlinked as it is made, mode 0600) and is gone with the process, however that ends.
2. One record a row: a step that takes rows at random touches one place a row, and not one a column.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.data.report import Unreadable
from client.data.table import BLOCK_ROWS, Table, Texts
from protos.contract import BooleanColumn, CategoryColumn, Contract, NumberColumn
from strategies.features import Coded

SPOOL_ABOVE_BYTES: Final = 64 << 20
"""How much of a table stays in the process's own memory."""

_KEY, _CUSTOMER = "key", "customer"
Record = npt.NDArray[Any]


Kept = dict[str, NumberColumn | BooleanColumn | CategoryColumn]


def kept_columns(contract: Contract, protected: Collection[str] = ()) -> Kept:
    """The columns that a plan may take as features, and those `protected` attributes that it counts: others, and dates, are judged and not kept."""
    unasked = set(contract.protected or ()) - set(protected)
    return {
        name: column
        for name, column in contract.columns.items()
        if isinstance(column, NumberColumn | BooleanColumn | CategoryColumn) and name not in unasked
    }


@dataclass(slots=True)
class Spool:
    """Bytes that are appended and read back as one: in memory up to `most`, then in a file in `folder` (or memory, where that is None)."""

    folder: Path | None
    most: int = SPOOL_ABOVE_BYTES
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0
    _file: IO[bytes] | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401 (whatever has a buffer)
        """Append `data`. Raises `Unreadable` where the disk is full."""
        view = memoryview(data).cast("B")
        self._size += len(view)
        if self._file is None and self._size > self.most and self.folder is not None:
            self._spill()
        if self._file is None:
            self._parts.append(view.tobytes())
        else:
            self._to_file(view)
        return len(view)

    def buffer(self) -> pa.Buffer:
        """All of it."""
        if self._file is None:
            joined = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            return pa.py_buffer(joined)
        try:
            self._file.flush()
        except OSError as error:
            raise _full(self.folder, error) from error
        mapped = mmap.mmap(self._file.fileno(), self._size, prot=mmap.PROT_READ)
        self._file.close()
        return pa.py_buffer(mapped)

    def _spill(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        except OSError as error:
            raise _full(self.folder, error) from error
        for part in self._parts:
            self._to_file(part)
        self._parts.clear()

    def _to_file(self, data: bytes | memoryview) -> None:
        assert self._file is not None  # noqa: S101
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(self.folder, error) from error


def _full(folder: Path | None, error: OSError) -> Unreadable:
    return Unreadable(
        f"rows could not be put into a temporary file in {folder} ({error.strerror}); that folder needs about as much space as the rows"
    )


class Store:
    """Takes batches of checked columns, and gives them back as a `Table` in the order of keys."""

    def __init__(
        self,
        contract: Contract,
        folder: Path | None,
        *,
        most: int = SPOOL_ABOVE_BYTES,
        protected: Collection[str] = (),
    ) -> None:
        self._contract, self._folder, self._most = contract, folder, most
        self._columns = kept_columns(contract, protected)
        kinds = [
            (name, np.uint16 if isinstance(column, CategoryColumn) else np.float64)
            for name, column in self._columns.items()
        ]
        # The widest first, so that aligning adds nothing between them.
        kinds.sort(key=lambda kind: -np.dtype(kind[1]).itemsize)
        self._kind = np.dtype([*kinds, (contract.target.column, np.uint8)], align=True)
        self._records = Spool(folder, most)
        names = [_KEY] if contract.customer is None else [_KEY, _CUSTOMER]
        self._schema = pa.schema([(name, pa.large_string()) for name in names])
        self._texts = Spool(folder, most)
        self._writer = pa.ipc.new_file(_Sink(self._texts), self._schema)

    def append(self, columns: dict[str, npt.NDArray[Any]], told: list[pa.Array]) -> None:
        """Rows of one batch: each kept column and the target, (m,), and keys (and customers), without nulls."""
        records = np.zeros(len(told[0]), dtype=self._kind)
        for name in self._kind.names or ():
            records[name] = columns[name]
        self._records.write(records)
        self._writer.write_batch(
            pa.record_batch([each.cast(pa.large_string()) for each in told], schema=self._schema)
        )

    def finish(self) -> tuple[Table, int]:
        """All rows, and how many of them have a key that another row before them has."""
        self._writer.close()
        records = np.frombuffer(self._records.buffer(), dtype=self._kind)
        told = pa.ipc.open_file(pa.BufferReader(self._texts.buffer())).read_all()
        in_order, repeated = _compared(told[_KEY])
        if not in_order:
            order = _order(told[_KEY])
            records, told = self._sorted(records, order), told.take(pa.array(order))
            _, repeated = _compared(told[_KEY])
        return self._table(records, told), repeated

    def _sorted(self, records: Record, order: npt.NDArray[np.int64]) -> Record:
        again = Spool(self._folder, self._most)
        for first in range(0, len(order), BLOCK_ROWS):
            again.write(records[order[first : first + BLOCK_ROWS]])
        return np.frombuffer(again.buffer(), dtype=self._kind)

    def _table(self, records: Record, told: pa.Table) -> Table:
        protected = set(self._contract.protected or ())
        held = {
            name: Coded(records[name], column.vocabulary)
            if isinstance(column, CategoryColumn)
            else records[name]
            for name, column in self._columns.items()
        }
        return Table(
            columns={name: values for name, values in held.items() if name not in protected},
            protected={name: values for name, values in held.items() if name in protected},
            target=records[self._contract.target.column].astype(np.float64),
            keys=Texts(told[_KEY]),
            customers=None if self._contract.customer is None else Texts(told[_CUSTOMER]),
        )


class _Sink:
    """A `Spool` as Arrow writes to it."""

    closed = False

    def __init__(self, spool: Spool) -> None:
        self.write = spool.write

    def flush(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def _order(keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Where each row of the ordered table is: shorter keys first, then by bytes, then as they stand."""
    named = pa.table({"length": pc.binary_length(keys), _KEY: keys})
    by = [("length", "ascending"), (_KEY, "ascending")]
    return np.asarray(pc.sort_indices(named, sort_keys=by).to_numpy(), dtype=np.int64)


def _compared(keys: pa.ChunkedArray) -> tuple[bool, int]:
    """Whether `keys` are in order, and how many equal the one before."""
    in_order, repeated = True, 0
    for before, after in _neighbours(keys.chunks):
        shorter = pc.less(pc.binary_length(before), pc.binary_length(after))
        alike = pc.equal(pc.binary_length(before), pc.binary_length(after))
        equal = pc.equal(before, after)
        fits = pc.or_(shorter, pc.and_(alike, pc.less_equal(before, after)))
        in_order = in_order and bool(pc.all(fits, min_count=0).as_py())
        repeated += pc.sum(equal, min_count=0).as_py() or 0
    return in_order, repeated


def _neighbours(chunks: Iterable[pa.Array]) -> Iterable[tuple[pa.Array, pa.Array]]:
    """Each text with the next, also across chunks."""
    last: pa.Array | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        joined = chunk if last is None else pa.concat_arrays([last, chunk])
        yield joined.slice(0, len(joined) - 1), joined.slice(1)
        last = chunk.slice(len(chunk) - 1)
