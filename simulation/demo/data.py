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
WITHOUT_PRIVACY = "plan-none.yaml"
"""The same federation without privacy: what the demo compares itself with."""
PILOT = "plan-pilot.yaml"
"""A small plan beside it, for the full demo."""
CONTRACT = "lending-club.yaml"
MONITOR = "monitor.yaml"
"""How the full demo watches what serves."""
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


def copy_document(name: str, folder: Path, called: str | None = None) -> Path:
    """Write a plan or the contract of the demo to `folder`, `called` its own name or another, where a reader can change it."""
    target = folder / (called or name)
    target.write_bytes((files("simulation.demo") / name).read_bytes())
    return target
