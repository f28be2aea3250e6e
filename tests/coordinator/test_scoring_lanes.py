"""Threads that ask at once share batches: each gets its own rows' scores, a failure reaches everybody in the batch, and the lane goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from coordinator.deploy.scoring import lanes
from coordinator.deploy.scoring.arms import load
from coordinator.deploy.scoring.columns import Batch, ProtocolError
from coordinator.deploy.scoring.lanes import MOST_WAITING_ROWS, Job, Lane, Scored
from coordinator.deploy.scoring.words import Words
from tests.coordinator.scoring_for_tests import opened

LOADED = load(opened())


def job(amount: float, rows: int = 1, decline_at: float | None = None) -> Job:
    numbers = np.array([[amount] * rows, [50_000.0] * rows])
    return Job(
        loaded=LOADED, batch=Batch(numbers=numbers, words=(Words.of(["36"] * rows),)), decline_at=decline_at
    )


class Gate:
    """Scores as the lane does, the first batch only once it is opened; notes the rows of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.rows: list[list[int]] = []
        self.fails_in: int | None = None
        self._score = lanes.score
        monkeypatch.setattr(lanes, "score", self)

    def __call__(self, jobs: Sequence[Job]) -> list[Scored]:
        self.rows.append([each.batch.rows for each in jobs])
        self.entered.set()
        assert self.opened.wait(20)
        if len(self.rows) - 1 == self.fails_in:
            raise ZeroDivisionError
        return self._score(jobs)


def wait_for(lane: Lane, waiting: int) -> None:
    while len(lane._waiting) < waiting:
        threading.Event().wait(0.002)


def test_what_waits_while_a_batch_runs_is_the_next_one_and_each_gets_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane, gate = Lane(), Gate(monkeypatch)
    amounts = [float(each) for each in range(0, 1000, 50)]
    with ThreadPoolExecutor(30) as threads:
        first = threads.submit(lane.score, job(7.0))
        assert gate.entered.wait(20)
        assert not lane.idle
        later = [threads.submit(lane.score, job(each)) for each in amounts]
        wait_for(lane, len(amounts))
        gate.opened.set()
        found = [each.result(20) for each in later]
        assert len(first.result(20).scores) == 1
    assert gate.rows == [[1], [1] * len(amounts)]
    assert lane.idle
    for amount, scored in zip(amounts, found, strict=True):
        np.testing.assert_allclose(scored.scores, lane.score(job(amount)).scores, atol=1e-6)


def test_a_batch_has_256_rows_at_most_and_one_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, gate = Lane(), Gate(monkeypatch)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(lane.score, job(1.0))]
        assert gate.entered.wait(20)
        for place, each in enumerate((job(1.0, 200), job(1.0, 100), job(1.0, 10, 0.5), job(1.0, 5, 0.5)), 1):
            asked.append(threads.submit(lane.score, each))
            wait_for(lane, place)
        gate.opened.set()
        assert [len(each.result(20).scores) for each in asked] == [1, 200, 100, 10, 5]
    assert gate.rows == [[1], [200], [100], [10, 5]]


def test_a_failure_reaches_everybody_in_the_batch_and_nobody_after(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, gate = Lane(), Gate(monkeypatch)
    gate.fails_in = 1
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(lane.score, job(1.0))
        assert gate.entered.wait(20)
        later = [threads.submit(lane.score, job(1.0)) for _ in range(3)]
        wait_for(lane, 3)
        gate.opened.set()
        assert len(first.result(20).scores) == 1
        for each in later:
            with pytest.raises(ZeroDivisionError):
                each.result(20)
    assert len(lane.score(job(1.0)).scores) == 1


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    lane, gate = Lane(), Gate(monkeypatch)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(lane.score, job(1.0))
        assert gate.entered.wait(20)
        many = threads.submit(lane.score, job(1.0, MOST_WAITING_ROWS))
        wait_for(lane, 1)
        with pytest.raises(ProtocolError, match="too many rows wait"):
            lane.score(job(1.0))
        gate.opened.set()
        assert len(first.result(20).scores) == 1
        assert len(many.result(60).scores) == MOST_WAITING_ROWS
