"""What is recorded of plans and models, as the facts that rules are given (`protos.policy_facts` has the table of all of them).

Only what the database has, in the caller's transaction. The gate judges a version for the stage that it is about to enter (`stage`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import structlog
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from coordinator.db.evidence_schema import ModelNoteRow
from coordinator.db.office_schema import StoredPlan
from coordinator.db.schema import Model, Round, RoundState, Run
from coordinator.db.witness_schema import WitnessRow
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.model_stages import Stage
from protos.plan import Plan
from protos.policy_facts import PolicyFacts, RecordedModel, plan_facts
from protos.policy_verdicts import ModelSubject, PlanSubject, Subject
from strategies.errors import CovenantError, UsageError

Judged = tuple[Subject, PolicyFacts]
"""A subject and its facts."""
_KEPT: Final = 2048
_log = structlog.get_logger(__name__)


def facts_of_plan(plan: Plan, contract: Contract, evidence: PlanEvidence) -> Judged:
    """A plan under its contract, with what is said about it."""
    return PlanSubject.of_plan(plan, contract), plan_facts(plan, contract, evidence)


def waiting_plans(session: Session) -> Iterator[Judged]:
    """The plans that were proposed and not launched yet, in the order of their proposals, without those that cannot be read any more: a launch
    refuses them."""
    launched = exists().where(Run.plan_digest == StoredPlan.digest, Run.contract == StoredPlan.contract)
    query = select(StoredPlan).where(~launched).order_by(StoredPlan.proposed_at, StoredPlan.digest)
    for row in session.scalars(query):
        try:
            found = _facts_of(row.plan, row.contract, row.evidence)
        except CovenantError as error:
            _log.warning(
                "a waiting plan cannot be judged", plan=row.name, digest=row.digest, reason=str(error)
            )
            continue
        yield found


def registered_models(session: Session) -> Iterator[Judged]:
    """All versions of all models, by name and number, each as it is."""
    for row in session.scalars(select(Model).order_by(Model.name, Model.version)):
        yield _model(session, row, Stage(row.stage))


def facts_of_model(session: Session, name: str, version: int, stage: Stage | None = None) -> Judged:
    """A version as it is, or as it would be in `stage`. Raises UsageError where there is none."""
    row = session.get(Model, (name, version))
    if row is None:
        raise UsageError(
            f"the model {name}@{version} is not registered; `covenant model list` shows those that are"
        )
    return _model(session, row, stage or Stage(row.stage))


def stage_of(text: str) -> Stage | None:
    """A stage by name; None for an empty text. Raises UsageError."""
    if not text:
        return None
    try:
        return Stage(text)
    except ValueError as error:
        raise UsageError(f"{text[:40]!r} is no stage; use {', '.join(Stage)}") from error


def _model(session: Session, row: Model, stage: Stage) -> Judged:
    run = session.get_one(Run, row.run_id)
    _, facts = _facts_of(run.plan, run.contract, run.evidence)
    recorded = RecordedModel(
        name=row.name,
        version=row.version,
        stage=stage,
        artifacts=tuple(row.artifacts),
        metrics=row.metrics or {},
        is_signed=row.signature is not None,
        earlier_versions=_earlier(session, row),
        statements=_stated(session, row),
        witnesses=tuple(
            session.scalars(select(WitnessRow.site).where(WitnessRow.run_id == run.id).distinct())
        ),
        fewest_survivors=_fewest(session, run.id),
    )
    return ModelSubject(name=row.name, version=row.version), facts | recorded.facts()


@lru_cache(maxsize=_KEPT)
def _facts_of(plan: str, contract: str, evidence: str | None) -> Judged:
    """The facts of documents in canonical form. Nobody changes them: they are kept, because a forecast takes milliseconds."""
    return facts_of_plan(
        Plan.from_canonical(plan.encode()),
        Contract.from_canonical(contract.encode()),
        PlanEvidence() if evidence is None else PlanEvidence.from_canonical(evidence.encode()),
    )


def _stated(session: Session, row: Model) -> tuple[str, ...]:
    """What officers have stated of it."""
    query = select(ModelNoteRow.kind).where(
        ModelNoteRow.name == row.name, ModelNoteRow.version == row.version
    )
    return tuple(session.scalars(query.distinct()))


def _earlier(session: Session, row: Model) -> int:
    query = select(func.count()).select_from(Model).where(Model.name == row.name, Model.version < row.version)
    return session.scalar(query) or 0


def _fewest(session: Session, run: str) -> int:
    """Of the committed rounds."""
    query = select(Round.survivors).where(Round.run_id == run, Round.state == RoundState.COMMITTED)
    return min((len(each) for each in session.scalars(query) if each), default=0)
