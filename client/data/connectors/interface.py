"""What every connector is, and the few things that several of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from client.data.table import BLOCK_ROWS

BATCH_ROWS = BLOCK_ROWS
"""Most rows in a batch."""


class Connector(Protocol):
    """Rows somewhere, to read and never to change.

    `named` is what messages call them, without a secret; `damaged` how a sentence about rows that cannot be read goes on. `textual` says that
    the place has no types, so that a number may be written as text.
    """

    @property
    def named(self) -> str:
        """Short, for messages."""

    @property
    def damaged(self) -> str:
        """How a sentence ends about what cannot be read."""

    @property
    def textual(self) -> bool:
        """Whether there is nothing but text."""

    def columns(self) -> list[str]:
        """The names of all columns there are. Raises `Unreadable`."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of `columns`, in that order, at most `BATCH_ROWS` at a time, from one moment. Raises `Unreadable`."""


def sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` in pieces of at most `BATCH_ROWS`."""
    for first in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(first, BATCH_ROWS)


def quoted(name: str) -> str:
    """An identifier of SQL, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def quoted_path(table: str) -> str:
    """`table`, or `schema.table`, each part an identifier."""
    return ".".join(map(quoted, table.split(".")))
