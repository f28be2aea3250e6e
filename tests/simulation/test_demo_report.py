"""What the demo prints for people says what its run protected, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protos.shell import people
from simulation.demo.full_report import Afterwards
from simulation.demo.loop_report import DriftReport, RetrainingReport, WindowReport
from simulation.demo.report import AccountReport, AucReport, AuditReport, DemoReport, ScoringReport
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind

RUN = {
    "run": "run-0123456789abcdef", "plan": "lending", "plan_digest": "ab" * 32, "author": "author-1", "rounds": 3, "state": "completed",
    "approved_by": [{"officer": "privacy-1", "role": "privacy_officer"}], "witnessed_by": ["south", "west"],
}  # fmt: skip
FOUND: dict[str, Any] = {
    "verified": True,
    "entries": 7,
    "unwitnessed": 2,
    "root": "cd" * 32,
    "runs": [RUN],
    "models": [{"model": "m@1", "digest": "ef" * 32, "run": RUN["run"]}],
    "budgets": [
        {
            "site": "west", "population": "loans", "sums": 5,
            "charged": {"epsilon": 1.25, "delta": 1e-5, "unit": "record"}, "ceiling": {"epsilon": 6.0},
        }
    ],
    "deployments": [
        {"target": "branch", "serves": "m@1", "digest": "ef" * 32, "rollouts": [{"model": "m@1", "state": "full"}, {"model": "m@2", "state": "rolled_back"}]}
    ],
    "halts": [{"what": "everything", "by": "officer risk-1", "reason": "odd", "stands": False}],
}  # fmt: skip


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
        audit=AuditReport(found=FOUND, export=Path("log.jsonl")),
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


def test_an_auditors_questions_are_answered_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_width", 400)
    with people.capture() as captured:
        report("secure").show()
    said = " ".join(captured.get().split())
    for words in (
        "lending abababababab, in run-0123456789abcdef: 3 rounds, completed",
        "privacy-1 (privacy_officer); written by author-1",
        "south, west",
        "epsilon 1.250 of 6 at delta 1e-05 per record, 5 sums opened",
        "m@1, efefefefefef; brought there: m@1 (full), m@2 (rolled_back)",
        "everything, by officer risk-1: odd (lifted)",
        "no: all 7 are under the head that the log signed; 2 at the end",
    ):
        assert words in said
    assert report("secure").facts()["audit"]["verified"] is True  # type: ignore[index]


def window(
    number: int, applicants: str, streams: dict[str, Any], moved: list[str], said: str | None
) -> WindowReport:
    found = {
        "number": number,
        "begins": "2026-01-01T00:00:00+00:00",
        "streams": streams,
        "moved": moved,
        "said": said,
    }
    return WindowReport.of(found, applicants)


DRIFT = DriftReport(
    model="m@1",
    monitor="ab" * 32,
    window_s=6.0,
    false_alarm_rate=0.05,
    horizon=60,
    planted="a campaign",
    windows=[
        window(1, "none", {"score": {"said": "too few rows"}}, [], "too few rows"),
        window(2, "ordinary", {"score": {"rows": 2010, "psi": [0.01, 0.0, 0.02]}, "input a": {"rows": 1990, "psi": [0.0, 0.0, 0.01]}}, [], None),
        window(3, "of the campaign", {"input a": {"rows": 2000, "psi": [0.5, 0.4, 0.6]}}, ["input a", "b", "c", "[bold]d"], None),
    ],
    alarm="alarm-0123456789abcdef",
    cause="population shift",
    features=["a"],
    places=["branch"],
    evidence=["a: the distribution moved"],
    likely="probably another population at branch",
    outcomes=4000,
    epsilon=2.5,
    delta=1e-6,
)  # fmt: skip
RETRAINING = RetrainingReport(
    draft="draft-2222222222222222",
    model="m",
    plan="cd" * 32,
    author="author-1",
    drafted_by="author-1",
    sites=["west", "south"],
    rounds=20,
    champion="m@1",
    says=["2 of 2 sites"],
    gain={"words": "a gain: log loss falls"},
    first={
        "draft": "draft-1111111111111111",
        "drafted_by": "an alarm",
        "alarm": "alarm-0123456789abcdef",
        "said": "none is known",
    },
)


def test_windows_alarm_and_drafts_are_told_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "_width", 400)
    full = replace(report("secure"), then=Afterwards(drift=DRIFT, retraining=RETRAINING))
    with people.capture() as captured:
        full.show()
    said = " ".join(captured.get().split())
    expected = (
        "m@1 at branch, in windows of 6 s; false alarms at most 0.05 in 60 windows",
        "none │ │ │ too few rows",
        "2010 │ score: 0.010 (0.000 to 0.020) │ nothing, further than is tolerated",
        "input a: 0.500 (0.400 to 0.600) │ input a, b, c and 1 more",
        "alarm-0123456789abcdef: population shift. probably another population at branch.",
        "What was planted: a campaign. The windows cost epsilon 2.50 at delta 1e-06 per decision",
        "draft-1111111111111111 was drafted by an alarm: none is known.",
        "draft-2222222222222222, plan cdcdcdcdcdcd of 20 rounds at west, south, against m@1. a gain: log loss falls.",
    )
    places = [said.index(each) for each in expected]
    assert places == sorted(places)


def test_only_what_was_shown_is_in_the_facts() -> None:
    full = replace(report("secure"), then=Afterwards(drift=DRIFT, retraining=RETRAINING)).facts()
    assert {"governed", "deployment", "drift", "retraining"} & set(full) == {"drift", "retraining"}
    assert full["drift"]["alarm"] == full["retraining"]["first"]["alarm"]  # type: ignore[index]
    assert full["drift"]["windows"][2]["psi"] == (0.5, 0.4, 0.6)  # type: ignore[index]
