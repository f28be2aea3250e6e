"""The network between all sites and the centre is cut in the middle of a run: the agents come back by themselves, and the run completes.

`tests/benchmarks/network_cut.py` does the same for ten minutes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.db.schema import RunState
from tests.e2e.cut_for_tests import play

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.mark.parametrize("mode", ["plain", "secure"])
def test_agents_come_back_and_the_run_completes(tmp_path: Path, mode: str) -> None:
    played = play(tmp_path, mode=mode, cut_s=20.0, rounds=10)
    assert played.finished.state is RunState.COMPLETED
    assert played.finished.committed == 10
    assert 0 < played.committed_before < 10
    assert played.committed_while == played.committed_before
    for log in played.logs.values():
        assert '"not connected; trying again"' in log
        assert [json.loads(line) for line in log.splitlines() if '"crashed"' in line] == []
    assert {each["state"]["connected"] for each in played.status_while.values()} == {False}
    assert {each["word"] for each in played.status_while.values()} == {"connecting"}
