"""Runs as the command line and the ServerApp see them: launched, listed, watched, stopped, resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.schema import FINAL_STATES, Round, RoundState, Run, RunState
from coordinator.documents import assemble_read, read_draft, read_evidence, read_root
from coordinator.governance.halted import require_free, unless_halted
from coordinator.governance.launches import launched, resumed
from coordinator.governance.log import append, require_open
from coordinator.governance.witnesses import require_no_fork
from coordinator.leadership import require_led_here, seat_name
from coordinator.ledger import Ledger, Need, Planned
from coordinator.ledger.alerts import Crossing
from coordinator.ledger.needs import STAGES
from coordinator.recovery.endings import require_resumable
from coordinator.registry.champions import champion_of, unless_taken_back
from coordinator.rounds.ending import FinalState, end_run
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.record import RoundConflict
from coordinator.rounds.store import RoundStore
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.log_entries import What
from protos.plan import Plan
from protos.plan_releases import releases_of
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import RunId

First = Callable[[Session, RunId], None]
Announce = Callable[[Session, RunId], Iterator[What]]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """Where a run stands. `exchange_s` and `round_s` hold one figure a committed round, in seconds."""

    run: RunId
    plan: str
    state: RunState
    reason: str | None
    rounds: int
    committed: int
    aucs: dict[int, float] = field(default_factory=dict)
    exchange_s: list[float] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)


def launch(centre: Centre, plan_file: Path, contract_file: Path | None = None) -> RunId:
    """Record a run and start it; a run that cannot be started is recorded as failed, with the reason."""
    require_open(centre.engine)
    plan, contract = read_draft(plan_file, contract_file)
    return launch_read(centre, plan, contract, read_evidence(plan_file))


def launch_read(
    centre: Centre,
    plan: Plan,
    contract: Contract,
    evidence: PlanEvidence,
    first: First | None = None,
    announce: Announce | None = None,
) -> RunId:
    """`launch` of documents that were read already; `first` is the first thing that the transaction of the run does. `announce` as in `record`."""
    require_open(centre.engine)
    run = centre.new_run_id()
    at = centre.clock()
    documents = assemble_read(centre.settings, run, plan, contract, evidence, now=at)
    _require_carrier(centre)
    record(centre, documents, at=at, first=first, announce=announce)
    carry(centre, run)
    return run


def record(
    centre: Centre,
    documents: RunDocuments,
    *,
    at: datetime | None = None,
    first: First | None = None,
    announce: Announce | None = None,
) -> None:
    """Record a run that is to be started, and reserve what it will release; raises `BudgetRefused`, with nothing recorded, and Refused for a plan
    whose champion is not as the registry has it.

    `at` is when its approvals were judged, which the log is told as the time of the launch; now if left out. `first` is the first thing that
    the transaction does. `announce` makes entries that come before those of the launch; it is called under the log's lock, and what it raises refuses
    the launch.
    """
    needs = needs_of(documents)
    champion_of(centre.engine, centre.artifacts, documents.plan)
    with writing(centre.engine, f"recording {documents.run}") as session:
        if first is not None:
            first(session, documents.run)
        require_no_fork(session)
        _require_led_here(centre, session)
        session.add(
            Run(
                id=documents.run,
                plan_name=documents.plan.name,
                plan_digest=documents.plan.digest,
                plan=documents.plan.canonical.decode(),
                contract=documents.contract.canonical.decode(),
                members=documents.members.decode(),
                evidence=documents.evidence.decode() or None,
                state=RunState.SUBMITTED,
                submitted_at=centre.clock(),
            )
        )
        session.flush()
        crossed = Ledger(centre.engine, centre.clock).reserve(session, documents.run, needs) if needs else ()
        moment = at or centre.clock()
        entries = launched(session, documents, needs, read_root(centre.settings), moment)
        entries = unless_taken_back(session, documents.plan, entries)
        if announce is not None:
            entries = chain(announce(session, documents.run), entries)
        invited = documents.plan.sites.invite
        append(
            session,
            moment,
            unless_halted(session, f"launching {documents.run}", documents.run, invited, entries),
        )
    _tell(crossed)


def _require_carrier(centre: Centre) -> None:
    """Raise Refused or `Unreachable` where it is clear that this coordinator starts no run."""
    with reading(centre.engine, "looking for the leader") as session:
        _require_led_here(centre, session)
    centre.transport.require()


def _require_led_here(centre: Centre, session: Session) -> None:
    """Raise Refused where another coordinator leads, with a SuperLink of its own."""

    def home() -> str:
        return seat_name(centre.settings.home)

    require_led_here(session, home, centre.clock)


def _tell(crossed: Sequence[Crossing]) -> None:
    """Tell whoever watches that accounts have come to one of their fractions."""
    for each in crossed:
        _log.warning("account alert", account=each.key.words, fraction_spent=each.fraction, run=each.run)


def needs_of(documents: RunDocuments, done: Mapping[str, int] | None = None) -> tuple[Need, ...]:
    """What a run asks of the account of each site that it invites, but for the attempts at each stage that are `done`; nothing without privacy."""
    plan = documents.plan
    releases = releases_of(plan, documents.contract)
    if releases is None:
        return ()
    left = {stage: releases.times(stage) - (done or {}).get(stage, 0) for stage in STAGES}
    planned = tuple(
        Planned(stage=stage, release=releases.of(stage), times=times)
        for stage, times in left.items()
        if times > 0
    )
    if not planned:
        return ()
    return tuple(
        Need(site=site, population=plan.population_of(site), unit=releases.train.unit, planned=planned)
        for site in plan.sites.invite
    )


def ledger_of(centre: Centre, documents: RunDocuments) -> Ledger | None:
    """The ledger that a run's releases are settled in; None without privacy."""
    return None if documents.plan.privacy.mode == "none" else Ledger(centre.engine, centre.clock)


