"""Versions of models that wait for the gate or for a signature, and those that a policy pack has quarantined."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.console.attention.matter import FEW, Looking, Matter, Urgency, cut
from coordinator.db.engine import reading
from coordinator.db.registry_schema import ModelMove
from coordinator.db.schema import Model
from coordinator.deploy.verdicts import newest_verdict
from coordinator.registry.approvals import statements_of, subject_of
from protos.log_policies import ACTING
from protos.membership import Role
from protos.model_approvals import lacking_for
from protos.model_stages import Stage

_LIST: Final = "covenant.control.v1.Models/ListModels"
_VALIDATE: Final = "covenant.control.v1.Models/ValidateModel"
_QUARANTINED_LATELY: Final = timedelta(days=30)
_LOOKED_AT: Final = 10


def find(looking: Looking) -> Iterator[Matter]:
    """What waits, for those who may read models."""
    if not looking.visit.may(_LIST):
        return
    with reading(looking.visit.centre.engine, "looking for models that wait") as session:
        if looking.visit.may(_VALIDATE):
            yield from _to_validate(session)
        if looking.is_any(Role.PRIVACY_OFFICER, Role.MODEL_RISK):
            yield from _to_approve(looking, session)
        yield from _quarantined(session, looking.now - _QUARANTINED_LATELY)


def _to_validate(session: Session) -> Iterator[Matter]:
    found = [
        each for each in _of_stage(session, Stage.CANDIDATE) if newest_verdict(session, *each[:2]) is None
    ]
    for name, version, made in found[:FEW]:
        ref = f"{name}@{version}"
        yield _matter(
            ref,
            f"{ref} is a candidate that the gate has not judged",
            "Have the gate validate it; its rules say what would be lacking.",
            made,
            Urgency.TO_KNOW,
        )


def _to_approve(looking: Looking, session: Session) -> Iterator[Matter]:
    for name, version, made in _of_stage(session, Stage.VALIDATED)[:FEW]:
        subject = subject_of(session, name, version)
        if subject is None:
            continue
        said = statements_of(session, name, version)
        lacking = lacking_for(said, looking.trusted, subject.author)
        roles = [
            each.role.words for each in lacking if looking.name in each.could and looking.is_any(each.role)
        ]
        if roles:
            yield _matter(
                subject.ref,
                f"{subject.ref} is validated and waits for your approval as {' or '.join(roles)}",
                "Read its evidence and the gate's verdict; sign at your own desk.",
                made,
                desk=True,
            )


def _quarantined(session: Session, since: datetime) -> Iterator[Matter]:
    query = (
        select(ModelMove)
        .join(Model, (Model.name == ModelMove.name) & (Model.version == ModelMove.version))
        .where(
            ModelMove.after == Stage.QUARANTINED,
            ModelMove.moved_by == ACTING,
            ModelMove.moved_at > since,
            Model.stage == Stage.QUARANTINED,
        )
        .order_by(ModelMove.entry.desc())
        .limit(FEW)
    )
    for row in session.scalars(query):
        ref = f"{row.name}@{row.version}"
        yield _matter(
            ref,
            f"{ref} was quarantined, and is recalled wherever it runs: {cut(row.why)}",
            "Look at the rules that it breaks: mend what they ask for and make it a candidate again, or retire it.",
            row.moved_at,
        )


def _matter(
    ref: str, what: str, todo: str, at: datetime, urgency: Urgency = Urgency.SOON, *, desk: bool = False
) -> Matter:
    return Matter(
        urgency=urgency,
        what=what,
        todo=todo,
        path=f"/models/{ref}",
        label="Open at your desk" if desk else "Open the version",
        at=at,
        desk=desk,
    )


def _of_stage(session: Session, stage: Stage) -> list[tuple[str, int, datetime]]:
    """The latest versions at a stage."""
    query = select(Model.name, Model.version, Model.created_at).where(Model.stage == stage)
    rows = session.execute(query.order_by(Model.created_at.desc()).limit(_LOOKED_AT))
    return [(row[0], row[1], row[2]) for row in rows]
