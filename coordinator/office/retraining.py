"""Drafts of retraining as people decide them, each request once; and the one place where the coordinator launches by itself.

1. An engineer adopts a draft, which gives its text and contract: signed, changed or not, and submitted as any other plan. Or it is dismissed with a reason.
2. By default the coordinator launches nothing. `launch_adopted` launches a plan only if a person has adopted it, the plan that was proposed is to the
   bit the draft's, officers have approved it as its own rule asks and one of each role at least, nobody has launched it since, and a policy pack in effect names the model in
   `launches_retraining_of`. The last three are looked at under the log's lock, in the transaction of the launch.
3. What was adopted expires after `ADOPTED_FOR` without a run of its model, whoever launched it: its figures are old, and an alarm that is still open drafts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from coordinator import runs
from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.log_schema import LoggedEntry, LoggedSubject
from coordinator.db.loop_schema import DraftRow
from coordinator.db.schema import Run
from coordinator.deploy.monitoring.retraining import drafting
from coordinator.deploy.monitoring.retraining.effects import carried_out
from coordinator.deploy.monitoring.retraining.views import draft_facts, unknown
from coordinator.governance.log import append
from coordinator.governance.policies.packs import effective
from coordinator.office.actors import Actor
from coordinator.office.plans import ProposedPlan, find_plan, standing
from coordinator.office.requests import Asked, Remember, once
from protos.documents import make_document
from protos.log_entries import What
from protos.log_loop import (
    ADOPTED_FOR,
    LAUNCH_ROLES,
    RetrainingDecided,
    RetrainingLaunched,
    allowing,
    is_over,
)
from strategies.errors import CovenantError, DiskError, Refused, UsageError
from strategies.ids import RunId

TIME: Final = "the passing of time"
"""How the log calls what has a draft expire; no officer's name has spaces."""
_IN_FLIGHT: Final = timedelta(hours=1)
"""So much later than its run was recorded, at most, a launch is in the log."""
_log = structlog.get_logger(__name__)


def draft(centre: Centre, actor: Actor, name: str, asked: Asked | None = None) -> str:
    """Draft a plan to retrain a model, whether an alarm is open or not; the draft's id. Raises UsageError and Refused."""

    def act(remember: Remember) -> str:
        return drafting.draft(centre, name, by=actor.name, first=remember)

    return once(centre, asked, centre.clock(), act)


def adopt(centre: Centre, actor: Actor, draft: str, why: str, asked: Asked | None = None) -> dict[str, Any]:
    """Take a draft over: its text and its contract, for whoever signs and submits it. Raises UsageError, and Refused for one that is not open."""
    return _decide(centre, actor, draft, "adopted", why, asked)


def dismiss(centre: Centre, actor: Actor, draft: str, why: str, asked: Asked | None = None) -> dict[str, Any]:
    """Throw a draft away, with a reason. Raises UsageError, and Refused for one that is not open."""
    return _decide(centre, actor, draft, "dismissed", why, asked)


def _decide(
    centre: Centre, actor: Actor, draft: str, decision: str, why: str, asked: Asked | None
) -> dict[str, Any]:
    def decided(session: Session) -> Iterator[RetrainingDecided]:
        row = session.scalar(select(DraftRow).where(DraftRow.id == draft))
        if row is None:
            raise unknown(draft)
        if row.state != "open":
            by = "" if row.decided_by is None else f" by {row.decided_by}"
            raise Refused(f"{draft} was {row.state}{by}; `covenant loop show {draft}` has its text")
        if decision == "adopted" and row.text is None:
            raise Refused(
                f"{draft} has no plan: {row.says[0]}. Dismiss it, and have another drafted once that has changed"
            )
        yield make_document(
            RetrainingDecided,
            "the decision",
            draft=draft,
            model=row.name,
            decision=decision,
            why=why,
            by=actor.name,
        )

    def act(remember: Remember) -> str:
        at = centre.clock()
        with writing(centre.engine, f"deciding on {draft[:40]}") as session:
            remember(session, "")
            append(session, at, carried_out(session, at, decided(session)))
        return ""

    once(centre, asked, centre.clock(), act)
    return draft_facts(centre.engine, draft)


# --- drafts that nobody took further ----------------------------------------------------------------------------------


def expire_adopted(centre: Centre) -> tuple[str, ...]:
    """Have drafts expire that were adopted `ADOPTED_FOR` ago and led to no run of their model; their ids. What fails for one is told, and left for the next time."""
    with reading(centre.engine, "looking for adopted drafts") as session:
        due = [row.id for row in _over(session, centre.clock())]
    expired = []
    for draft in due:
        try:
            with writing(centre.engine, f"having {draft} expire") as session:
                centre.require_term(session)
                at = centre.clock()
                append(session, at, carried_out(session, at, _expired(session, draft, at)))
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("draft not expired", draft=draft, reason=str(error))
        else:
            expired.append(draft)
            _log.info("draft expired", draft=draft)
    return tuple(expired)


def _over(session: Session, now: datetime) -> Iterator[DraftRow]:
    query = select(DraftRow).where(DraftRow.state == "adopted", DraftRow.decided_at <= now - ADOPTED_FOR)
    for row in session.scalars(query.order_by(DraftRow.decided_at)).all():
        if not _is_followed(session, row):
            yield row


