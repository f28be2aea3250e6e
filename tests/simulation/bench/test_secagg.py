"""The benchmark of secure aggregation measures real attempts: the sum that it opens is right, and its figures are of what they say."""

from __future__ import annotations

import pytest

from simulation.bench.secagg import masking_of_raw_aes, measure
from simulation.bench.secagg_sites import Setting
from simulation.bench.stock_peer import measure_stock_secagg

CLIENTS, PARAMETERS = 10, 5000


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    return measure(clients=CLIENTS, parameters=PARAMETERS, dropouts=0.2, with_peer=False).ours


def test_the_mean_is_right_to_the_grid_although_sites_stop(figures: dict[str, float]) -> None:
    grid, _ = Setting(CLIENTS, PARAMETERS, 0.2).fit
    assert figures["dropped"] == 2
    assert 0 < figures["largest_error"] < grid.step


def test_bytes_are_those_of_packed_vectors_and_little_else(figures: dict[str, float]) -> None:
    """Eight of ten sites send 3 bytes a coordinate; keys, envelopes and signatures come on top."""
    assert 0.8 * 3 * PARAMETERS < figures["upload_bytes"] < 0.8 * 3 * PARAMETERS + 3000
    assert figures["upload_of_float32"] == figures["upload_bytes"] / (4 * PARAMETERS)


def test_seconds_and_memory_were_measured(figures: dict[str, float]) -> None:
    assert figures["client_s"] > 0
    assert figures["server_s"] > 0
    assert 0 <= figures["server_memory_mib"] < 50
    assert figures["round_s"] > figures["server_s"] * 0.1
    assert 0 < figures["round_s"] < 60
    assert figures["round_processes"] >= 2
    assert figures["round_memory_mib"] > figures["server_memory_mib"]
    assert 0.1 < masking_of_raw_aes() <= 1.2


def test_the_stock_protocol_runs_beside_it() -> None:
    stock = measure_stock_secagg(clients=3, parameters=100)
    assert stock["client_s"] > 0
    assert stock["server_s"] > 0
    assert stock["upload_bytes"] > 400
