"""Runs as the command line and the ServerApp see them: launched, listed, watched, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, func, select

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.documents import assemble
from coordinator.flower.control import Control
from coordinator.flower.manifest import build_bundle
from coordinator.rounds.driver import RunDocuments
from coordinator.rounds.store import FinalState, RoundConflict, RoundStore
from protos.contract import Contract
from protos.plan import Plan
from strategies.errors import CovenantError, UsageError
from strategies.ids import RunId

FINAL_STATES = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.STOPPED})


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
    """Record a run and start it on the SuperLink; a run that cannot be started is recorded as failed, with the reason."""
    run = centre.new_run_id()
    documents = assemble(centre.settings, run, plan_file, contract_file)
    control = Control(centre.settings.superlink)
    try:
        _record(centre, documents)
        try:
            flower_run = control.start_run(build_bundle(), run)
        except CovenantError as error:
            end(centre, run, "failed", str(error))
            raise
        with writing(centre.engine, f"launching {run}") as session:
            row = session.get_one(Run, run)
            row.flower_run_id = row.flower_run_id or flower_run
    finally:
        control.close()
    return run


def _record(centre: Centre, documents: RunDocuments) -> None:
    with writing(centre.engine, f"recording {documents.run}") as session:
        session.add(
            Run(
                id=documents.run,
                plan_name=documents.plan.name,
                plan_digest=documents.plan.digest,
                plan=documents.plan.canonical.decode(),
                contract=documents.contract.canonical.decode(),
                members=documents.members.decode(),
                state=RunState.SUBMITTED,
                submitted_at=centre.clock(),
            )
        )


def load_documents(engine: Engine, run: RunId) -> RunDocuments:
    """The documents that `run` was launched with."""
    with reading(engine, f"reading {run}") as session:
        row = session.get(Run, run)
        if row is None:
            raise UsageError(f"there is no run {run}; `covenant run list` shows those there are")
        return RunDocuments(
            run=run,
            plan=Plan.from_canonical(row.plan.encode()),
            contract=Contract.from_canonical(row.contract.encode()),
            members=row.members.encode(),
        )


def end(centre: Centre, run: RunId, state: FinalState, reason: str) -> None:
    """End a run that is not over; one that is over stays as it is."""
    with suppress(RoundConflict):
        RoundStore(centre.engine, centre.artifacts, run, centre.clock).finish(state, reason)


def stop(centre: Centre, run: RunId) -> None:
    """Stop a run; what it committed stays."""
    with reading(centre.engine, f"reading {run}") as session:
        row = session.get(Run, run)
    if row is None:
        raise UsageError(f"there is no run {run}; `covenant run list` shows those there are")
    if row.flower_run_id is not None and row.state not in FINAL_STATES:
        control = Control(centre.settings.superlink)
        try:
            control.stop_run(row.flower_run_id)
        finally:
            control.close()
    end(centre, run, "stopped", "stopped by an operator")


def fail_orphan(centre: Centre, flower_run: int, exit_code: int) -> None:
    """End the run of a server process that has gone without saying how it ended."""
    with reading(centre.engine, "looking for the run of a server process") as session:
        row = session.scalar(select(Run).where(Run.flower_run_id == flower_run))
    if row is not None and row.state not in FINAL_STATES:
        reason = f"its server process ended with exit code {exit_code}; logs/serverapp.log says why"
        end(centre, RunId(row.id), "failed", reason)


def fail_leftovers(centre: Centre) -> None:
    """End the runs whose driver died with an earlier coordinator or SuperLink: nobody drives them any more."""
    with reading(centre.engine, "looking for runs left behind") as session:
        left = session.scalars(select(Run.id).where(Run.state.not_in(FINAL_STATES))).all()
    for run in left:
        end(
            centre,
            RunId(run),
            "failed",
            "the coordinator or its SuperLink ended while the run was going; what it committed stays",
        )


def view(engine: Engine, run: RunId) -> RunView:
    """Where `run` stands now."""
    with reading(engine, f"reading {run}") as session:
        row = session.get(Run, run)
        if row is None:
            raise UsageError(f"there is no run {run}; `covenant run list` shows those there are")
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


def views(engine: Engine) -> Iterator[RunView]:
    """All runs, the latest first."""
    with reading(engine, "listing runs") as session:
        ids = session.scalars(select(Run.id).order_by(Run.submitted_at.desc())).all()
    for each in ids:
        yield view(engine, RunId(each))


def last_metrics(engine: Engine, run: RunId) -> dict[str, object] | None:
    """The metrics of the latest evaluated round of `run`."""
    with reading(engine, f"reading {run}") as session:
        latest = (
            select(func.max(Round.number))
            .where(Round.run_id == run, Round.metrics.is_not(None))
            .scalar_subquery()
        )
        return session.scalar(
            select(Round.metrics).where(
                Round.run_id == run, Round.number == latest, Round.state == RoundState.COMMITTED
            )
        )
