"""Rows that are in memory already: what simulations deal out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from client.data.connectors.interface import BATCH_ROWS


@dataclass(frozen=True, slots=True)
class InMemory:
    """The rows of `data`."""

    data: pa.Table
    named: str
    textual: bool = False
    damaged: str = "cannot be read"

    def columns(self) -> list[str]:
        """All its columns."""
        return list(self.data.column_names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows."""
        yield from self.data.select(list(columns)).combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
