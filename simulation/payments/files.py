"""Payments as files that every other command reads: Parquet a block at a time, with their contract and plans beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from simulation.payments.blocks import FRAUD, Block, blocks_of
from simulation.payments.setting import Setting
from strategies.errors import UsageError

PAYMENTS, TRUTH = "payments.parquet", "truth.parquet"
CONTRACT, PLAN, PRIVATE_PLAN = "payments.yaml", "plan.yaml", "plan-private.yaml"
DOCUMENTS: Final = (CONTRACT, PLAN, PRIVATE_PLAN)
_COMPRESSION: Final = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: payments, those that are labelled fraud, those that are."""

    folder: Path
    payments: int
    labelled: int
    fraud: int


def write(setting: Setting, folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> Written:
    """Write both files and the documents to `folder`, which is made; memory is that of one block. `progress` hears of payments so far.

    Raises UsageError where a file is there already, or cannot be written.
    """
    _check_free(folder)
    counted = _Counted()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in DOCUMENTS:
            (folder / name).write_bytes((files("simulation.payments") / name).read_bytes())
        _stream(setting, folder, counted, progress)
    except OSError as error:
        raise UsageError(
            f"payments cannot be written to {folder} ({error.strerror or error}); name another folder"
        ) from error
    return Written(folder=folder, payments=counted.payments, labelled=counted.labelled, fraud=counted.fraud)


@dataclass
class _Counted:
    payments: int = 0
    labelled: int = 0
    fraud: int = 0

    def add(self, block: Block) -> None:
        self.payments += block.payments.num_rows
        self.labelled += pc.sum(pc.equal(block.payments["label"], FRAUD)).as_py() or 0
        self.fraud += pc.sum(block.truth["fraud"]).as_py() or 0


def _stream(setting: Setting, folder: Path, counted: _Counted, progress: Callable[[int], None]) -> None:
    writers: list[pq.ParquetWriter] = []
    try:
        for block in blocks_of(setting):
            tables = (block.payments, block.truth)
            if not writers:
                writers += [
                    pq.ParquetWriter(folder / name, table.schema, compression=_COMPRESSION)
                    for name, table in zip((PAYMENTS, TRUTH), tables, strict=True)
                ]
            for writer, table in zip(writers, tables, strict=True):
                writer.write_table(table)
            counted.add(block)
            progress(counted.payments)
    finally:
        for writer in writers:
            writer.close()


def _check_free(folder: Path) -> None:
    there = [name for name in (PAYMENTS, TRUTH, *DOCUMENTS) if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder / there[0]} is there already; name another folder, or remove it first")
