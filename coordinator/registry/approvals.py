"""Approvals of versions as officers hand them in: each with its entry in the log; with the last that it takes the version is approved.

1. A statement is judged under the log's lock, by the member list in use, as the log's auditor and every branch server judge it again.
2. Approvals count from the move to `validated` on, and while the gate's newest verdict passes. A version that was quarantined is validated and approved anew.
3. With the last approval the policy packs in effect are asked too (`stage_rules`); what they block is not approved, and nothing is recorded.
4. An officer is counted once. A statement that was handed in before changes nothing, and one that counts no more stands in nobody's way.
5. What is approved or deployed is approved again for longer in the same way: it moves nothing, and what is released then may last as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.registry_schema import ModelMove, ModelStatementRow
from coordinator.db.schema import Run
from coordinator.deploy.verdicts import newest_verdict
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.governance.policies.stage_rules import require_stage
from coordinator.registry.stages import move
from coordinator.registry.versions import ModelVersion, locked_row, read_version
from protos.approvals import PlanEvidence
from protos.log_entries import What
from protos.log_registry import APPROVABLE, require_approvable
from protos.log_registry_events import ModelApproved
from protos.membership import Trusted
from protos.model_approvals import (
    ModelLack,
    ModelStatement,
    Subject,
    counting,
    lacking_for,
    require_model_statement,
    require_new,
    verify_approvals,
)
from protos.model_stages import Stage
from strategies.errors import Refused
from strategies.ids import Digest

First = Callable[[Session], None]
_BY = "the officers' approvals"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding:
    """How far a version is approved: `subject` is what officers sign, absent where they cannot; `statements` are those that count now."""

    version: ModelVersion
    subject: Subject | None
    statements: tuple[ModelStatement, ...]
    missing: tuple[ModelLack, ...]

    @property
    def words(self) -> str:
        """`validated, 1 of 2 approvals`."""
        if self.subject is None or not (self.missing or self.version.stage is Stage.VALIDATED):
            return str(self.version.stage)
        given = len(self.statements)
        return f"{self.version.stage}, {given} of {given + sum(each.asked - each.given for each in self.missing)} approvals"


def approve(
    centre: Centre, statement: ModelStatement, listed: Listed, first: First | None = None
) -> ModelVersion:
    """Record one officer's approval; with the last that it takes, a validated version is approved. `first` is the first thing that the transaction does.

    Raises Refused for a statement that does not count, and for the last one where a policy pack in effect stands in the way; UsageError for a version that is not registered.
    """
    at, name, version = centre.clock(), statement.model, statement.version
    with writing(centre.engine, f"approving {statement.subject.ref}") as session:
        if first is not None:
            first(session)
        told: list[ModelApproved] = []
        size = append(session, at, _approved(session, statement, listed, at, told))
        if told:
            write_statement(session, told[0], at, size - 1)
            given = statements_that_count(session, name, version, listed.trusted, at)
            waits = locked_row(session, name, version).stage == Stage.VALIDATED
            if waits and not any(lacking_for(given, listed.trusted)):
                verify_approvals(given, listed.trusted, at, subject_of(session, name, version))
                require_stage(session, name, version, Stage.APPROVED, at)
                why = f"approved by {' and '.join(each.officer for each in given)}"
                move(session, name, version, Stage.APPROVED, why=why, by=_BY, at=at)
        return read_version(session, name, version)


def standing(engine: Engine, found: ModelVersion, trusted: Trusted, at: datetime) -> ModelStanding:
    """How far a version is approved at the moment `at`."""
    if found.stage not in APPROVABLE:
        return ModelStanding(version=found, subject=None, statements=(), missing=())
    with reading(engine, f"looking who approves {found.ref}") as session:
        subject = subject_of(session, found.name, found.version)
        said = statements_that_count(session, found.name, found.version, trusted, at)
    missing = () if subject is None else tuple(lacking_for(said, trusted, subject.author))
    return ModelStanding(version=found, subject=subject, statements=said, missing=missing)


def statements_of(session: Session, name: str, version: int) -> tuple[ModelStatement, ...]:
    """What officers have said of a version since it was validated, the oldest first, also what counts no more."""
    since = _validated(session, name, version)
    if since is None:
        return ()
    query = select(ModelStatementRow).where(
        ModelStatementRow.name == name,
        ModelStatementRow.version == version,
        ModelStatementRow.entry > since.entry,
    )
    rows = session.scalars(query.order_by(ModelStatementRow.entry)).all()
    return tuple(ModelStatement.from_canonical(row.document.encode()) for row in rows)


def statements_that_count(
    session: Session, name: str, version: int, trusted: Trusted, at: datetime
) -> tuple[ModelStatement, ...]:
    """What officers have said of a version that counts at the moment `at`, by officer."""
    about = subject_of(session, name, version)
    return () if about is None else counting(statements_of(session, name, version), about, trusted, at)


def subject_of(session: Session, name: str, version: int) -> Subject | None:
    """What officers approve of a version: with the verdict that it was validated on. None for one that never was."""
    row, since = read_version(session, name, version), _validated(session, name, version)
    if since is None or since.rests_on is None:
        return None
    on, author = Digest(since.rests_on), author_of(session, row)
    return Subject(name=name, version=version, digest=row.digest, on=on, author=author)


def write_statement(session: Session, what: ModelApproved, at: datetime, entry: int) -> None:
    """What an approval does to the tables. `entry` is its place in the log."""
    said = what.statement
    session.add(
        ModelStatementRow(
            digest=said.digest,
            name=said.model,
            version=said.version,
            officer=said.officer,
            document=said.canonical.decode(),
            received_at=at,
            entry=entry,
        )
    )
    session.flush()


def _approved(
    session: Session, said: ModelStatement, listed: Listed, at: datetime, told: list[ModelApproved]
) -> Iterator[What]:
    """The entry of a statement, under the log's lock; nothing for one that is recorded."""
    row = locked_row(session, said.model, said.version)
    if session.get(ModelStatementRow, said.digest) is not None:
        return
    yield from members_signed(session, listed)
    judged = newest_verdict(session, said.model, said.version)
    require_approvable(said.subject.ref, Stage(row.stage), signed=row.signature is not None, judged=judged)
    subject = subject_of(session, said.model, said.version)
    if subject is None:
        raise Refused(f"{said.subject.ref} was never validated")
    require_model_statement(said, subject, listed.trusted, at)
    require_new(said, statements_that_count(session, said.model, said.version, listed.trusted, at))
    told.append(ModelApproved(statement=said))
    yield told[0]


def _validated(session: Session, name: str, version: int) -> ModelMove | None:
    """The latest move of a version to `validated`."""
    query = select(ModelMove).where(
        ModelMove.name == name, ModelMove.version == version, ModelMove.after == Stage.VALIDATED
    )
    return session.scalars(query.order_by(ModelMove.number.desc()).limit(1)).first()


def author_of(session: Session, version: ModelVersion) -> str | None:
    """Who wrote the plan of the version's run, if anybody signed it."""
    evidence = session.get_one(Run, version.run_id).evidence
    by = None if evidence is None else PlanEvidence.from_canonical(evidence.encode()).author
    return None if by is None else by.officer
