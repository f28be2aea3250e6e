"""A coordinator after a long year, for `covenant bench console`: runs with their rounds, a log, sites with accounts, models, and where they serve.

1. Real: root, member list, plans, the log with its tree and its index (written by `coordinator.governance.log.append`), decisions on ceilings, witness
   statements with their signatures, weights of models, and what `console_events` has: halts, a policy pack, deployments. Runs, rounds, attempts,
   checkpoints, exchanges, models and charges are rows as the coordinator writes them, put in by the thousand.
2. Not real: nothing was trained, so digests of rounds' models are of nothing, and weights are random. A run invites 8 of the sites, and one, with a hundred
   rounds, up to 200. The ledger is charged by the newest runs of each plan only.
3. The log is a log with sound proofs, and not a story that an auditor would take: nobody approved its plans and models, and its launches reserve nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Table, insert, select

from coordinator.db.engine import writing
from coordinator.db.ledger_schema import LedgerAccount, LedgerEntry, LedgerRelease
from coordinator.db.office_schema import StoredPlan
from coordinator.db.progress_schema import SiteExchange, SiteHeard
from coordinator.db.schema import Attempt, Checkpoint, Round, Run, Site
from coordinator.db.witness_schema import WitnessRow
from coordinator.governance.log import append, open_log
from coordinator.ledger import AccountKey
from coordinator.ledger.ceilings import Proposal, decide, draft
from protos.ceilings import SignedCeiling
from protos.log_entries import LoggedDocument, MembersSigned, PlanRecorded, RunLaunched, What
from protos.log_run_events import RoundCommitted, RoundEvaluated, RoundPrepared, RunEnded, SumSettled
from protos.plan_releases import releases_of
from simulation.bench import console_events as events
from simulation.bench import console_rows as rows_of
from simulation.bench.console_models import register
from simulation.bench.console_rows import METRICS, digest_at
from simulation.bench.console_year import OFFICER, Launch, LongYear
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import canonical_json

_BATCH: Final = 1000
_TOLD: Final = 25
"""Runs that are told in one transaction: a disk takes some tens of milliseconds for each."""


def fill(year: LongYear) -> None:
    """Write everything."""
    _append(year, year.began, [MembersSigned(members=LoggedDocument.of(year.listed.membership))])
    _decide(year)
    for plan in (*year.plans, *year.wide_plans):
        recorded = PlanRecorded(plan=LoggedDocument.of(plan), contract=LoggedDocument.of(year.contract))
        _append(year, year.began, [recorded])
    _rows(year, Site, rows_of.sites(year))
    _rows(year, StoredPlan, rows_of.proposed(year))
    _rows(year, Run, rows_of.runs(year))
    _rows(year, Round, rows_of.rounds(year))
    _rows(year, Attempt, rows_of.attempts(year))
    _rows(year, Checkpoint, rows_of.checkpoints(year))
    _rows(year, SiteExchange, rows_of.exchanges(year))
    _rows(year, SiteHeard, rows_of.heard(year))
    _tell_runs(year)
    register(year)
    _charge(year)
    events.happen(year)
    log = open_log(year.centre.engine, year.centre.settings, year.centre.clock)
    _rows(year, WitnessRow, rows_of.statements(year, log.head(log.size())))


def _append(year: LongYear, at: datetime, what: list[What]) -> None:
    with writing(year.centre.engine, "filling the log") as session:
        append(session, at, what)


def _rows(year: LongYear, model: type[Any], rows: Iterator[dict[str, Any]]) -> None:
    """Rows by the thousand. RETURNING makes one statement of many, also where the driver would send them one by one."""
    table: Table = model.__table__
    into = insert(table).returning(next(iter(table.primary_key)))
    while some := list(islice(rows, _BATCH)):
        with writing(year.centre.engine, f"filling {table.name}") as session:
            session.execute(into, some).all()


def _tell_runs(year: LongYear) -> None:
    launches = year.launches()
    while some := list(islice(launches, _TOLD)):
        with writing(year.centre.engine, "filling the log") as session:
            for each in some:
                append(session, each.at, _story(year, each))


def _story(year: LongYear, of: Launch) -> Iterator[What]:
    run, sites = of.run, of.sites
    yield RunLaunched(
        run=run,
        plan=of.plan.digest,
        contract=year.contract.digest,
        members=year.listed.membership.digest,
        releases={},
        reserved=(),
    )
    prepared = digest_at(run, 0, "model")
    yield SumSettled(run=run, stage="prepare", round=0, attempt=1, sites=sites)
    yield RoundPrepared(run=run, attempt=1, survivors=sites, scaling=prepared, model=prepared)
    for number in range(1, of.rounds + 1):
        statement = digest_at(run, number, "statement")
        yield SumSettled(run=run, stage="train", round=number, attempt=1, sites=sites, statement=statement)
        yield RoundCommitted(
            run=run,
            round=number,
            attempt=1,
            roster=sites,
            survivors=sites,
            statement=statement,
            aggregate=digest_at(run, number, "aggregate"),
            model=digest_at(run, number, "model"),
            optimizer=digest_at(run, number, "optimizer"),
        )
    yield SumSettled(run=run, stage="evaluate", round=of.rounds, attempt=1, sites=sites)
    yield RoundEvaluated(run=run, round=of.rounds, attempt=1, survivors=sites, metrics=METRICS)
    if not of.going:
        yield RunEnded(run=run, state="completed")


def _decide(year: LongYear) -> None:
    """A ceiling for each account, drafted, signed and carried out."""
    unit = PrivacyUnit(kind=UnitKind.RECORD)
    proposal = Proposal(epsilon=10_000.0, delta=1e-5, unit=unit, reason="the plans of a year", order=3)
    with writing(year.centre.engine, "deciding on the accounts") as session:
        for site in year.keys:
            key = AccountKey.of(site, year.population, unit)
            drafted = draft(session, key, proposal, year.listed.trusted.federation, year.began)
            signed = SignedCeiling(decision=drafted.decision).signed_with(OFFICER, year.officer)
            decide(session, signed, year.listed, year.began)


def _charge(year: LongYear) -> None:
    trained = {}
    for plan in (*year.plans, year.wide.plan):
        releases = releases_of(plan, year.contract)
        if releases is None:
            return
        trained[plan.digest] = releases.of("train")
    with writing(year.centre.engine, "looking for the accounts") as session:
        accounts = {row.site: row.id for row in session.execute(select(LedgerAccount.site, LedgerAccount.id))}
    kept = {each.digest: canonical_json(each.facts()).decode() for each in trained.values()}
    _rows(year, LedgerRelease, iter([{"digest": digest, "facts": facts} for digest, facts in kept.items()]))
    charged = {plan: each.digest for plan, each in trained.items()}
    _rows(year, LedgerEntry, rows_of.charges(year, charged, accounts))
