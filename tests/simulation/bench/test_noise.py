"""The benchmark of the noise measures the sampler that sites use, and OpenDP's of the same law."""

from __future__ import annotations

import json
import math
import sys

import pytest
from typer.testing import CliRunner

from simulation.bench import noise
from simulation.bench.noise import measure
from simulation.bench.report import BenchResult, show
from simulation.cli.bench import bench
from strategies.dp.noise import total_variation
from strategies.errors import UsageError


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measure(variance=4.0, samples=2000, with_peer=True)


def test_rates_are_of_the_vector_that_was_asked_for(
    result: BenchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that a second passes on at each look: one for the layers, one for the samples."""
    ticks = iter(range(10))
    monkeypatch.setattr(noise.time, "perf_counter", lambda: float(next(ticks)))
    assert noise._ours(100.0, 5000) == {"samples_per_s": 5000.0, "layers_s": 1.0}
    assert (result.ours["samples"], result.ours["variance"]) == (2000.0, 4.0)
    assert result.ours["total_variation"] == total_variation(4.0, 2000)


def test_the_ratio_is_above_1_where_this_projects_sampler_is_faster(result: BenchResult) -> None:
    assert result.peer is not None
    assert result.ratio["samples_per_s"] == result.ours["samples_per_s"] / result.peer["samples_per_s"] > 1


def test_the_table_names_the_peer(result: BenchResult, capsys: pytest.CaptureFixture[str]) -> None:
    show(result)
    said = capsys.readouterr()
    assert "OpenDP" in said.out + said.err
    assert f"{result.ratio['samples_per_s']:.1f}x" in said.out + said.err


def test_the_command_prints_one_json_object() -> None:
    ran = CliRunner().invoke(bench, ["noise", "--samples", "1000", "--variance", "0.5", "--json"])
    facts = json.loads(ran.stdout)
    assert (facts["bench"], facts["peer"], facts["ours"]["variance"]) == ("noise", None, 0.5)
    assert facts["ours"]["samples_per_s"] > 0


def test_a_variance_that_the_sampler_refuses_is_refused() -> None:
    with pytest.raises(UsageError, match="variance nan"):
        measure(variance=math.nan, samples=10, with_peer=False)


def test_without_opendp_the_peer_is_refused_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    with pytest.raises(UsageError, match="pip install opendp"):
        measure(variance=4.0, samples=10, with_peer=True)
