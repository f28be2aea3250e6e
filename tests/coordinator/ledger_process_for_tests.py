"""A process that launches runs. It imports little, so that it starts quickly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from coordinator.db import open_database
from coordinator.ledger import Ledger, Need
from strategies.dp.budget import BudgetRefused
from strategies.ids import RunId

PATIENCE_S = 60.0


def now() -> datetime:
    return datetime.now(UTC)


def launch(url: str, runs: Sequence[RunId], need: Need, start: Barrier, refused: Queue[RunId | None]) -> None:
    """Reserve for each of `runs` once all processes have started; tell those refused, then None."""
    engine = open_database(url, lock_timeout_s=PATIENCE_S)
    ledger = Ledger(engine, now)
    start.wait(PATIENCE_S)
    for run in runs:
        try:
            ledger.reserve_now(run, [need])
        except BudgetRefused:
            refused.put(run)
    engine.dispose()
    refused.put(None)
