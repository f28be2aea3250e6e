"""A watched scoring service in this process, with a clock that tests move."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from coordinator.deploy.scoring.app import create_app
from coordinator.deploy.scoring.reload import serve_one
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import Opened
from coordinator.deploy.scoring.windows.watch import Watch
from protos.documents import read_document
from protos.windows import Monitor, Window, Windows
from tests.coordinator.scoring_for_tests import INFER, contract, door, log_in, opened, question

BEGINS = datetime(2026, 11, 26, tzinfo=UTC)
MONITOR = """
covenant: monitor/v1
model: lending
window: 1d
profile_bins: 4
score_bins: 8
score_scale: logit
protected: [region]
minimum_group: 10
privacy: {noise: 4.0, limit: {epsilon: 8, delta: 1e-6}, period: 365d}
"""
AGREED = contract(
    """
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: outcome, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000], reason: Too much was asked for}
  income: {type: number, unit: USD a year, range: [0, 1000000], transform: log1p, missing: indicator, reason: Income too low for the amount asked for}
  term: {type: category, vocabulary: ["36", "60"]}
  region: {type: category, vocabulary: [north, south]}
protected: [region]
"""
)
CELLS = 8 + 5 + 5 + 3


@dataclass
class Clock:
    """What the service takes for now."""

    now: datetime = BEGINS + timedelta(hours=12)

    def __call__(self) -> datetime:
        return self.now

    def on(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)


def monitor(text: str = MONITOR, **replaced: str) -> Monitor:
    for before, after in replaced.items():
        (line,) = [each for each in text.splitlines() if each.startswith(f"{before}:")]
        text = text.replace(line, f"{before}: {after}")
    return read_document(text, Monitor, "monitor.yaml")


def watched(version: int = 3) -> Opened:
    return opened(version, agreed=AGREED)


@dataclass
class Place:
    """The service, watched."""

    client: TestClient
    scorer: Scorer
    clock: Clock

    def ask(self, **replaced: Any) -> dict[str, Any]:
        answer = self.client.post(INFER, json={**question(), **replaced})
        assert answer.is_success, answer.text
        return answer.json()

    def one(self, request: str, amount: float = 100.0) -> None:
        """One application."""
        inputs = [
            {"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": [amount]},
            {"name": "income", "datatype": "FP64", "shape": [1, 1], "data": [50_000.0]},
            {"name": "term", "datatype": "BYTES", "shape": [1, 1], "data": ["36"]},
        ]
        assert self.client.post(INFER, json={"id": request, "inputs": inputs}).is_success

    def windows(self, after: int = 0) -> Windows:
        answer = self.client.get("/covenant/v1/windows", params={"after": after})
        assert answer.is_success, answer.text
        return Windows.from_canonical(answer.content)

    def next_day(self) -> tuple[Window, ...]:
        """What the windows that end at midnight tell."""
        before = self.windows().last
        self.clock.on(days=1)
        self.scorer.count_windows()
        return self.windows(before).windows


@contextmanager
def place(
    folder: Path, agreed: Monitor | None = None, what: Opened | None = None, clock: Clock | None = None
) -> Iterator[Place]:
    clock = clock or Clock()
    log = log_in(folder)
    watch = Watch.begun(
        folder,
        agreed or monitor(),
        "branch",
        folder / "decisions",
        clock=clock,
        entropy=secrets.token_bytes,
    )
    scorer = Scorer(log, clock=clock, watch=watch)
    serve_one(scorer, what or watched(), None)
    scorer.count_windows()
    with TestClient(create_app(scorer, door())) as client:
        yield Place(client, scorer, clock)
        client.portal.call(scorer.close)


def table(path: Path, sql: str) -> list[tuple]:
    """Rows of the watch's own file in `path`."""
    with sqlite3.connect(path / "watch.sqlite3") as connection:
        return connection.execute(sql).fetchall()


def raw(path: Path) -> np.ndarray:
    """The exact counts of the one window that is open."""
    ((blob,),) = table(path, "SELECT counts FROM counts")
    return np.frombuffer(blob, dtype="<i8")
