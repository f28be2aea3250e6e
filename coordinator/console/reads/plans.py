"""Plans as pages show them: bounded queries, and what differs between two, computed once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import select

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.office_schema import StoredPlan
from coordinator.db.schema import Run
from coordinator.documents import read_members
from coordinator.governance.log import RawEntry
from coordinator.office import plans as office
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.membership import Trusted
from protos.plan import Plan
from protos.plan_diff import PlanDiff, diff
from protos.plan_page import Section, page
from strategies.errors import UsageError
from strategies.ids import Digest

_LOOKED_AT: Final = 10
"""Proposals of a name among which the last approved one is looked for."""
_SHOWN: Final = 12
_KEPT: Final = 256
_MOST_ENTRIES: Final = 50


@dataclass(frozen=True, slots=True)
class Earlier:
    """A plan of the same name that was launched or approved before; `words` say how."""

    plan: Plan
    contract: Contract
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A plan in the list."""

    standing: PlanStanding
    proposed_at: datetime


def lines(centre: Centre, start: int, limit: int) -> Sequence[Line]:
    """At most `limit` plans from number `start` on, the latest first."""
    order = (StoredPlan.proposed_at.desc(), StoredPlan.digest, StoredPlan.contract_digest)
    keys = select(StoredPlan.digest, StoredPlan.contract_digest).order_by(*order).offset(start).limit(limit)
    with reading(centre.engine, "listing plans") as session:
        rows = [session.get_one(StoredPlan, tuple(key)) for key in session.execute(keys).all()]
    trusted = read_members(centre.settings)[1] if rows else None
    return [
        Line(standing=office.standing(centre, _proposed(row), trusted), proposed_at=row.proposed_at)
        for row in rows
    ]


def _proposed(row: StoredPlan) -> ProposedPlan:
    return ProposedPlan(
        plan=Plan.from_canonical(row.plan.encode()),
        contract=Contract.from_canonical(row.contract.encode()),
        evidence=PlanEvidence.from_canonical(row.evidence.encode()),
    )


def earlier(centre: Centre, found: ProposedPlan, trusted: Trusted | None = None) -> Earlier | None:
    """The plan of that name, another than `found`, that was launched or approved last; None where there is none among the latest."""
    name, digest = found.plan.name, found.plan.digest
    launched = (
        select(Run).where(Run.plan_name == name, Run.plan_digest != digest).order_by(Run.submitted_at.desc())
    )
    proposed = (
        select(StoredPlan)
        .where(StoredPlan.name == name, StoredPlan.digest != digest)
        .order_by(StoredPlan.proposed_at.desc())
    )
    with reading(centre.engine, f"looking for plan {name}") as session:
        run = session.scalars(launched.limit(1)).first()
        rows = session.scalars(proposed.limit(_LOOKED_AT)).all()
    trusted = trusted or read_members(centre.settings)[1]
    for row in rows:
        if run is not None and run.submitted_at >= row.proposed_at:
            break
        if office.standing(centre, other := _proposed(row), trusted).approved:
            words = f"{other.plan.digest[:_SHOWN]}, which is approved"
            return Earlier(other.plan, other.contract, words)
    if run is None:
        return None
    plan, contract = Plan.from_canonical(run.plan.encode()), Contract.from_canonical(run.contract.encode())
    return Earlier(plan, contract, f"{plan.digest[:_SHOWN]}, launched as {run.id}")


def changes(old: Plan, old_contract: Contract, new: Plan, new_contract: Contract) -> PlanDiff:
    """What changed from one plan to another, computed once."""
    return _changes(*(each.canonical for each in (old, old_contract, new, new_contract)))


def newer(found: ProposedPlan, newest_of_name: ProposedPlan) -> PlanDiff | None:
    """What the newest plan of the name does otherwise; None where `found` is the newest."""
    if newest_of_name.plan.digest == found.plan.digest:
        return None
    return changes(found.plan, found.contract, newest_of_name.plan, newest_of_name.contract)


@lru_cache(_KEPT)
def _changes(*documents: bytes) -> PlanDiff:
    old, old_contract, new, new_contract = documents
    return diff(
        Plan.from_canonical(old),
        Contract.from_canonical(old_contract),
        Plan.from_canonical(new),
        Contract.from_canonical(new_contract),
    )


def words(plan: Plan, contract: Contract) -> tuple[Section, ...]:
    """A plan in words, computed once."""
    return _in_words(plan.canonical, contract.canonical)


@lru_cache(_KEPT)
def _in_words(plan: bytes, contract: bytes) -> tuple[Section, ...]:
    return page(Plan.from_canonical(plan), Contract.from_canonical(contract))


def newest(centre: Centre, name: str) -> ProposedPlan:
    """The plan of that name that was proposed last. Raises UsageError where there is none."""
    query = select(StoredPlan).where(StoredPlan.name == name).order_by(StoredPlan.proposed_at.desc())
    with reading(centre.engine, f"looking for plan {name}") as session:
        row = session.scalars(query.limit(1)).first()
    if row is None:
        raise UsageError(f"no plan {name} was proposed here")
    return _proposed(row)


def runs_of(centre: Centre, plan: Plan) -> Sequence[tuple[str, str, datetime]]:
    """The latest runs of a plan: id, state, when it was launched."""
    query = select(Run.id, Run.state, Run.submitted_at).where(
        Run.plan_name == plan.name, Run.plan_digest == plan.digest
    )
    with reading(centre.engine, "looking for runs") as session:
        rows = session.execute(query.order_by(Run.submitted_at.desc()).limit(_LOOKED_AT)).all()
    return [(run, str(state), at) for run, state, at in rows]


def proposal_entry(centre: Centre, plan: Digest, contract: Digest) -> RawEntry | None:
    """The log's entry of a proposal: written in the transaction of the plan's row, with its moment."""
    with reading(centre.engine, "looking for a proposal") as session:
        row = session.get(StoredPlan, (plan, contract))
        if row is None:
            return None
        query = select(LoggedEntry.seq, LoggedEntry.body).where(
            LoggedEntry.kind == "proposed", LoggedEntry.at == row.proposed_at
        )
        rows = session.execute(query.order_by(LoggedEntry.seq).limit(_MOST_ENTRIES)).all()
    for seq, body in rows:
        said = json.loads(body)["what"]["statement"]
        if (said["plan"], said["contract"]) == (plan, contract):
            return RawEntry(seq, bytes(body))
    return None
