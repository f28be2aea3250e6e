"""Drives the rounds of one run: prepare once, then train, aggregate, step and commit, and now and then evaluate.

1. Everything a site is asked carries a statement; a reply that does not echo its digest is not counted.
2. A round is opened in the database before a site is asked, settled when the survivors are known, and committed with its
   model in one transaction. Below the plan's minimum of survivors it is voided, and nothing of it is used.
3. A site is asked for nothing that is computed from rows before it has witnessed the run in the transparency log (`witnessing`).
4. The driver remembers nothing that the store does not: started again, it goes on after the last committed round.
5. From a mean update above the plan's gate nothing is computed: the run ends.
6. A site that is halted is not asked; an attempt that it had a part in, and that is not settled yet, is tried again without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, assert_never

import numpy as np
import structlog

from coordinator.governance.halted import SitesHalted
from coordinator.governance.log import TransparencyLog
from coordinator.governance.witnesses import WitnessBook
from coordinator.rounds.asking import Asking, NotYet, SharesMissing, TooFewSurvivors
from coordinator.rounds.exchange import Exchange
from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.plain import PlainSums
from coordinator.rounds.progress import Progress
from coordinator.rounds.question import Pooled, Question, Receipt, RunDocuments, Settled, Sums
from coordinator.rounds.reading import metrics_of, panels_alone, scaling_of
from coordinator.rounds.record import Committed
from coordinator.rounds.refusals import Refusals
from coordinator.rounds.roster import Roster
from coordinator.rounds.secure import SecureSums
from coordinator.rounds.site_models import SiteModels
from coordinator.rounds.store import RoundStore
from coordinator.rounds.witnessing import Witnessing
from protos.frames import Stage
from protos.log_run_events import Tripped
from protos.plan import Plan
from protos.plan_aggregation import PlainAggregation, SecureAggregation
from protos.secure_codec import encode_testimony
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import Panels
from strategies.encoding import Vector
from strategies.errors import CovenantError, DiskError, Refused
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.secagg.shamir import Entropy
from strategies.update_gate import GateTripped

_ATTEMPTS = 3
_HEARTBEAT_S = 20.0
"""Longer than the 15 s between two heartbeats of an agent, after which a site that is well is heard of again."""
_HALTS_HEARD_S = 0.25
"""Longer than halts are not asked for."""
_PREPARE_ROUND = 0
T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a completed run hands to the registry."""

    model: Vector
    scaling: Scaling
    metrics: ScoreMetrics | None
    """None if the last evaluation gave none: a sum is opened once and was charged, so the model stays, and who judges it finds no metrics."""
    panels: Panels | None = None
    """What that evaluation told beside metrics, where it gave none."""