def resume(centre: Centre, run: RunId, first: First | None = None) -> None:
    """Go on with a failed or stopped run after its last committed round; raises `Refused` for any other. `first` as in `record`."""
    require_open(centre.engine)
    _require_carrier(centre)
    with writing(centre.engine, f"resuming {run}") as session:
        if first is not None:
            first(session, run)
        row = session.get(Run, run, with_for_update=True)
        if row is None:
            raise _unknown(run)
        _require_led_here(centre, session)
        require_free(session, f"resuming {run}", run)
        if row.state not in {RunState.FAILED, RunState.STOPPED}:
            raise Refused(f"{run} is {row.state}; only a failed or a stopped run is resumed")
        require_resumable(session, row)
        require_no_fork(session)
        row.state, row.reason, row.finished_at, row.idle_starts = RunState.SUBMITTED, None, None, 0
        needs = _reserve_again(centre, session, run)
        session.flush()
        entries = [resumed(run, needs)]
        append(session, centre.clock(), unless_halted(session, f"resuming {run}", run, (), entries))
    carry(centre, run)


def _reserve_again(centre: Centre, session: Session, run: RunId) -> tuple[Need, ...]:
    """A private run whose reservation was given up needs another one, which is returned. Raises `BudgetRefused`, and the run stays as it was."""
    ledger = Ledger(centre.engine, centre.clock)
    done = ledger.attempts(session, run)
    if not done or ledger.left(session, run):
        return ()
    needs = needs_of(_documents(session.get_one(Run, run)), done=done)
    if needs:
        _tell(ledger.reserve(session, run, needs))
    return needs


def carry(centre: Centre, run: RunId) -> None:
    """Start a Flower run that carries `run`; where that fails, the run ends as failed with the reason, which is then raised."""
    try:
        flower_run = centre.transport.start_run(run)
    except CovenantError as error:
        with reading(centre.engine, f"launching {run}") as session:
            centre.require_term(session)  # else whoever leads now carries it
        end(centre, run, "failed", str(error))
        raise
    try:
        with writing(centre.engine, f"launching {run}") as session:
            centre.require_term(session)
            row = session.get_one(Run, run, with_for_update=True)
            # Whoever leads by now gives the run a driver on its own SuperLink, and must not lose it to this one.
            _require_led_here(centre, session)
            row.flower_run_id = flower_run
    except Refused:
        with suppress(CovenantError):
            centre.transport.stop_run(flower_run)
        raise


def load_documents(engine: Engine, run: RunId) -> RunDocuments:
    """The documents that `run` was launched with."""
    with reading(engine, f"reading {run}") as session:
        row = session.get(Run, run)
        if row is None:
            raise _unknown(run)
        return _documents(row)


def _documents(row: Run) -> RunDocuments:
    return RunDocuments(
        run=RunId(row.id),
        plan=Plan.from_canonical(row.plan.encode()),
        contract=Contract.from_canonical(row.contract.encode()),
        members=row.members.encode(),
        evidence=(row.evidence or "").encode(),
    )


def end(centre: Centre, run: RunId, state: FinalState, reason: str) -> None:
    """End a run that is not over; one that is over stays as it is."""
    with suppress(RoundConflict):
        RoundStore(centre.engine, centre.artifacts, run, centre.clock).finish(state, reason)


def stop(centre: Centre, run: RunId, by: str = "an operator", first: First | None = None) -> None:
    """Stop a run; what it committed stays. First in the database, so that nobody takes the dying driver for a crashed one. `first` as in `record`."""
    at = centre.clock()
    with writing(centre.engine, f"stopping {run}") as session:
        if first is not None:
            first(session, run)
        row = session.get(Run, run, with_for_update=True)
        if row is None:
            raise _unknown(run)
        carrying = None if row.state in FINAL_STATES else row.flower_run_id
        if row.state not in FINAL_STATES:
            append(session, at, end_run(session, row, "stopped", f"stopped by {by}", at))
    if carrying is not None:
        centre.transport.stop_run(carrying)


def view(engine: Engine, run: RunId) -> RunView:
    """Where `run` stands now."""
    with reading(engine, f"reading {run}") as session:
        row = session.get(Run, run)
        if row is None:
            raise _unknown(run)
        committed = session.scalars(
            select(Round)
            .where(Round.run_id == run, Round.state == RoundState.COMMITTED)
            .order_by(Round.number)
        ).all()
        return RunView(
            run=RunId(row.id),
            plan=row.plan_name,
            state=RunState(row.state),
            reason=row.reason,
            rounds=Plan.from_canonical(row.plan.encode()).training.rounds,
            committed=len(committed),
            aucs={each.number: each.metrics["auc"] for each in committed if each.metrics},
            exchange_s=[each.exchange_s for each in committed if each.exchange_s is not None],
            round_s=[each.seconds for each in committed if each.seconds is not None],
        )


def views(engine: Engine, start: int = 0, limit: int | None = None) -> Iterator[RunView]:
    """All runs, the latest first; or at most `limit` of them from `start` on."""
    query = select(Run.id).order_by(Run.submitted_at.desc(), Run.id).offset(start).limit(limit)
    with reading(engine, "listing runs") as session:
        ids = session.scalars(query).all()
    for each in ids:
        yield view(engine, RunId(each))


def _unknown(run: RunId) -> UsageError:
    return UsageError(f"there is no run {run}; `covenant run list` shows those there are")
