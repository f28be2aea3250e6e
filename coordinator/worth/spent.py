"""What a version cost: its runs as the records have them, epsilon by account, and signatures; and what that comes to at rates.

1. All runs of its plan count, also those that failed: the version was not to be had without them.
2. Seconds are how long the coordinator waited for answers of each site, so they bound what a site computed and count its network too.
3. Epsilon is told by account and run, and has no price: what a run charged alone says what it would cost alone; charges of several runs compose to less than
   their sum, and the account says to how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Attempt, Round, RoundState, Run
from coordinator.registry.approvals import statements_of
from coordinator.registry.lineage import Charge, charges_of_run
from coordinator.registry.versions import ModelVersion
from protos.approvals import PlanEvidence
from protos.costs import Rates
from strategies.ids import RunId

_MOST_RUNS: Final = 50
_HOUR: Final = 3600.0
_GIGABYTE: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """One run: `again` is how many attempts at a step were not the one that counted; `round_s` are seconds of rounds, `waited_s` those that the coordinator waited for answers, of all sites together."""

    run: RunId
    state: str
    made_it: bool
    submitted_at: datetime
    rounds: int
    again: int
    round_s: float
    waited_s: float
    sent_bytes: int
    received_bytes: int
    charges: tuple[Charge, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        names = (
            "run",
            "state",
            "made_it",
            "rounds",
            "again",
            "round_s",
            "waited_s",
            "sent_bytes",
            "received_bytes",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "submitted_at": self.submitted_at.isoformat(),
            "charges": [each.facts() for each in self.charges],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A line of what it cost: `amount` is `number` times `rate`."""

    what: str
    unit: str
    number: float
    rate: float

    @property
    def amount(self) -> float:
        """In the currency of the costs."""
        return self.number * self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """All runs of a version's plan, newest first, and the officers who signed. `left_out` is how many older runs are not listed or summed up."""

    runs: tuple[RunCost, ...]
    left_out: int
    signatures: Mapping[str, int]

    def charged(self, rates: Rates) -> tuple[Charged, ...]:
        """The lines in money."""
        moved = sum(each.sent_bytes + each.received_bytes for each in self.runs)
        return (
            Charged(
                what="waiting for sites' answers",
                unit="hours",
                number=sum(each.waited_s for each in self.runs) / _HOUR,
                rate=rates.site_hour,
            ),
            Charged(
                what="sent and received", unit="gigabytes", number=moved / _GIGABYTE, rate=rates.gigabyte
            ),
            Charged(
                what="signatures of officers",
                unit="signatures",
                number=float(sum(self.signatures.values())),
                rate=rates.approval,
            ),
        )

    def facts(self, rates: Rates) -> dict[str, Any]:
        """As JSON."""
        lines = self.charged(rates)
        return {
            "runs": [each.facts() for each in self.runs],
            "runs_left_out": self.left_out,
            "signatures": dict(self.signatures),
            "lines": [
                {
                    "what": each.what,
                    "unit": each.unit,
                    "number": each.number,
                    "rate": each.rate,
                    "amount": each.amount,
                }
                for each in lines
            ],
            "amount": sum(each.amount for each in lines),
        }


def spent_on(centre: Centre, version: ModelVersion) -> Spent:
    """Read it from the records. Raises `CovenantError`."""
    with reading(centre.engine, f"adding up what {version.ref} cost") as session:
        own = session.get_one(Run, version.run_id)
        same = Run.plan_digest == own.plan_digest
        runs = session.scalars(
            select(Run).where(same).order_by(Run.submitted_at.desc(), Run.id).limit(_MOST_RUNS)
        ).all()
        if own not in runs:
            runs = [*runs[:-1], own]
        evidence = (
            PlanEvidence() if own.evidence is None else PlanEvidence.from_canonical(own.evidence.encode())
        )
        total = session.scalar(select(func.count()).select_from(Run).where(same)) or 0
        return Spent(
            runs=tuple(_run(session, each, made_it=each.id == own.id) for each in runs),
            left_out=total - len(runs),
            signatures={
                "plan, by its author": int(evidence.author is not None),
                "plan, by those who approve": len(evidence.approvals),
                "model, by those who approve": len(statements_of(session, version.name, version.version)),
            },
        )


def _run(session: Session, row: Run, *, made_it: bool) -> RunCost:
    """A run's rounds and exchanges, summed up."""
    committed, tried, seconds = session.execute(
        select(
            func.count().filter(Round.state == RoundState.COMMITTED),
            func.count(),
            func.coalesce(func.sum(Round.seconds), 0.0),
        ).where(Round.run_id == row.id)
    ).one()
    asked, counted = session.execute(
        select(func.count(), func.count(Attempt.survivors)).where(Attempt.run_id == row.id)
    ).one()
    waited, sent, received = session.execute(
        select(
            func.coalesce(func.sum(SiteExchange.seconds), 0.0),
            func.coalesce(func.sum(SiteExchange.sent), 0),
            func.coalesce(func.sum(SiteExchange.received), 0),
        ).where(SiteExchange.run_id == row.id)
    ).one()
    return RunCost(
        run=RunId(row.id),
        state=row.state,
        made_it=made_it,
        submitted_at=row.submitted_at,
        rounds=int(committed),
        again=int(tried - committed + asked - counted),
        round_s=float(seconds or 0.0),
        waited_s=float(waited),
        sent_bytes=int(sent),
        received_bytes=int(received),
        charges=tuple(charges_of_run(session, RunId(row.id))),
    )
