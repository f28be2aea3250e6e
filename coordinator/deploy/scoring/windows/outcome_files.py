"""Files of outcomes, as a bank's systems write them: CSV or Parquet, with a request's id, the row in it, what became of the applicant, and groups.

Columns are `request`, `outcome`, where requests have several applications `row` (from 0), and protected attributes that the monitor names; no others.
Values are words of the contract. None is repeated in an error: it is about a person.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from strategies.errors import UsageError

MOST_BYTES: Final = 1 << 30
MOST_ROWS: Final = 10_000_000
_NEEDED: Final = ("request", "outcome")
_ROW: Final = "row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One row of a file: `row` is None where the file does not say it, `outcome` and groups where there is none."""

    request: str
    row: int | None
    outcome: str | None
    groups: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class OutcomeFile:
    """What a file holds; `attributes` are the protected ones that it has a column of."""

    table: pa.Table
    attributes: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, protected: Collection[str]) -> OutcomeFile:
        """Read a file in which the attributes `protected` may stand. Raises UsageError for one that is too large, or has other columns."""
        try:
            size = path.stat().st_size
            table = _read(path) if size <= MOST_BYTES else None
        except (OSError, pa.ArrowException) as error:
            raise UsageError(
                f"{path} cannot be read as outcomes ({type(error).__name__}); write it as CSV or Parquet"
            ) from error
        if table is None or table.num_rows > MOST_ROWS:
            raise UsageError(
                f"{path} is too large; use at most {MOST_ROWS} rows and {MOST_BYTES} bytes a file"
            )
        names = table.column_names
        if missing := [each for each in _NEEDED if each not in names]:
            raise UsageError(f"{path} has no column {missing[0]}; it needs request and outcome")
        for place, name in enumerate(names):
            if name in names[:place]:
                raise UsageError(f"{path} has two columns of one name: {name[:100]!r}")
            if name not in {*_NEEDED, _ROW, *protected}:
                raise UsageError(
                    f"{path} has a column {name[:100]!r}; use request, row, outcome, and of protected attributes those that the monitor names: "
                    f"{', '.join(protected) or 'none'}"
                )
        return cls(table, tuple(each for each in protected if each in names))

    def __iter__(self) -> Iterator[Reported]:
        for batch in self.table.to_batches(max_chunksize=1 << 16):
            columns = {name: _texts(batch.column(name)) for name in batch.schema.names}
            rows = columns.get(_ROW, [None] * batch.num_rows)
            for place in range(batch.num_rows):
                yield Reported(
                    request=columns["request"][place] or "",
                    row=_place(rows[place]) if _ROW in columns else None,
                    outcome=columns["outcome"][place],
                    groups={each: columns[each][place] for each in self.attributes},
                )


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    if path.suffix != ".csv":
        raise UsageError(f"{path} is neither .csv nor .parquet; name it by what it is")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader([file.readline(1 << 16)]), [])
    # As they stand: an id of digits is no number.
    words = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pyarrow.csv.read_csv(path, convert_options=words)


def _texts(column: pa.Array) -> list[Any]:
    """A column's words, None for what is missing or empty."""
    return [each or None for each in pc.cast(column, pa.string(), safe=False).to_pylist()]


def _place(text: str | None) -> int:
    """The row that a word says; -1, which no request has, for none."""
    return int(text) if text and text.isdecimal() and len(text) <= 6 else -1  # noqa: PLR2004  (a request has at most 10 000 rows)
