"""Tables in a DuckDB file, natively: read-only, without access to anything outside that file.

What DuckDB says about a failure is not repeated, because it quotes the value; of one while rows are read pyarrow makes an OSError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from client.data.connectors.interface import BATCH_ROWS, quoted, quoted_path, sliced
from client.data.report import DataError, Unreadable

if TYPE_CHECKING:
    import duckdb

# Within `run` of every site: one thread, and what the least `run.memory` is.
_CONFIG: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "256MB",
    # Else rows that a view sorts are left beside the database, in files that everybody may read.
    "temp_directory": "",
    "threads": "1",
    "lock_configuration": "true",
}
_OUT_OF_MEMORY: Final = "Out of Memory Error"


@dataclass(frozen=True, slots=True)
class DuckTable:
    """A table or view of the DuckDB file at `path`."""

    path: Path
    table: str

    textual = False
    damaged = "cannot be read; check the file with DuckDB"

    @property
    def named(self) -> str:
        """File and table."""
        return f"{self.path.name} table {self.table}"

    def columns(self) -> list[str]:
        """Of the table."""
        with self._connected() as connection:
            found = connection.sql(f"SELECT * FROM {quoted_path(self.table)} LIMIT 0")  # noqa: S608
            return list(found.to_arrow_table().column_names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its rows, from one snapshot."""
        with self._connected() as connection:
            listed = ", ".join(map(quoted, columns))
            found = connection.sql(f"SELECT {listed} FROM {quoted_path(self.table)}")  # noqa: S608
            for batch in found.to_arrow_reader(BATCH_ROWS):
                yield from sliced(batch)

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            import duckdb
        except ImportError as error:
            raise DataError(
                f"{self.path.name} needs DuckDB, which is not installed here; run: pip install 'covenant-fl[duckdb]'"
            ) from error
        if not self.path.is_file():
            raise Unreadable(
                f"{self.path} does not exist; `file` must name the DuckDB file with this site's rows"
            )
        try:
            with duckdb.connect(str(self.path), read_only=True, config=dict(_CONFIG)) as connection:
                yield connection
        except duckdb.CatalogException as error:
            raise Unreadable(
                f"{self.path.name} has no table {self.table}; `table` must name a table or view in it"
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise MemoryError("DuckDB is out of memory") from error
        except MemoryError:  # Arrow's is an ArrowException too
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if str(error).startswith(_OUT_OF_MEMORY):
                raise MemoryError("DuckDB is out of memory") from None
            raise Unreadable(
                f"{self.named} cannot be read ({type(error).__name__}); check the file with DuckDB"
            ) from None