def _is_followed(session: Session, row: DraftRow) -> bool:
    """Whether a run of its model was launched after it was adopted, in the order of the log: auditors judge by that, and a launch looks at the clock before it waits for the log."""
    adopted = (
        select(func.min(LoggedEntry.seq))
        .where(LoggedEntry.kind == "retraining-decided", LoggedEntry.at == row.decided_at)
        .scalar_subquery()
    )
    launched_before = (
        select(LoggedEntry.seq)
        .join(LoggedSubject, LoggedSubject.seq == LoggedEntry.seq)
        .where(
            LoggedSubject.subject == literal("run/") + Run.id,
            LoggedEntry.kind == "launch",
            LoggedEntry.seq < adopted,
        )
    )
    assert row.decided_at is not None  # noqa: S101  (it was adopted)
    since = row.decided_at - _IN_FLIGHT
    runs_since = select(Run.id).where(
        Run.plan_name == row.name, Run.submitted_at >= since, ~launched_before.exists()
    )
    return session.scalar(runs_since.limit(1)) is not None


def _expired(session: Session, draft: str, now: datetime) -> Iterator[RetrainingDecided]:
    row = next((each for each in _over(session, now) if each.id == draft), None)
    if row is None or row.decided_at is None:
        raise Refused(f"{draft} is adopted no more, or was followed by a run")
    yield make_document(
        RetrainingDecided,
        "the decision",
        draft=draft,
        model=row.name,
        decision="expired",
        why=f"adopted by {row.decided_by} on {row.decided_at:%Y-%m-%d}, and no run of {row.name} was launched within {ADOPTED_FOR.days} days",
        by=TIME,
    )


# --- launches without a person ----------------------------------------------------------------------------------------


def launch_adopted(centre: Centre) -> tuple[RunId, ...]:
    """Launch what was adopted and approved, where a pack in effect allows it; the runs. What fails for one is told, and left for the next time."""
    at = centre.clock()
    with reading(centre.engine, "looking for retraining that may be launched") as session:
        packs = effective(session, at)
        query = select(DraftRow).where(DraftRow.state == "adopted").order_by(DraftRow.decided_at)
        due = [row for row in session.scalars(query) if allowing(packs, row.name) is not None]
    launched = []
    for row in due:
        try:
            if (run := _launch(centre, row)) is not None:
                launched.append(run)
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("retraining not launched", draft=row.id, reason=str(error))
    return tuple(launched)


def _launch(centre: Centre, row: DraftRow) -> RunId | None:
    """The run; None while nobody has proposed the plan, officers have not approved it, or somebody has launched it."""
    try:
        found = find_plan(centre, row.plan or "", row.contract or "")
    except UsageError:
        return None
    if not _is_approved(centre, found) or _was_launched(centre, row):
        return None

    def announce(session: Session, run: RunId) -> Iterator[What]:
        at = centre.clock()
        if not _is_approved(centre, found):
            raise Refused(
                f"an approval of the plan of {row.id} has expired, or is withdrawn; officers sign it again"
            )
        yield from carried_out(session, at, [_allowed(session, centre, row, run)])

    run = runs.launch_read(centre, found.plan, found.contract, found.evidence, announce=announce)
    _log.info("retraining launched", draft=row.id, run=run)
    return run


def _is_approved(centre: Centre, found: ProposedPlan) -> bool:
    """Whether a plan has, now, the approvals that it asks for and one of each of `LAUNCH_ROLES`."""
    stands = standing(centre, found)
    return stands.approved and {each.role for each in stands.approvals} >= set(LAUNCH_ROLES)


def _allowed(session: Session, centre: Centre, row: DraftRow, run: RunId) -> RetrainingLaunched:
    """The announcement of a launch that nobody asked for. Raises Refused where it is not, or no longer, allowed."""
    now = session.get_one(DraftRow, row.id, populate_existing=True)
    pack = allowing(effective(session, centre.clock()), row.name)
    others = select(Run.id).where(
        Run.plan_digest == row.plan, Run.id != run, Run.submitted_at >= row.decided_at
    )
    if now.state != "adopted" or session.scalar(others.limit(1)) is not None:
        raise Refused(f"{row.id} was launched, or is adopted no more")
    if now.decided_at is None or is_over(now.decided_at, centre.clock()):
        raise Refused(f"{row.id} was adopted more than {ADOPTED_FOR.days} days ago; have another drafted")
    if pack is None:
        raise Refused(f"no policy pack in effect allows the coordinator to launch retraining of {row.name}")
    return make_document(
        RetrainingLaunched,
        "the launch",
        draft=row.id,
        model=row.name,
        run=run,
        plan=row.plan,
        contract=row.contract,
        pack=pack.digest,
    )


def _was_launched(centre: Centre, row: DraftRow) -> bool:
    with reading(centre.engine, f"looking for runs of {row.id}") as session:
        query = select(Run.id).where(Run.plan_digest == row.plan, Run.submitted_at >= row.decided_at)
        return session.scalar(query.limit(1)) is not None
