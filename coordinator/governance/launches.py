"""What the log is told when a run is launched or resumed: the documents that it has not seen yet, and the run with all that it may release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Run
from coordinator.ledger.needs import Need
from coordinator.rounds.question import RunDocuments
from protos.approvals import PlanEvidence
from protos.log_entries import (
    LogEntry,
    LoggedDocument,
    MembersSigned,
    PlanRecorded,
    Reserved,
    RunLaunched,
    RunResumed,
    What,
)
from protos.membership import MemberList, Membership
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import Refused
from strategies.ids import RunId

_MEMBERS: Final = "members"


def launched(session: Session, documents: RunDocuments, needs: Iterable[Need]) -> Iterator[What]:
    """The entries of a launch, whose run is in this transaction already."""
    plan, contract = documents.plan, documents.contract
    yield from members_signed(session, documents.members)
    evidence = None
    if documents.evidence:
        evidence = LoggedDocument.of(PlanEvidence.from_canonical(documents.evidence))
    if not _seen(session, documents):
        yield PlanRecorded(
            plan=LoggedDocument.of(plan), contract=LoggedDocument.of(contract), evidence=evidence
        )
    needs = tuple(needs)
    yield RunLaunched(
        run=documents.run,
        plan=plan.digest,
        contract=contract.digest,
        members=sha256_hex(documents.members),
        evidence=None if evidence is None else evidence.digest,
        releases={each.release.digest: each.release.facts() for need in needs for each in need.planned},
        reserved=_reserved(needs),
    )


def members_signed(session: Session, members: bytes) -> Iterator[MembersSigned]:
    """The entry of a member list with its roots, unless the log has it. Raises Refused for an older list than the newest that it has.

    Call it under the log's lock, as `append` does.
    """
    offered = Membership.from_canonical(members)
    logged = _logged_members(session)
    if logged:
        newest = _list_of(logged[-1])
        ours = offered.signed.list
        if ours.version < newest.version or (ours.version == newest.version and ours != newest):
            raise Refused(
                f"the transparency log has member list {newest.ref}, and the coordinator's is {'another' if ours.version == newest.version else 'an older'}"
                f" one, {ours.ref}: put the newest back. A list that was taken out of use does not come back"
            )
    if offered.digest not in {each.digest for each in logged}:
        yield MembersSigned(members=LoggedDocument.of(offered))


def newest_members(session: Session) -> MemberList | None:
    """The newest member list that the log has, by which it judges what follows. Call it under the log's lock, as `append` does."""
    logged = _logged_members(session)
    return _list_of(logged[-1]) if logged else None


def _logged_members(session: Session) -> list[LoggedDocument]:
    query = select(LoggedEntry.body).where(LoggedEntry.kind == _MEMBERS).order_by(LoggedEntry.seq)
    known = [LogEntry.from_canonical(bytes(body)).what for body in session.scalars(query)]
    return [each.members for each in known if isinstance(each, MembersSigned)]


def _list_of(logged: LoggedDocument) -> MemberList:
    return Membership.from_canonical(canonical_json(logged.document)).signed.list


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


def _seen(session: Session, documents: RunDocuments) -> bool:
    """Whether an earlier run had the same plan, contract and evidence, and so has brought them into the log."""
    earlier = select(Run.id).where(
        Run.id != documents.run,
        Run.plan_digest == documents.plan.digest,
        Run.contract == documents.contract.canonical.decode(),
        Run.evidence.is_not_distinct_from(documents.evidence.decode() or None),
    )
    return session.scalar(earlier.limit(1)) is not None
