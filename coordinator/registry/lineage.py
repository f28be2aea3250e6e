"""Where a version comes from, and what came of a plan, a run or a site: every fact from the database and the transparency log, none typed in.

1. From a version back: its run, plan, data contract and code, who approved the plan, whose rows shaped it, what that was charged, and the places in the
   log that tell of it.
2. From a plan, a run or a site on: the versions that came of it.
3. A participant is a site over whose input a sum was opened: in preparation, in a committed round, or in the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.ledger_schema import LedgerAccount, LedgerEntry
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.registry_schema import ModelMove
from coordinator.db.schema import Attempt, Round, RoundState, Run
from coordinator.ledger.books import open_books
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.totals import charges_in, settled_in, totals_of
from coordinator.registry.approvals import statements_of
from coordinator.registry.versions import ModelVersion, list_versions
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.log_entries import LogEntry
from protos.log_registry_events import ModelAliased
from protos.plan import Plan
from strategies.dp.budget import cost_of
from strategies.dp.units import Guarantee
from strategies.ids import RunId, SiteName

_PAGE = 1000
_FEWEST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What the run of a version has charged to an account: `settled` releases were opened, `charged` are spent; `alone` is what it would cost alone."""

    account: str
    settled: int
    charged: int
    alone: Guarantee

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "account": self.account,
            "settled": self.settled,
            "charged": self.charged,
            "alone": self.alone.facts(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A version and all that it comes from. `entries` are places in the log, by kind."""

    version: ModelVersion
    plan: Plan
    contract: Contract
    members: str
    author: str | None
    plan_approved_by: tuple[tuple[str, str], ...]
    approved_by: tuple[tuple[str, str], ...]
    participants: tuple[SiteName, ...]
    rounds: int
    charges: tuple[Charge, ...]
    moves: tuple[tuple[str, str, str], ...]
    """From, to and by whom, in their order."""
    entries: dict[str, tuple[int, ...]]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.version.ref,
            "digest": self.version.digest,
            "stage": str(self.version.stage),
            "aliases": list(self.version.aliases),
            "signature": self.version.signature,
            "artifacts": dict(self.version.artifacts),
            "run": {"id": self.version.run_id, "rounds": self.rounds},
            "plan": {
                "name": self.plan.name,
                "digest": self.plan.digest,
                "author": self.author,
                "approved_by": [list(each) for each in self.plan_approved_by],
            },
            "contract": {"ref": self.contract.ref, "digest": self.contract.digest},
            "code": self.plan.training.component,
            "members": self.members,
            "participants": list(self.participants),
            "charges": [each.facts() for each in self.charges],
            "approved_by": [list(each) for each in self.approved_by],
            "moves": [{"before": before, "after": after, "by": by} for before, after, by in self.moves],
            "log_entries": {kind: list(places) for kind, places in self.entries.items()},
        }


def lineage_of(centre: Centre, version: ModelVersion, *, entries: bool = True) -> Lineage:
    """All that a version comes from; without `entries` the log is not searched, which takes long where it is long. Raises `CovenantError`."""
    with reading(centre.engine, f"tracing {version.ref}") as session:
        run = session.get_one(Run, version.run_id)
        plan = Plan.from_canonical(run.plan.encode())
        evidence = (
            PlanEvidence() if run.evidence is None else PlanEvidence.from_canonical(run.evidence.encode())
        )
        moves = select(ModelMove).where(ModelMove.name == version.name, ModelMove.version == version.version)
        return Lineage(
            version=version,
            plan=plan,
            contract=Contract.from_canonical(run.contract.encode()),
            members=plan.sites.members,
            author=None if evidence.author is None else evidence.author.officer,
            plan_approved_by=tuple((each.officer, str(each.role)) for each in evidence.approvals),
            approved_by=tuple(
                (each.officer, str(each.role))
                for each in statements_of(session, version.name, version.version)
            ),
            participants=participants_of(session, version.run_id),
            rounds=len(_committed(session, version.run_id)),
            charges=tuple(charges_of_run(session, version.run_id)),
            moves=tuple(
                (each.before, each.after, each.moved_by)
                for each in session.scalars(moves.order_by(ModelMove.number))
            ),
            entries=_entries(session, version, plan) if entries else {},
        )


def came_of(
    centre: Centre, *, plan: str | None = None, run: str | None = None, site: str | None = None
) -> tuple[ModelVersion, ...]:
    """The versions that came of a plan (its name, or the first digits of its digest), of a run, and of a site's rows; all that are given must hold."""
    found = list_versions(centre.engine)
    with reading(centre.engine, "looking what came of it") as session:
        runs = {each.id: each for each in session.scalars(select(Run))}
        return tuple(
            each
            for each in found
            if (plan is None or _is_of(runs[each.run_id], plan))
            and (run is None or each.run_id == run)
            and (site is None or site in participants_of(session, each.run_id))
        )


def participants_of(session: Session, run: RunId) -> tuple[SiteName, ...]:
    """The sites over whose input a sum of `run` was opened."""
    attempts = select(Attempt.survivors).where(Attempt.run_id == run, Attempt.survivors.is_not(None))
    rosters = [*_committed(session, run), *session.scalars(attempts)]
    return tuple(sorted({SiteName(site) for survivors in rosters for site in survivors or ()}))


def _committed(session: Session, run: RunId) -> list[list[str] | None]:
    """Whose input the sums of the committed rounds are over."""
    query = select(Round.survivors).where(Round.run_id == run, Round.state == RoundState.COMMITTED)
    return list(session.scalars(query.order_by(Round.number)))


def charges_of_run(session: Session, run: RunId) -> Iterator[Charge]:
    """What a run has charged, account by account."""
    accounts = select(LedgerAccount).where(
        LedgerAccount.id.in_(select(LedgerEntry.account_id).where(LedgerEntry.run_id == run))
    )
    keys = [
        AccountKey.from_stored(row.site, row.population, row.unit_kind, row.unit_column)
        for row in session.scalars(accounts.order_by(LedgerAccount.site, LedgerAccount.population))
    ]
    if not keys:
        return
    books = open_books(session, keys)
    totals = totals_of(session, [book.id for book in books.values()], [run])
    for key in keys:
        stages, ceiling = totals[books[key].id][run], books[key].in_force.ceiling
        charged = charges_in(stages)
        yield Charge(
            account=key.words,
            settled=sum(settled_in(stages).values()),
            charged=sum(charged.values()),
            alone=ceiling.guarantee(cost_of(charged, ceiling.order)),
        )


def _entries(session: Session, version: ModelVersion, plan: Plan) -> dict[str, tuple[int, ...]]:
    """The places in the log that tell of a version: of its run, its plan and contract, and its own."""
    needles = [each.encode() for each in (version.run_id, plan.digest, version.digest)]
    found: dict[str, list[int]] = {}
    query = select(LoggedEntry.seq, LoggedEntry.kind, LoggedEntry.body).order_by(LoggedEntry.seq)
    for seq, kind, body in session.execute(query.execution_options(yield_per=_PAGE)):
        data = bytes(body)
        if any(each in data for each in needles) or (kind == "model-aliased" and _names(data, version)):
            found.setdefault(kind, []).append(seq)
    return {kind: tuple(places) for kind, places in sorted(found.items())}


def _names(body: bytes, version: ModelVersion) -> bool:
    what = LogEntry.from_canonical(body).what
    return isinstance(what, ModelAliased) and (what.name, what.version) == (version.name, version.version)


def _is_of(run: Run, plan: str) -> bool:
    return run.plan_name == plan or (len(plan) >= _FEWEST_DIGITS and run.plan_digest.startswith(plan))
