"""The gate between a candidate and a validated model: collects what is recorded, has it judged, and keeps the verdict and the move together.

`protos.gates.judge` decides, a pure function; here are its inputs and its consequences. A verdict is logged whether it passes or not, with all that it
went by, so the log's auditor comes to the same. A version that is validated already stays so: a later verdict that fails is told, and moves
nothing, but nobody approves the version until the gate passes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.registry_schema import ModelMove
from coordinator.db.schema import Round, RoundState, Run
from coordinator.deploy.verdicts import verdict_row
from coordinator.governance.log import append
from coordinator.governance.policies.stage_rules import judge_for_stage
from coordinator.registry.stages import move
from coordinator.registry.versions import ModelVersion, read_version
from protos.contract import Contract
from protos.documents import make_document
from protos.gates import LONGEST_FINDING, Evidence, PolicyFinding, Subject, Verdict, judge
from protos.log_gate import GateJudged
from protos.log_registry import require_judgeable
from protos.log_registry_events import LONGEST_WHY
from protos.model_stages import Stage
from protos.plan import Plan

Policies = Callable[[Session, ModelVersion, datetime], Sequence[PolicyFinding]]


def packs_in_effect(session: Session, version: ModelVersion, at: datetime) -> list[PolicyFinding]:
    """What the blocking rules of the policy packs in effect say, which is logged on its own too."""
    said = judge_for_stage(session, version.name, version.version, Stage.VALIDATED, at)
    return [
        PolicyFinding(rule=each.rule, holds=each.holds, words=each.words[:LONGEST_FINDING]) for each in said
    ]


def validate(
    centre: Centre,
    found: ModelVersion,
    *,
    why: str,
    by: str,
    policies: Policies = packs_in_effect,
    first: Callable[[Session, Verdict], None] = lambda _session, _verdict: None,
) -> Verdict:
    """Judge a version by the gates of its plan, and make a candidate that passes a validated model. `first` is the first thing that the transaction writes.

    `by` is who asked and `why` in whose words. Raises Refused for a version that is neither a candidate nor validated.
    """
    at = centre.clock()
    with writing(centre.engine, f"judging {found.ref}") as session:
        append(session, at, ())  # the log first, so that nobody moves the version while it is judged
        version = read_version(session, found.name, found.version)
        require_judgeable(version.ref, version.stage)
        verdict = _verdict(session, version, policies(session, version, at))
        first(session, verdict)
        told = make_document(
            GateJudged,
            "the verdict",
            name=version.name,
            version=version.version,
            verdict=verdict,
            why=why,
            by=by,
        )
        size = append(session, at, [told])
        session.add(verdict_row(told, at, size - 1))
        if verdict.passed and version.stage is Stage.CANDIDATE:
            moved = f"the gate passed it: {why}"[:LONGEST_WHY]
            move(
                session,
                version.name,
                version.version,
                Stage.VALIDATED,
                why=moved,
                by=by,
                at=at,
                on=verdict.digest,
            )
        return verdict


def _verdict(session: Session, version: ModelVersion, policies: Sequence[PolicyFinding]) -> Verdict:
    """The verdict on what the database has of a version and its run."""
    run = session.get_one(Run, version.run_id)
    plan = Plan.from_canonical(run.plan.encode())
    subject = Subject(
        ref=version.ref,
        digest=version.digest,
        run=version.run_id,
        plan=plan,
        contract=Contract.from_canonical(run.contract.encode()),
        returned=_returned(session, version),
    )
    rounds = session.execute(
        select(Round.number, Round.metrics).where(
            Round.run_id == version.run_id, Round.state == RoundState.COMMITTED
        )
    )
    metrics = {number: kept for number, kept in rounds if kept is not None}
    return judge(subject, Evidence.of_rounds(metrics, plan.training.rounds), policies)


def _returned(session: Session, version: ModelVersion) -> int:
    """How often a version has come back from quarantine."""
    query = select(func.count()).where(
        ModelMove.name == version.name,
        ModelMove.version == version.version,
        ModelMove.after == Stage.CANDIDATE,
    )
    return session.scalar(query) or 0
