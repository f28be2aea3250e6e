"""What the log is told when a run is launched or resumed: the documents that it has not seen yet, and the run with all that it may release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Run
from coordinator.ledger.needs import Need
from coordinator.rounds.question import RunDocuments
from protos.log_entries import (
    LoggedDocument,
    MembersSigned,
    PlanRecorded,
    Reserved,
    RunLaunched,
    RunResumed,
    What,
)
from protos.membership import Membership
from strategies.encoding import sha256_hex
from strategies.ids import RunId


def launched(session: Session, documents: RunDocuments, needs: Iterable[Need]) -> Iterator[What]:
    """The entries of a launch, whose run is in this transaction already."""
    plan, contract = documents.plan, documents.contract
    yield from members_signed(session, documents.members)
    if not _seen(
        session, documents, (Run.plan_digest, plan.digest), (Run.contract, contract.canonical.decode())
    ):
        yield PlanRecorded(plan=LoggedDocument.of(plan), contract=LoggedDocument.of(contract))
    needs = tuple(needs)
    yield RunLaunched(
        run=documents.run,
        plan=plan.digest,
        contract=contract.digest,
        members=sha256_hex(documents.members),
        releases={each.release.digest: each.release.facts() for need in needs for each in need.planned},
        reserved=_reserved(needs),
    )


def members_signed(session: Session, members: bytes) -> Iterator[MembersSigned]:
    """The entry of a member list with its roots, unless the log has it."""
    logged = LoggedDocument.of(Membership.from_canonical(members))
    known = select(LoggedEntry.body).where(LoggedEntry.kind == MembersSigned.model_fields["kind"].default)
    if any(logged.digest.encode() in bytes(body) for body in session.scalars(known)):
        return
    yield MembersSigned(members=logged)


def resumed(run: RunId, needs: Iterable[Need]) -> RunResumed:
    """The entry of a run that is opened again, with what it reserved anew."""
    return RunResumed(run=run, reserved=_reserved(needs))


def _reserved(needs: Iterable[Need]) -> tuple[Reserved, ...]:
    return tuple(
        Reserved(
            site=need.site,
            population=need.population,
            stage=each.stage,
            release=each.release.digest,
            times=each.times,
        )
        for need in needs
        for each in need.planned
    )


def _seen(session: Session, documents: RunDocuments, *same: tuple[InstrumentedAttribute[str], str]) -> bool:
    """Whether an earlier run had the same, and so has brought it into the log."""
    earlier = select(Run.id).where(Run.id != documents.run, *(column == value for column, value in same))
    return session.scalar(earlier.limit(1)) is not None
