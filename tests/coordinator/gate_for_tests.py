"""Plans with gates, and versions that the real gate passes or holds back; also of runs that are rows and no more, by a gate that takes no metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.schema import Run
from coordinator.deploy.gate import validate
from coordinator.registry.versions import ModelVersion, get_version
from protos.contract import Contract
from protos.documents import read_document
from protos.gates import PolicyFinding, Verdict
from protos.plan import Plan
from strategies.ids import RunId
from tests.coordinator.conftest import RUN, submitted
from tests.private_plan_for_tests import CONTRACT, PLAN

PRIVATE: Final = "[{metric: epsilon, at_most: 20}]"
"""What a plan passes by its privacy alone."""


def gated(gates: str, changes: dict[str, str] | None = None) -> dict[str, str]:
    """`changes` to the text of a private plan, with gates in it."""
    return (changes or {}) | {"approvals: {privacy": f"gates: {gates}\napprovals: {{privacy"}


def gated_run(run_id: RunId = RUN) -> Run:
    """A run as the control plane submits it, whose plan passes its one gate."""
    plan = read_document(f"{PLAN}gates: {PRIVATE}\n", Plan, "plan")
    run = submitted(run_id)
    run.plan, run.plan_digest = plan.canonical.decode(), plan.digest
    run.contract = read_document(CONTRACT, Contract, "contract").canonical.decode()
    return run


def passed(centre: Centre, name: str, version: int, *, by: str = "gate") -> ModelVersion:
    """A version that the gate has judged again, and passed."""
    verdict = validate(centre, get_version(centre.engine, name, version), why="a test", by=by)
    assert verdict.passed, verdict.failures
    return get_version(centre.engine, name, version)


def held_back(centre: Centre, name: str, version: int) -> Verdict:
    """The verdict on a version that a policy blocks."""

    def blocks(_session: Session, _judged: ModelVersion, _at: datetime) -> list[PolicyFinding]:
        return [PolicyFinding(rule="owner", holds=False, words="nobody owns it")]

    found = get_version(centre.engine, name, version)
    verdict = validate(centre, found, why="a test", by="gate", policies=blocks)
    assert not verdict.passed
    return verdict
