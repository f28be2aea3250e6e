"""The benchmark of scoring starts a real service, measures what it says, and loses no request over its reloads."""

from __future__ import annotations

import pytest

from simulation.bench.scoring import measure


@pytest.mark.slow
def test_it_measures_a_real_service_and_loses_nothing() -> None:
    result = measure(seconds=0.5, requests=100, reloads=5)
    assert (result.ours["lost_requests"], result.ours["reloads"]) == (0.0, 5.0)
    assert result.ours["requests_during_reloads"] > 0
    assert result.peer is not None
    both = result.ours["throughput_rows_s"] / result.peer["throughput_rows_s"]
    assert result.ratio["throughput"] == both > 0
    assert result.ours["cpu_ms_per_batch"] > 0
    assert result.peer["cpu_ms_per_batch"] > 0
    assert result.ours["p99_ms"] >= result.ours["p50_ms"] > 0
