"""The benchmark of the log appends what it says, into a database of its own, and verifies a story that is in order."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protos.log_audit import audit
from protos.log_entries import LogEntry
from simulation.bench.log import measure
from simulation.bench.log_story import LogStory
from simulation.cli.bench import bench
from strategies.errors import UsageError


def test_it_appends_all_and_measures_what_they_cost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bench.db'}"
    result = measure(entries=250, batch=100, database=url, folder=None)
    assert (result.ours["entries"], result.ours["batch"]) == (250.0, 100.0)
    assert all(value > 0 for value in result.ours.values())
    with pytest.raises(UsageError, match="has a log already"):
        measure(entries=1, batch=1, database=url, folder=None)


def test_the_story_is_what_a_reader_believes_and_has_whole_runs() -> None:
    made = LogStory()
    rounds = made.plan.training.rounds
    bodies = list(made.entries(2 + 2 * (7 + 2 * rounds)))
    story = audit(bodies, made.pinned)
    assert [(each.state, each.committed) for each in story.runs.values()] == [("completed", rounds)] * 2
    assert LogEntry.from_canonical(bodies[-1]).what.kind == "ended"


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        bench, ["log", "--entries", "20", "--batch", "7", "--folder", str(tmp_path), "--json"]
    )
    facts = json.load(io.StringIO(done.stdout))
    assert facts["bench"] == "log"
    assert facts["ours"]["entries_per_s"] > 0
    assert list(tmp_path.iterdir()) == []
