"""A program of stock Flower that is measured says its figures, or it is said in one sentence why there are none, and nothing of it is left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from protos.egress import child_environment
from simulation.bench import simulation, stock_peer
from simulation.bench.children import told_by, told_in
from strategies.errors import CovenantError

_WITH_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


def test_figures_are_found_among_whatever_else_is_said() -> None:
    assert told_in('INFO\n12:00 STOCK {"clients_per_s": 35.5}\nbye', "it") == {"clients_per_s": 35.5}
    with pytest.raises(CovenantError, match=r"stock Flower ended without its figures: .*boom"):
        told_in("boom", "stock Flower")


def test_a_child_is_heard_where_it_was_started(tmp_path: Path) -> None:
    code = "import json, os, sys; sys.stderr.write('STOCK ' + json.dumps(os.getcwd()))"
    asked = [sys.executable, "-c", code]
    found = told_by(asked, "it", environment=child_environment(), timeout_s=60, folder=tmp_path)
    assert found == str(tmp_path)


def test_a_child_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    asked = [sys.executable, "-c", _WITH_A_CHILD, str(tmp_path / "pid")]
    with pytest.raises(CovenantError, match="stock Flower did not finish within 5 s; measure a smaller size"):
        told_by(asked, "stock Flower", environment=child_environment(), timeout_s=5)
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    deadline = time.monotonic() + 30
    while (
        time.monotonic() < deadline and stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    ):
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_every_peer_that_takes_too_long_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock_peer, "_SECAGG_TIMEOUT_S", 0.1)
    with pytest.raises(CovenantError, match=r"stock SecAgg\+ did not finish within"):
        stock_peer.measure_stock_secagg(clients=3, parameters=100)
    monkeypatch.setattr(stock_peer, "_TIMEOUT_S", 0.1)
    with pytest.raises(CovenantError, match=r"2 rounds of 4 sites.* did not finish within"):
        stock_peer._rounds(tmp_path, 4, 100, 2)
    monkeypatch.setattr(simulation, "_TIMEOUT_S", 0.1)
    with pytest.raises(CovenantError, match="stock Flower's simulation did not finish within"):
        simulation.measure_stock(clients=1, rounds=1)