@dataclass
class Driver:
    """One run's rounds over an `Exchange`, committed to a `RoundStore`."""

    documents: RunDocuments
    exchange: Exchange
    store: RoundStore
    log: TransparencyLog
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    entropy: Entropy
    """Where the centre's own noise comes from, in plans whose noise is the centre's."""
    halted: Callable[[], Collection[SiteName]] = frozenset
    """The sites that nobody may ask; raises what ends the run."""
    ordered: Callable[[SiteName, bytes], None] = lambda _site, _order: None
    """Told of the order to halt that a site refuses with."""
    progress: Progress = field(default_factory=Progress)
    """Told of every exchange."""
    _roster: Roster = field(init=False)
    _sums: Sums = field(init=False)
    _witnessing: Witnessing = field(init=False)
    _retrying: bool = False

    def __post_init__(self) -> None:
        self._roster = Roster(self._plan.sites, self.exchange, self.monotonic, self.sleep, halted=self.halted)
        verify = self.documents.identities.verify
        members, book = self.documents.member_list, WitnessBook(self.log.engine, self.log.clock)
        judge = Refusals(self.documents.run, members, self.log, book, self.store).take
        deadline_s = self._plan.training.round_deadline
        asking = Asking(
            self.exchange,
            self._roster,
            deadline_s,
            verify,
            judge,
            self.ordered,
            lambda site, start: self._witnessing.note_start(site, start),  # noqa: PLW0108 (it is made after this)
            self.progress,
        )
        witnessing = Witnessing(self.documents, members, self.log, book, self.store, asking)
        self._witnessing, task = witnessing, lambda: witnessing.task
        match self._plan.aggregation:
            case PlainAggregation():
                self._sums = PlainSums(self.documents, asking, task)
            case SecureAggregation() as secure:
                models = SiteModels(self.store.step)
                opened = OpenedSums(self.documents, self.entropy)
                self._sums = SecureSums(self.documents, secure, asking, verify, models, opened, task)
            case unreachable:
                assert_never(unreachable)

    @property
    def _plan(self) -> Plan:
        return self.documents.plan

    def drive(self) -> Finished:
        """Run to the end from wherever the store left off; raises `CovenantError` with the reason if it cannot."""
        committed, scaling = self.store.last_committed(), self.store.scaling()
        _log.info("driving", after=None if committed is None else committed.number)
        if committed is None or scaling is None:
            committed, scaling = self._again(self._prepare)
        metrics = self._evaluated(committed, scaling)
        while committed.number < self._plan.training.rounds:
            committed = self._again(partial(self._round, committed.number + 1, committed, scaling))
            metrics = self._evaluated(committed, scaling)
        panels = self.store.panels(committed.number) if metrics is None else None
        return Finished(committed.model, scaling, metrics, panels)

    def conclude(self) -> None:
        """When all that came of the run is in the log: have the sites witness that too, as far as they answer at once."""
        try:
            self._witnessing.conclude()
        except DiskError:
            raise
        except CovenantError as trouble:
            _log.warning("the end of the run is not witnessed", reason=str(trouble))

    def _evaluated(self, committed: Committed, scaling: Scaling) -> ScoreMetrics | None:
        """The metrics of a round that the plan evaluates; a driver that died may have left them to be fetched."""
        number = committed.number
        if not self._plan.evaluates(number):
            return None
        metrics = self.store.metrics(number)
        if metrics is not None or self.store.has_answered(Stage.EVALUATE, number):
            return metrics
        return self._again(partial(self._evaluate, committed, scaling))

    def _again(self, step: Callable[[], T]) -> T:
        """Take a step, and take it again if too few sites answered: some times, or for as long as sites may join that ask for time; or if a sum
        lacks shares of sites that are away, once they are back."""
        left, until = _ATTEMPTS, None
        try:
            while True:
                try:
                    done = step()
                except TooFewSurvivors as few:
                    waited_s = self._roster.waited_s if isinstance(few, NotYet) else None
                    left -= waited_s is None
                    if not left or (waited_s or 0.0) > self._plan.sites.join_within:
                        raise
                    _log.warning("too few survivors; trying again", tries_left=left, reason=str(few))
                    self._retrying = True
                except SharesMissing as missing:
                    _log.warning("a sum lacks shares; waiting for its sites", reason=str(missing))
                    if until is None:  # asking has taken its own deadlines
                        until = self.monotonic() + self._plan.sites.join_within
                    if not self._roster.return_of(missing.sites, until=until):
                        raise
                else:
                    self._roster.enough()
                    return done
        finally:
            self._retrying = False

    def _prepare(self) -> tuple[Committed, Scaling]:
        """Round 0: pool the moments, fix the scaling, and store the initial model."""
        attempt, pooled = self._pooled(Stage.PREPARE, _PREPARE_ROUND)
        features = self.documents.features
        scaling = self._scaling(pooled) if features.numeric else Scaling.identity(0)
        model = self._plan.dense_model(features.width)
        state = self._plan.server_optimizer().initial(model.size)
        initial = model.initial(self._plan.training.seed)
        committed = self.store.begin(scaling, initial, state, attempt=attempt, survivors=pooled.survivors)
        _log.info("prepared", sites=list(pooled.survivors), parameters=model.size)
        return committed, scaling

    def _scaling(self, pooled: Pooled) -> Scaling:
        try:
            return scaling_of(self.documents, pooled)
        except CovenantError as trouble:
            raise CovenantError(
                f"{self.documents.run} cannot be prepared: {trouble}. A sum is opened once, so it cannot be had again; launch a new run"
            ) from trouble

    def _round(self, number: int, before: Committed, scaling: Scaling) -> Committed:
        """One attempt at a round. The store numbers attempts: a driver before this one may have made some."""
        began = self.monotonic()
        attempt, pooled = self._pooled(Stage.TRAIN, number, before, scaling)
        exchange_s = self.monotonic() - began
        aggregate = _vector(pooled)
        self._require_gate(number, attempt, aggregate)
        kept = self.store.keep_aggregate(aggregate)
        # On disk, it makes room for the model that follows: of a large one a third is saved.
        model, state = self._plan.server_optimizer().step(
            before.model, aggregate, before.optimizer, into=aggregate
        )
        committed = self.store.commit(
            number,
            attempt,
            aggregate=kept,
            model=model,
            optimizer=state,
            exchange_s=exchange_s,
            seconds=self.monotonic() - began,
        )
        _log.info("committed", round=number, survivors=len(pooled.survivors), exchange_s=round(exchange_s, 3))
        return committed

    def _require_gate(self, number: int, attempt: int, aggregate: Vector) -> None:
        """End the run where the opened mean update is above the plan's gate, and raise Refused: sites go on from no such round either, and open no
        second sum of it."""
        try:
            self._plan.require_gate(aggregate, number)
        except GateTripped as tripped:
            reason = (
                f"{tripped}. Nothing of the round is kept; it stays charged. A sum hides whose update it was, so no site can be named. Sites open one"
                " sum a round, so the run cannot be resumed: look into the sites, halt what you do not trust, and launch a new run"
            )
            norm = tripped.norm if math.isfinite(tripped.norm) else None
            self.store.finish("failed", reason, Tripped(round=number, attempt=attempt, norm=norm))
            raise Refused(reason) from tripped

    def _evaluate(self, committed: Committed, scaling: Scaling) -> ScoreMetrics | None:
        """The metrics of a round; None if what the sites sent gives none, which must not keep the run from its other rounds."""
        attempt, pooled = self._pooled(Stage.EVALUATE, committed.number, committed, scaling)
        try:
            metrics = metrics_of(self.documents, pooled)
        except CovenantError as trouble:
            # Counts that nobody can have counted, which are no refusal, say nothing of groups either.
            panels = panels_alone(self.documents, pooled) if isinstance(trouble, Refused) else None
            self.store.record_no_metrics(
                committed.number, attempt=attempt, survivors=pooled.survivors, panels=panels
            )
            _log.error("evaluation without metrics", round=committed.number, reason=str(trouble))
            return None
        self.store.record_metrics(committed.number, metrics, attempt=attempt, survivors=pooled.survivors)
        _log.info("evaluated", round=committed.number, auc=round(metrics.auc, 4), rows=metrics.rows)
        return metrics

    def _pooled(
        self, stage: Stage, number: int, at: Committed | None = None, scaling: Scaling | None = None
    ) -> tuple[int, Pooled]:
        """One attempt at a sum, or the rest of one that an earlier driver had settled."""
        left = self.store.unopened(stage, number)
        if left is not None:
            attempt = left.receipt.attempt
            question = _question(stage, number, attempt, (), at, scaling)
            return attempt, self._sums.reopen(question, left.opening, left.receipt)
        roster = self._witnessing.ensure(self._ready())
        attempt = self._opened(stage, number, roster)
        question = _question(stage, number, attempt, roster, at, scaling)
        try:
            with self._halts_heard():
                return attempt, self._sums.pool(question, partial(self._settle, question))
        except TooFewSurvivors as few:
            if stage is Stage.TRAIN:
                self.store.void(number, attempt, str(few))
            raise

    def _opened(self, stage: Stage, number: int, roster: tuple[SiteName, ...]) -> int:
        """The attempt under which `roster` is asked."""
        with self._halts_heard():
            if stage is Stage.TRAIN:
                return self.store.open_round(number, roster)
            return self.store.next_attempt(stage, number, roster)

    @contextmanager
    def _halts_heard(self) -> Iterator[None]:
        """An attempt with a site that was halted meanwhile is one with too few survivors: the next is made without it, once that is heard of."""
        try:
            yield
        except SitesHalted as halted:
            self.sleep(_HALTS_HEARD_S)
            raise TooFewSurvivors(str(halted)) from halted

    def _settle(self, question: Question, settled: Settled) -> Receipt:
        """T1: before anything is opened."""
        if question.stage is not Stage.TRAIN:
            return self.store.settle_attempt(
                question.stage, question.number, question.attempt, settled.survivors, settled.opening
            )
        return self.store.settle(
            question.number,
            question.attempt,
            settled.survivors,
            settled.statement,
            testimony=None if settled.testimony is None else encode_testimony(settled.testimony),
            opening=settled.opening,
        )

    def _ready(self) -> tuple[SiteName, ...]:
        """Before a run has begun, sites may still be on their way; before another try, one that was cut off may be heard of again."""
        if self.store.scaling() is None:
            return self._roster.ready(patience_s=self._plan.sites.join_within)
        return self._roster.ready(patience_s=_HEARTBEAT_S if self._retrying else 0.0)


def _question(
    stage: Stage,
    number: int,
    attempt: int,
    roster: tuple[SiteName, ...],
    at: Committed | None,
    scaling: Scaling | None,
) -> Question:
    return Question(
        stage=stage,
        number=number,
        attempt=attempt,
        roster=roster,
        model=None if at is None else at.model,
        optimizer=None if at is None else at.optimizer,
        scaling=scaling,
    )


def _vector(pooled: Pooled) -> Vector:
    return pooled.values.astype(np.float64, copy=False)
