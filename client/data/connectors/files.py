"""Parquet, CSV and Arrow files, through pyarrow.

What pyarrow says about a damaged file is not repeated, because it quotes what it found there.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from client.data.connectors.interface import BATCH_ROWS, sliced
from client.data.report import Unreadable
from protos.site_data import CsvText

_BLOCK_BYTES: Final = 4 << 20
_LONGEST_HEADER: Final = 1 << 20
_ARROW_FILE: Final = b"ARROW1"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path

    @property
    def named(self) -> str:
        """The file's name."""
        return self.path.name

    @contextmanager
    def _opened(self, kind: str) -> Iterator[IO[bytes]]:
        """The file, and its troubles in one sentence."""
        try:
            # A file handle, because a path would let pyarrow read a folder as a data set, or guess from its name.
            with self.path.open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise Unreadable(
                f"{self.path} does not exist; `file` must name the {kind} file with this site's rows"
            ) from error
        except MemoryError:  # Arrow's is an ArrowException too
            raise
        except (OSError, pa.ArrowException, UnicodeError) as error:
            # pyarrow reports a damaged file as an OSError too, but only the operating system's carry a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise Unreadable(
                    f"{self.path} cannot be read ({error.strerror}); `file` must name a {kind} file that the agent's user may read"
                ) from error
            raise Unreadable(
                f"{self.path} is not a readable {kind} file; write it again as {kind}"
            ) from error


@dataclass(frozen=True, slots=True)
class ParquetFile(_File):
    """A Parquet file, one part of a row group at a time."""

    textual = False
    damaged = "is not a readable Parquet file; write it again as Parquet"

    def columns(self) -> list[str]:
        """Of its schema."""
        with self._opened("Parquet") as file:
            return list(pq.ParquetFile(file).schema_arrow.names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows."""
        with self._opened("Parquet") as file:
            stored = pq.ParquetFile(file, buffer_size=_BLOCK_BYTES, pre_buffer=False)
            for batch in stored.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                yield batch.select(list(columns))


@dataclass(frozen=True, slots=True)
class ArrowFile(_File):
    """A file or stream in Arrow's IPC format."""

    textual = False
    damaged = "is not a readable Arrow file; write it again as Arrow IPC"

    def columns(self) -> list[str]:
        """Of its schema."""
        with self._opened("Arrow") as file:
            return list(_ipc(file).schema.names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows."""
        with self._opened("Arrow") as file:
            stored = _ipc(file)
            found = (
                (stored.get_batch(place) for place in range(stored.num_record_batches))
                if isinstance(stored, pa.ipc.RecordBatchFileReader)
                else stored
            )
            for batch in found:
                yield from sliced(batch.select(list(columns)))


def _ipc(file: IO[bytes]) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


@dataclass(frozen=True, slots=True)
class CsvFile(_File):
    """A CSV file with a header. Every column is read as text: `007` is a key, and not seven."""

    text: CsvText

    textual = True
    damaged = "is not a readable CSV file; write it again as CSV"

    def columns(self) -> list[str]:
        """Of its header."""
        with self._opened("CSV") as file:
            head = file.readline(_LONGEST_HEADER)
            self._require_code_page()
            if not head.strip():
                return []
            line = pa.BufferReader(codecs.decode(head, self.text.encoding).removeprefix("\ufeff").encode())
            options = pv.ReadOptions(autogenerate_column_names=True)
            names = pv.read_csv(
                line,
                read_options=options,
                parse_options=self._parsing,
                convert_options=pv.ConvertOptions(
                    column_types={f"f{place}": pa.string() for place in range(10_000)}
                ),
            )
            return [str(column[0].as_py()) for column in names.columns]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows."""
        names = list(columns)
        with self._opened("CSV") as file:
            reader = pv.open_csv(
                file,
                read_options=pv.ReadOptions(
                    block_size=_BLOCK_BYTES, encoding=self.text.encoding, use_threads=False
                ),
                parse_options=self._parsing,
                convert_options=pv.ConvertOptions(
                    include_columns=names,
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            for batch in reader:
                yield from (self._with_points(piece) for piece in sliced(batch))

    def _with_points(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Decimals after a point. Text that only looks like a number keeps its comma where it has a letter."""
        if self.text.decimal == ".":
            return batch
        pattern = r"^(\s*[+-]?[0-9]+),([0-9]+\s*)$"
        return pa.record_batch(
            [pc.replace_substring_regex(each, pattern, r"\1.\2") for each in batch.columns],
            names=batch.schema.names,
        )

    @property
    def _parsing(self) -> pv.ParseOptions:
        return pv.ParseOptions(delimiter=self.text.delimiter, newlines_in_values=False)

    def _require_code_page(self) -> None:
        try:
            codecs.lookup(self.text.encoding)
        except LookupError as error:
            raise Unreadable(
                f"`csv.encoding` is {self.text.encoding}, which is no code page that Python knows"
            ) from error
