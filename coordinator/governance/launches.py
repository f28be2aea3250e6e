"""What the log is told when a run is launched or resumed: the documents that it has not seen yet, and the run with all that it may release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Run
from coordinator.governance.members import Listed, members_signed
from coordinator.governance.policies.rejudge import judged_at_launch
from coordinator.ledger.needs import Need
from coordinator.rounds.question import RunDocuments
from protos.approvals import PlanEvidence
from protos.log_entries import LoggedDocument, PlanRecorded, RunLaunched, What
from protos.log_run_events import Reserved, RunResumed
from protos.membership import Membership
from protos.root import SignedRoot
from strategies.encoding import sha256_hex
from strategies.ids import RunId


def launched(
    session: Session, documents: RunDocuments, needs: Iterable[Need], pinned: SignedRoot, at: datetime
) -> Iterator[What]:
    """The entries of a launch at a moment, whose run is in this transaction already. Raises Refused where a policy pack blocks its plan."""
    plan, contract = documents.plan, documents.contract
    yield from members_signed(session, Listed.of(Membership.from_canonical(documents.members), pinned))
    evidence = None
    if documents.evidence:
        evidence = LoggedDocument.of(PlanEvidence.from_canonical(documents.evidence))
    if not _seen(session, documents):
        yield PlanRecorded(
            plan=LoggedDocument.of(plan), contract=LoggedDocument.of(contract), evidence=evidence
        )
    yield from judged_at_launch(session, documents, at)
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
