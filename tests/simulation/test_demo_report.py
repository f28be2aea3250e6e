"""What the demo prints for people says what its run protected, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.shell import people
from simulation.demo.report import AccountReport, AucReport, AuditReport, DemoReport, ScoringReport
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind


def report(aggregation: str, *, private: bool = False) -> DemoReport:
    lost = Guarantee(epsilon=3.9, delta=1e-5, unit=PrivacyUnit(kind=UnitKind.RECORD))
    return DemoReport(
        auc=AucReport(
            federated=0.73,
            pooled=0.735,
            local={"west": 0.69},
            reported=0.71,
            interval=(0.66, 0.76) if private else None,
        ),
        sites=["west"],
        rounds=1,
        parameters=2,
        exchange_s=0.1,
        round_s=0.2,
        aggregation=aggregation,
        privacy=[AccountReport(site="west", dataset="loans", mode="distributed", guarantee=lost)]
        if private
        else [],
        model={"name": "m", "version": 1, "stage": "candidate", "digest": "ab" * 32},
        onnx_max_difference=1e-7,
        agent_memory_mib=1.0,
        scoring=ScoringReport(url="http://127.0.0.1:1", latency_ms=1.0, probability=0.5),
        audit=AuditReport(entries=7, root="cd" * 32, runs=1, models=["m@1"], export=Path("log.jsonl")),
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


def test_what_privacy_cost_is_told_with_unit_and_interval() -> None:
    with people.capture() as captured:
        report("secure", private=True).show()
    said = " ".join(captured.get().split())
    assert "epsilon 3.900 at delta 1e-05 per record (add-or-remove-one) at each site" in said
    assert "private estimate of AUC: 0.710, 95 % interval 0.660 to 0.760" in said
    assert "none" not in said


def test_without_privacy_that_is_said() -> None:
    with people.capture() as captured:
        report("secure").show()
    assert "Privacy was none: nothing protects a person's rows" in " ".join(captured.get().split())
