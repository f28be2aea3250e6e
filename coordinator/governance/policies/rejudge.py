"""A pack takes effect: everything that is not settled is judged again, once, in one transaction.

1. Under the log's lock, so that no plan, model or launch comes between: a launch before has no such pack in effect, one after is judged by it itself.
2. Each judgement is told with what differs from the one before. A model that a blocking rule stops is quarantined; a plan is refused at its launch.
3. That it was done is told last, and kept with the pack. A coordinator that was away at that moment does it once it leads.
4. A version that was replaced before anybody judged by it never takes effect.
5. A pack that cannot be judged by now keeps no other from taking effect, and a plan that cannot be read any more keeps none: nothing is launched of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.policy_schema import PolicyPackRow
from coordinator.db.schema import Model
from coordinator.governance.log import append
from coordinator.governance.policies.facts import (
    Judged,
    facts_of_model,
    facts_of_plan,
    registered_models,
    waiting_plans,
)
from coordinator.governance.policies.judge import compiled, require_unblocked
from coordinator.governance.policies.packs import effective, last_judgement, recorded
from coordinator.leadership import Deposed
from coordinator.registry.stages import move
from coordinator.rounds.question import RunDocuments
from protos.approvals import PlanEvidence
from protos.log_policies import ACTING, PolicyInForce, PolicyJudged
from protos.log_registry_events import LONGEST_WHY
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack
from protos.policy_verdicts import Difference, Judgement, ModelSubject, differences
from strategies.errors import CovenantError, DiskError, Refused

_STANDING = frozenset({Stage.CANDIDATE, Stage.VALIDATED, Stage.APPROVED, Stage.DEPLOYED})
Said = tuple[PolicyPack, Judgement]
"""What a pack says of a subject."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a pack says of one subject: `differs` from the judgement before, and whether a model would be quarantined."""

    judgement: Judgement
    differs: tuple[Difference, ...]
    blocked: bool
    quarantined: bool


def take_effect(centre: Centre) -> tuple[str, ...]:
    """Judge everything by each pack whose time has come and that nobody has judged by yet; the refs of those packs.

    Raises Deposed and DiskError at once, and, after the other packs were judged by, Refused with each pack that could not be, and why.
    """
    with reading(centre.engine, "looking for policy packs that take effect") as session:
        due = _due(session, centre.clock())
    done, failed = list[str](), list[str]()
    for pack in due:
        try:
            if _take_effect(centre, pack):
                done.append(pack.ref)
                _log.info("policy pack in effect", pack=pack.ref)
        except (Deposed, DiskError):
            raise
        except CovenantError as error:
            failed.append(f"{pack.ref}: {error}")
    if failed:
        raise Refused(f"not everything could be judged by {'; '.join(failed)}")
    return tuple(done)


def _take_effect(centre: Centre, pack: PolicyPack) -> bool:
    """Whether it was done here: somebody else may have been quicker, or have published what replaces it."""
    with reading(centre.engine, f"preparing to judge by policy pack {pack.ref}") as session:
        for _ in _subjects(session):
            pass  # facts that take time are kept, so that the log is not held for them
    at = centre.clock()
    with writing(centre.engine, f"judging by policy pack {pack.ref}") as session:
        centre.require_term(session)
        append(
            session, at, ()
        )  # locks the log first: judgements point to their pack's row, and others write them
        row = session.get_one(PolicyPackRow, (pack.name, pack.version))
        if row.in_force_at is not None or pack not in effective(session, at):
            return False
        found: list[Judgement] = []
        append(session, at, _judged(session, pack, found, at))
        blocked = [each for each in found if each.blocked_by(pack)]
        for each in blocked:
            _quarantine(session, pack, each, at)
        row.in_force_at = at
        session.flush()
        plans = sum(each.subject.of == "plan" for each in found)
        counts = {"plans": plans, "models": len(found) - plans, "blocked": len(blocked)}
        append(session, at, [PolicyInForce(pack=pack.digest, **counts)])
    return True


def _judged(
    session: Session, pack: PolicyPack, found: list[Judgement], at: datetime
) -> Iterator[PolicyJudged]:
    """The entries of everything that is judged; the judgements are put into `found`."""
    for subject, facts in _subjects(session):
        judgement = compiled(pack).judge(subject, facts)
        found.append(judgement)
        yield from recorded(session, pack, judgement, at)


def _subjects(session: Session) -> Iterator[Judged]:
    yield from waiting_plans(session)
    yield from registered_models(session)


def _quarantine(session: Session, pack: PolicyPack, found: Judgement, at: datetime) -> None:
    subject = found.subject
    if not isinstance(subject, ModelSubject) or not _would_quarantine(session, subject):
        return
    rules = ", ".join(each.rule for each in found.blocked_by(pack))
    why = f"policy pack {pack.ref} blocks it: {rules}"
    move(
        session,
        subject.name,
        subject.version,
        Stage.QUARANTINED,
        why=why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 4]} ...",
        by=ACTING,
        at=at,
        on=found.digest,
    )


def _would_quarantine(session: Session, subject: ModelSubject) -> bool:
    return Stage(session.get_one(Model, (subject.name, subject.version)).stage) in _STANDING


def _due(session: Session, at: datetime) -> list[PolicyPack]:
    open_ = set(session.scalars(select(PolicyPackRow.digest).where(PolicyPackRow.in_force_at.is_(None))))
    return [each for each in effective(session, at) if each.digest in open_]


def simulate(centre: Centre, pack: PolicyPack, start: int = 0, limit: int | None = None) -> list[Effect]:
    """What `pack` would say of all plans that are not launched and all models, were it in effect now; or of at most `limit` of them from `start`
    on. Changes nothing.

    Raises UsageError with rule, line and column for what is no expression.
    """
    compiled(pack).require_sound()
    with reading(centre.engine, f"simulating policy pack {pack.ref}") as session:
        return [
            _effect(session, pack, compiled(pack).judge(subject, facts))
            for subject, facts in islice(_subjects(session), start, None if limit is None else start + limit)
        ]


def _effect(session: Session, pack: PolicyPack, found: Judgement) -> Effect:
    subject, blocked = found.subject, bool(found.blocked_by(pack))
    return Effect(
        judgement=found,
        differs=differences(last_judgement(session, pack.name, subject.key), found),
        blocked=blocked,
        quarantined=blocked and isinstance(subject, ModelSubject) and _would_quarantine(session, subject),
    )


def judge_now(centre: Centre, subject: Judged | ModelSubject, stage: Stage | None = None) -> list[Said]:
    """What the packs in effect say of a plan with its facts, or of a version as it is, or would be in `stage`. Changes nothing."""
    with reading(centre.engine, "judging by the policy packs in effect") as session:
        judged = (
            facts_of_model(session, subject.name, subject.version, stage)
            if isinstance(subject, ModelSubject)
            else subject
        )
        return [(each, compiled(each).judge(*judged)) for each in effective(session, centre.clock())]


def judged_at_launch(session: Session, documents: RunDocuments, at: datetime) -> Iterator[PolicyJudged]:
    """The judgements of a plan that is launched, by the packs in effect at that moment. Raises Refused where one blocks it.

    Call it under the log's lock, as `append` does.
    """
    packs = effective(session, at)
    if not packs:
        return
    evidence = PlanEvidence.from_canonical(documents.evidence) if documents.evidence else PlanEvidence()
    judged = facts_of_plan(documents.plan, documents.contract, evidence)
    for each in packs:
        found = compiled(each).judge(*judged)
        require_unblocked(each, found)
        yield from recorded(session, each, found, at)
