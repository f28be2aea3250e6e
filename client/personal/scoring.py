"""Scores of a file of applications by a model of this site: features only, encoded as the shared model has it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from client.data import DataError
from client.personal.blend import Blend
from client.shared_models import SharedModel
from protos.contract import CategoryColumn
from strategies.encoding import Vector
from strategies.errors import UsageError

Encoded = npt.NDArray[np.float32]
_MOST_BYTES: Final = 1 << 30


def read_applications(
    file: Path, shared: SharedModel, renamed: Mapping[str, str]
) -> tuple[list[str], Encoded]:
    """Keys, and rows as the model sees them, of a Parquet or CSV file of at most 1 GiB; `renamed` maps contract names to its names.

    Without the contract's key column rows are numbered from 1. Raises DataError, and as `FeatureSpec.encode` does.
    """
    contract = shared.contract
    data = _read(file, shared, renamed)
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in shared.plan.features:
        stored = renamed.get(name, name)
        if stored not in data.column_names:
            raise DataError(f"{file.name} has no column {stored!r}, which the model needs")
        column = data.column(stored)
        if isinstance(contract.columns[name], CategoryColumn):
            columns[name] = np.array(_cast(column, pa.string(), stored, file).to_pylist(), dtype=object)
        else:
            columns[name] = _numbers(_cast(column, pa.float64(), stored, file), stored, file)
    key = renamed.get(contract.key, contract.key)
    keys = (
        [str(each) for each in data.column(key).to_pylist()]
        if key in data.column_names
        else [str(place) for place in range(1, data.num_rows + 1)]
    )
    return keys, shared.features.encode(columns, shared.scaling)


def scored(keys: list[str], rows: Encoded, model: Blend) -> bytes:
    """A CSV file of keys and scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "score"))
    writer.writerows((key, f"{score:.9f}") for key, score in zip(keys, model.scores(rows), strict=True))
    return text.getvalue().encode()


def _read(file: Path, shared: SharedModel, renamed: Mapping[str, str]) -> pa.Table:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{file} is larger than {_MOST_BYTES} bytes; score it in parts")
        with file.open("rb") as opened:
            if file.suffix.lower() != ".csv":
                return pq.ParquetFile(opened).read()
            # Words stay words: a code such as 007 is not a number because it looks like one.
            words = [
                renamed.get(name, name)
                for name in (*shared.plan.features, shared.contract.key)
                if isinstance(shared.contract.columns.get(name, None), CategoryColumn)
                or name == shared.contract.key
            ]
            options = pa_csv.ConvertOptions(
                column_types=dict.fromkeys(words, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            )
            return pa_csv.read_csv(opened, convert_options=options)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise DataError(
            f"{file} is not a readable Parquet or CSV file ({' '.join(str(error).split())[:200]})"
        ) from error


def _cast(column: pa.ChunkedArray, kind: pa.DataType, stored: str, file: Path) -> pa.ChunkedArray:
    try:
        return pc.cast(column, kind)
    except pa.ArrowException as error:
        raise DataError(
            f"column {stored!r} of {file.name} holds {column.type}, which is no {kind}; the contract says what it must be"
        ) from error


def _numbers(column: pa.ChunkedArray, stored: str, file: Path) -> Vector:
    numbers = np.asarray(column.to_numpy(), dtype=np.float64)
    if np.isinf(numbers).any():
        raise DataError(
            f"column {stored!r} of {file.name} has infinite values; a number must be finite or missing"
        )
    return numbers
