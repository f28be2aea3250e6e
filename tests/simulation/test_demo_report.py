"""What the demo prints for people says what its run protected, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.shell import people
from simulation.demo.report import AucReport, DemoReport, ScoringReport


def report(aggregation: str) -> DemoReport:
    return DemoReport(
        auc=AucReport(federated=0.73, pooled=0.735, local={"west": 0.69}),
        sites=["west"],
        rounds=1,
        parameters=2,
        exchange_s=0.1,
        round_s=0.2,
        aggregation=aggregation,
        model={"name": "m", "version": 1, "stage": "candidate", "digest": "ab" * 32},
        onnx_max_difference=1e-7,
        agent_memory_mib=1.0,
        scoring=ScoringReport(url="http://127.0.0.1:1", latency_ms=1.0, probability=0.5),
        elapsed_s=1.0,
        paths={"command": Path("covenant"), "coordinator": Path("coordinator")},
    )


@pytest.mark.parametrize(
    ("aggregation", "saw"),
    [("secure", "sums over at least three sites"), ("plain", "each site's update")],
)
def test_what_the_coordinator_saw_is_what_the_plan_let_it_see(aggregation: str, saw: str) -> None:
    with people.capture() as captured:
        report(aggregation).show()
    said = " ".join(captured.get().split())
    assert f"Aggregation in this run was {aggregation}: the coordinator saw {saw}." in said
