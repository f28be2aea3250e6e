"""The demo's loans: read from the package, split into four subsidiaries."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import pyarrow as pa

from client.data import Table, table_from
from protos.contract import Contract
from simulation.data.regions import REGION_COLUMN, REGIONS
from simulation.partition import ByColumn, deal, read_rows
from strategies.ids import SiteName

LOANS = "lending_club.parquet"
PLAN = "plan.yaml"
CONTRACT = "lending-club.yaml"
TARGET = "Class"


def regional_loans() -> dict[SiteName, pa.Table]:
    """The rows of each subsidiary."""
    with as_file(files("simulation.data") / LOANS) as path:
        rows = read_rows(path)
    return deal(rows, REGIONS, ByColumn(REGION_COLUMN), target=TARGET, seed=0)


def tables(contract: Contract) -> dict[SiteName, Table]:
    """The same rows as training sees them."""
    return {
        s: table_from(rows, contract, renamed={}, named=f"{s}'s loans")
        for s, rows in regional_loans().items()
    }


def copy_document(name: str, folder: Path) -> Path:
    """Write the demo's plan or contract to `folder`, where a reader can change it."""
    target = folder / name
    target.write_bytes((files("simulation.demo") / name).read_bytes())
    return target
