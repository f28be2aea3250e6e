"""Plans that were proposed and not launched yet: who must still sign, and what those that may be launched would release.

Of the latest `MOST` proposals, because approvals end: an older one has to be signed again, which proposes it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Engine, select

from coordinator.db.engine import reading
from coordinator.db.office_schema import StoredPlan
from coordinator.db.schema import Run
from coordinator.office.standing import PlanStanding, standing_of
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.membership import Trusted
from protos.plan import Plan
from protos.plan_releases import PlannedReleases, releases_of

MOST: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A proposal that was not launched. `ends` is the last moment of the first statement to end; None where nobody has signed."""

    plan: Plan
    contract: Contract
    evidence: PlanEvidence
    standing: PlanStanding
    proposed_by: str
    proposed_at: datetime

    @property
    def ends(self) -> datetime | None:
        """Until when all that was said is good."""
        return min((each.expires for each in self.evidence.statements), default=None)

    @property
    def current(self) -> bool:
        """Whether it names the member list in use; another one is signed and launched by nobody."""
        return self.plan.sites.members == self.standing.members

    @property
    def planned(self) -> PlannedReleases | None:
        """What it would release; None without privacy."""
        return _releases(self.plan.canonical, self.contract.canonical)


def waiting(engine: Engine, trusted: Trusted, now: datetime) -> Sequence[Waiting]:
    """The proposals that were not launched, the latest first."""
    query = select(StoredPlan).order_by(StoredPlan.proposed_at.desc(), StoredPlan.digest).limit(MOST)
    with reading(engine, "looking for plans that wait") as session:
        rows = session.scalars(query).all()
        # By name first, of which there is an index.
        launched = select(Run.plan_digest).where(
            Run.plan_name.in_({row.name for row in rows}), Run.plan_digest.in_({row.digest for row in rows})
        )
        gone = set(session.scalars(launched.distinct())) if rows else set()
    found = []
    for row in rows:
        if row.digest in gone:
            continue
        plan, contract = _read(row.plan, row.contract)
        evidence = PlanEvidence.from_canonical(row.evidence.encode())
        found.append(
            Waiting(
                plan=plan,
                contract=contract,
                evidence=evidence,
                standing=standing_of(plan, contract, evidence, trusted, now),
                proposed_by=row.proposed_by,
                proposed_at=row.proposed_at,
            )
        )
    return found


@lru_cache(maxsize=4 * MOST)
def _read(plan: str, contract: str) -> tuple[Plan, Contract]:
    return Plan.from_canonical(plan.encode()), Contract.from_canonical(contract.encode())


@lru_cache(maxsize=4 * MOST)
def _releases(plan: bytes, contract: bytes) -> PlannedReleases | None:
    return releases_of(*_read(plan.decode(), contract.decode()))
