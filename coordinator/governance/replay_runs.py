"""The effects of what happened to runs, written into the tables again: launched, prepared, settled, committed, evaluated, ended, registered.

1. A charge is judged, reserved, settled and given back by the ledger's own functions. One that the tables cannot bear stops everything: none is
   passed over.
2. What the log does not tell stays empty: scaling, checkpoints, testimony, durations, views of witnesses, who was asked and did not answer. A run
   does not go on from there.
3. A version of a model keeps its number, whether its files are there or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import assert_never

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.schema import Attempt, Model, Round, RoundState, Run, RunState, Stage
from coordinator.governance.witnesses import Seen, keep
from coordinator.ledger import Ledger, Need, Planned
from coordinator.ledger.entries import lock_run, write_settled, write_voided
from coordinator.ledger.needs import AccountKey
from coordinator.rounds.ending import close_tripped, void_row
from coordinator.rounds.record import committed_round
from protos.frames import scaling_digest
from protos.log_entries import (
    AccountsAdopted,
    LoggedDocument,
    MembersSigned,
    ModelRegistered,
    PlanRecorded,
    RunLaunched,
    What,
)
from protos.log_run_events import (
    AttemptVoided,
    ReservationGivenUp,
    Reserved,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    RunEvent,
    RunResumed,
    RunWitnessed,
    SiteRefused,
    SumSettled,
)
from protos.plan import Plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN
from strategies.dp.events import Release
from strategies.encoding import canonical_json
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, RunId


class RunReplay:
    """What happened to runs, by the documents and releases that entries before it have brought. Raises CovenantError."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session = session
        self._engine = engine
        self._documents: dict[Digest, str] = {}
        self._releases: dict[Digest, Release] = {}

    def learn(self, what: What) -> None:
        """Keep the documents and releases that an entry brings, for those after it that name them."""
        match what:
            case MembersSigned():
                self._know(what.members)
            case PlanRecorded():
                for each in (what.plan, what.contract, what.evidence):
                    if each is not None:
                        self._know(each)
            case RunLaunched() | AccountsAdopted():
                for digest, facts in what.releases.items():
                    self._releases[digest] = Release.from_facts(dict(facts))
            case _:
                pass

    def take(self, at: datetime, what: RunLaunched | RunEvent | ModelRegistered) -> None:  # noqa: C901, PLR0912  (one line a kind)
        """The effect of one entry."""
        match what:
            case RunLaunched():
                self._launch(at, what)
            case RunWitnessed():
                keep(self._session, at, (Seen(each, {}) for each in what.statements))
            case SiteRefused():
                pass  # an answer, which only the log has
            case RoundPrepared():
                self._prepared(at, what)
            case SumSettled():
                self._settled(at, what)
            case AttemptVoided():
                self._voided(at, what)
            case RoundCommitted():
                self._committed(at, what)
            case RoundEvaluated():
                self._evaluated(at, what)
            case RunEnded():
                self._ended(at, what)
            case RunResumed():
                self._resumed(at, what)
            case ReservationGivenUp():
                self._given_up(at, what)
            case ModelRegistered():
                self._model(at, what)
            case unreachable:
                assert_never(unreachable)

    def _launch(self, at: datetime, what: RunLaunched) -> None:
        plan = self._document(what.plan)
        self._session.add(
            Run(
                id=what.run,
                plan_name=Plan.from_canonical(plan.encode()).name,
                plan_digest=what.plan,
                plan=plan,
                contract=self._document(what.contract),
                members=self._document(what.members),
                evidence=None if what.evidence is None else self._document(what.evidence),
                state=RunState.SUBMITTED,
                submitted_at=at,
            )
        )
        self._reserve(at, what.run, what.reserved)

    def _reserve(self, at: datetime, run: RunId, reserved: tuple[Reserved, ...]) -> None:
        if reserved:
            Ledger(self._engine, lambda: at).reserve(self._session, run, self._needs(reserved))

    def _needs(self, reserved: tuple[Reserved, ...]) -> list[Need]:
        """What was reserved as the needs that it came from."""

        def key(each: Reserved) -> AccountKey:
            return AccountKey.of(each.site, each.population, self._release(each.release).unit)

        return [
            Need(
                site=account.site,
                population=account.population,
                unit=self._release(mine[0].release).unit,
                planned=[
                    Planned(stage=each.stage, release=self._release(each.release), times=each.times)
                    for each in mine
                ],
            )
            for account, found in groupby(reserved, key)
            for mine in [list(found)]
        ]

    def _release(self, digest: Digest) -> Release:
        if digest not in self._releases:
            raise CovenantError(f"release {digest} is nowhere described")
        return self._releases[digest]

    def _prepared(self, at: datetime, what: RoundPrepared) -> None:
        run = self._running(at, what.run)
        kept = run.scaling
        if (
            kept is None
            or scaling_digest(Scaling(mean=tuple(kept["mean"]), std=tuple(kept["std"]))) != what.scaling
        ):
            run.scaling = None
        self._answered(at, what.run, PREPARE, 0, what.attempt, what.survivors)

    def _settled(self, at: datetime, what: SumSettled) -> None:
        run = self._running(at, what.run)
        if what.stage == TRAIN:
            row = self._round(at, run, what.round, what.attempt, what.sites)
            row.survivors, row.statement_digest = list(what.sites), what.statement
        else:
            self._attempt(at, what.run, what.stage, what.round, what.attempt, what.sites)
        if not what.releases:
            return
        lock_run(self._session, what.run)
        place = (what.stage, what.round, what.attempt)
        charged = write_settled(self._session, what.run, place, what.sites, at)
        if charged != what.releases:
            raise CovenantError(f"{what.run} holds other releases than those that were settled")

    def _voided(self, at: datetime, what: AttemptVoided) -> None:
        run = self._session.get_one(Run, what.run)
        row = self._round(at, run, what.round, what.attempt, ())
        void_row(row, what.reason, at)

    def _committed(self, at: datetime, what: RoundCommitted) -> None:
        run = self._running(at, what.run)
        row = self._round(at, run, what.round, what.attempt, what.roster)
        row.roster, row.survivors = list(what.roster), list(what.survivors)
        row.statement_digest, row.aggregate_digest = what.statement, what.aggregate
        row.model_digest, row.optimizer_digest = what.model, what.optimizer
        row.state, row.closed_at, row.opening = RoundState.COMMITTED, at, None

    def _evaluated(self, at: datetime, what: RoundEvaluated) -> None:
        self._running(at, what.run)
        self._answered(at, what.run, EVALUATE, what.round, what.attempt, what.survivors)
        row = committed_round(self._session, what.run, what.round)
        if row is None:
            raise CovenantError(f"round {what.round} of {what.run} is not committed")
        if what.metrics is not None:
            row.metrics = dict(what.metrics)
        if what.panels is not None:
            row.panels = dict(what.panels)

    def _ended(self, at: datetime, what: RunEnded) -> None:
        run = self._session.get_one(Run, what.run)
        run.state, run.reason, run.finished_at = RunState(what.state), what.reason, at
        if what.tripped is not None:
            close_tripped(self._session, what.run, what.tripped, at)

    def _resumed(self, at: datetime, what: RunResumed) -> None:
        run = self._session.get_one(Run, what.run)
        run.state, run.reason, run.finished_at, run.idle_starts = RunState.SUBMITTED, None, None, 0
        self._session.flush()
        self._reserve(at, what.run, what.reserved)

    def _given_up(self, at: datetime, what: ReservationGivenUp) -> None:
        lock_run(self._session, what.run)
        if write_voided(self._session, what.run, what.reason, at) != what.releases:
            raise CovenantError(f"{what.run} holds other reservations than it gave up")

    def _model(self, at: datetime, what: ModelRegistered) -> None:
        last = (
            select(Round.metrics, Round.panels)
            .where(Round.run_id == what.run, Round.state == RoundState.COMMITTED)
            .order_by(Round.number.desc())
            .limit(1)
        )
        metrics, panels = self._session.execute(last).first() or (None, None)
        self._session.add(
            Model(
                name=what.name,
                version=what.version,
                stage=Stage.CANDIDATE,
                run_id=what.run,
                digest=what.digest,
                artifacts=dict(what.artifacts),
                metrics=metrics,
                panels=panels,
                created_at=at,
            )
        )

    def _know(self, logged: LoggedDocument) -> None:
        self._documents[logged.digest] = canonical_json(logged.document).decode()

    def _document(self, digest: Digest) -> str:
        if digest not in self._documents:
            raise CovenantError(f"the document {digest} is not in the log before it")
        return self._documents[digest]

    def _running(self, at: datetime, name: RunId) -> Run:
        run = self._session.get_one(Run, name)
        run.state, run.idle_starts = RunState.RUNNING, 0
        run.started_at = run.started_at or at
        return run

    def _round(self, at: datetime, run: Run, number: int, attempt: int, roster: Iterable[str]) -> Round:
        row = self._session.get(Round, (run.id, number, attempt))
        if row is None:
            row = Round(
                run_id=run.id,
                number=number,
                attempt=attempt,
                state=RoundState.OPEN,
                roster=sorted(roster),
                opened_at=at,
            )
            self._session.add(row)
        return row

    def _attempt(
        self, at: datetime, run: RunId, stage: str, number: int, attempt: int, roster: Iterable[str]
    ) -> Attempt:
        row = self._session.get(Attempt, (run, stage, number, attempt))
        if row is None:
            row = Attempt(
                run_id=run, stage=stage, round=number, attempt=attempt, roster=sorted(roster), asked_at=at
            )
            self._session.add(row)
        return row

    def _answered(
        self, at: datetime, run: RunId, stage: str, number: int, attempt: int, survivors: Iterable[str]
    ) -> None:
        survivors = sorted(survivors)
        row = self._attempt(at, run, stage, number, attempt, survivors)
        row.survivors, row.opening = survivors, None
