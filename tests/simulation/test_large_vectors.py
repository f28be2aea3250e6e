"""A run whose frames all travel in small pieces, and are read and written with their vectors apart, is the run that it is otherwise."""

from __future__ import annotations

import pytest

from protos import envelope, frame_size
from protos.plan_aggregation import SecureAggregation
from simulation.result import SimulationResult
from strategies.pieces import Pieces
from strategies.secagg import rings
from tests.simulation.test_secure_aggregation import demo


def digests(result: SimulationResult) -> tuple[object, ...]:
    return result.completed, result.model_digest, [each.survivors for each in result.rounds]


@pytest.mark.slow
def test_a_run_in_small_chunks_gives_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo(SecureAggregation(), rounds=2, dropout=0.25)
    sealed: list[int] = []
    monkeypatch.setattr(frame_size, "APART_BYTES", 0)
    monkeypatch.setattr(rings, "CHUNK_BYTES", 48)
    monkeypatch.setattr(envelope, "PIECE_BYTES", 100)
    before = Pieces.sha256
    monkeypatch.setattr(Pieces, "sha256", lambda self: sealed.append(len(self.parts)) or before(self))
    chunked = demo(SecureAggregation(), rounds=2, dropout=0.25)
    assert digests(chunked) == digests(whole)
    assert whole.completed
    assert max(sealed) > 5  # vectors were read in pieces
