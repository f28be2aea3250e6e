"""Drives the rounds of one run: prepare once, then train, aggregate, step and commit, and now and then evaluate.

1. Everything a site is asked carries a statement; a reply that does not echo its digest is not counted.
2. A round is opened in the database before a site is asked, settled when the survivors are known, and committed with its
   model in one transaction. Below the plan's minimum of survivors it is voided, and nothing of it is used.
3. The driver remembers nothing that the store does not: started again, it goes on after the last committed round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from coordinator.rounds.exchange import Answered, Exchange, Outcome
from coordinator.rounds.record import Committed
from coordinator.rounds.roster import Roster, because
from coordinator.rounds.store import RoundStore
from protos.codec import CodecError, decode_reply, encode_request
from protos.contract import Contract
from protos.frames import (
    Body,
    Moments,
    Refusal,
    RefusalCode,
    Reply,
    Request,
    ScoreCounts,
    Stage,
    Statement,
    Task,
    Update,
    scaling_digest,
)
from protos.plan import Plan
from strategies.aggregation import Contribution, total, weighted_mean
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.moments import scaling_from
from strategies.encoding import Vector, sha256_hex, vector_digest
from strategies.errors import CovenantError, Refused
from strategies.features import FeatureSpec, Scaling
from strategies.ids import RunId, SiteName

_ATTEMPTS = 3
_PREPARE_ROUND = 0
_LASTING = frozenset({RefusalCode.POLICY, RefusalCode.SIGNATURE, RefusalCode.CONTRACT})
"""Refusals of the plan; the others are of one attempt, and the next may be answered."""
B = TypeVar("B", Moments, Update, ScoreCounts)
T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocuments:
    """What a run was approved with. `members` is the signed list as canonical JSON."""

    run: RunId
    plan: Plan
    contract: Contract
    members: bytes

    @property
    def task(self) -> Task:
        """The documents as they travel."""
        return Task(plan=self.plan.canonical, contract=self.contract.canonical, members=self.members)

    @property
    def features(self) -> FeatureSpec:
        """How the plan's features become the model's inputs."""
        return self.contract.feature_spec(self.plan.features)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a completed run hands to the registry."""

    model: Vector
    scaling: Scaling
    metrics: ScoreMetrics


class TooFewSurvivors(Refused):
    """Fewer sites answered than the plan's minimum."""


@dataclass
class Driver:
    """One run's rounds over an `Exchange`, committed to a `RoundStore`."""

    documents: RunDocuments
    exchange: Exchange
    store: RoundStore
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        self._roster = Roster(self._plan.sites, self.exchange, self.monotonic, self.sleep)

    @property
    def _plan(self) -> Plan:
        return self.documents.plan

    def drive(self) -> Finished:
        """Run to the end from wherever the store left off; raises `CovenantError` with the reason if it cannot."""
        committed, scaling = self.store.last_committed(), self.store.scaling()
        if committed is None or scaling is None:
            committed, scaling = self._again(self._prepare)
        metrics = self._evaluated(committed, scaling)
        while committed.number < self._plan.training.rounds:
            committed = self._again(partial(self._round, committed.number + 1, committed, scaling))
            metrics = self._evaluated(committed, scaling)
        if metrics is None:
            raise CovenantError(
                f"{self.documents.run} ended at round {committed.number} without an evaluation"
            )
        return Finished(committed.model, scaling, metrics)

    def _evaluated(self, committed: Committed, scaling: Scaling) -> ScoreMetrics | None:
        """The metrics of a round that the plan evaluates; a driver that died may have left them to be fetched."""
        number, every = committed.number, self._plan.evaluation.every
        if number == _PREPARE_ROUND or (number % every and number != self._plan.training.rounds):
            return None
        return self.store.metrics(number) or self._again(partial(self._evaluate, committed, scaling))

    @staticmethod
    def _again(step: Callable[[], T]) -> T:
        """Take a step, and take it again if too few sites answered."""
        for left in reversed(range(1, _ATTEMPTS)):
            try:
                return step()
            except TooFewSurvivors as few:
                _log.warning("too few survivors; trying again", tries_left=left, reason=str(few))
        return step()

    def _prepare(self) -> tuple[Committed, Scaling]:
        """Round 0: pool the moments, fix the scaling, and store the initial model."""
        roster = self._roster.ready(wait_for_all=self.store.scaling() is None)
        attempt = self.store.next_attempt(Stage.PREPARE, _PREPARE_ROUND, roster)
        statement = self._statement(Stage.PREPARE, _PREPARE_ROUND, attempt, roster)
        features = self.documents.features
        expected = 3 * len(features.numeric)
        bodies = self._ask(statement, Moments, (expected,))
        pooled = total([Contribution(s, b.vector) for s, b in bodies.items()])
        scaling = scaling_from(pooled) if expected else Scaling.identity(0)
        model = self._plan.dense_model(features.width)
        state = self._plan.server_optimizer().initial(model.size)
        initial = model.initial(self._plan.training.seed)
        committed = self.store.begin(scaling, initial, state, attempt=attempt, survivors=bodies)
        _log.info("prepared", sites=sorted(bodies), parameters=model.size)
        return committed, scaling

    def _round(self, number: int, before: Committed, scaling: Scaling) -> Committed:
        """One attempt at a round. The store numbers attempts: a driver before this one may have made some."""
        began = self.monotonic()
        roster = self._roster.ready(wait_for_all=self.store.scaling() is None)
        attempt = self.store.open_round(number, roster)
        statement = self._statement(Stage.TRAIN, number, attempt, roster, before.model, scaling)
        try:
            bodies = self._ask(statement, Update, before.model.shape, before.model, scaling)
        except TooFewSurvivors as few:
            self.store.void(number, attempt, str(few))
            raise
        exchange_s = self.monotonic() - began
        self.store.settle(number, attempt, sorted(bodies), statement.digest)
        aggregate = weighted_mean(
            [Contribution(s, b.vector, self._plan.weight_of(s)) for s, b in bodies.items()]
        )
        model, state = self._plan.server_optimizer().step(before.model, aggregate, before.optimizer)
        committed = self.store.commit(
            number,
            attempt,
            aggregate_digest=vector_digest(aggregate),
            model=model,
            optimizer=state,
            exchange_s=exchange_s,
            seconds=self.monotonic() - began,
        )
        _log.info("committed", round=number, survivors=len(bodies), exchange_s=round(exchange_s, 3))
        return committed

    def _evaluate(self, committed: Committed, scaling: Scaling) -> ScoreMetrics:
        roster = self._roster.ready(wait_for_all=self.store.scaling() is None)
        attempt = self.store.next_attempt(Stage.EVALUATE, committed.number, roster)
        statement = self._statement(
            Stage.EVALUATE, committed.number, attempt, roster, committed.model, scaling
        )
        pooled = np.zeros((2, self._plan.evaluation.score_bins), dtype=np.int64)
        bodies = self._ask(statement, ScoreCounts, pooled.shape, committed.model, scaling)
        for body in bodies.values():
            pooled += body.counts
        metrics = metrics_from(pooled)
        self.store.record_metrics(committed.number, metrics, attempt=attempt, survivors=bodies)
        _log.info("evaluated", round=committed.number, auc=round(metrics.auc, 4), rows=metrics.rows)
        return metrics

    def _statement(
        self,
        stage: Stage,
        number: int,
        attempt: int,
        roster: tuple[SiteName, ...],
        model: Vector | None = None,
        scaling: Scaling | None = None,
    ) -> Statement:
        documents = self.documents
        return Statement(
            plan_digest=documents.plan.digest,
            contract_digest=documents.contract.digest,
            members_digest=sha256_hex(documents.members),
            run=documents.run,
            stage=stage,
            round=number,
            attempt=attempt,
            roster=roster,
            component=self._plan.training.component,
            model_digest=None if model is None else vector_digest(model),
            scaling_digest=None if scaling is None else scaling_digest(scaling),
        )

    def _ask(
        self,
        statement: Statement,
        kind: type[B],
        shape: tuple[int, ...],
        model: Vector | None = None,
        scaling: Scaling | None = None,
    ) -> Mapping[SiteName, B]:
        """Ask the roster; the survivors' bodies, each of `shape`, of which there are at least the plan's minimum."""
        frame = encode_request(
            Request(statement=statement, task=self.documents.task, scaling=scaling, model=model)
        )
        outcomes = self.exchange.ask(
            statement.stage,
            dict.fromkeys(statement.roster, frame),
            round_number=statement.round,
            deadline_s=self._plan.training.round_deadline,
        )
        bodies: dict[SiteName, B] = {}
        missing: dict[SiteName, str] = {}
        for site, outcome in outcomes.items():
            body = self._judge(site, statement, outcome)
            if isinstance(body, kind) and _shape(body) == shape:
                bodies[site] = body
            elif isinstance(body, kind):
                missing[site] = f"sent an array of shape {_shape(body)}; this stage takes {shape}"
            else:
                missing[site] = body if isinstance(body, str) else f"sent {type(body).__name__}"
        if missing:
            _log.warning("sites missing", stage=statement.stage.name, round=statement.round, sites=missing)
        if len(bodies) < self._plan.sites.minimum:
            raise TooFewSurvivors(
                f"{len(bodies)} of at least {self._plan.sites.minimum} sites answered the "
                f"{statement.stage.name.lower()} stage of round {statement.round}: {because(missing)}"
            )
        return bodies

    def _judge(self, site: SiteName, statement: Statement, outcome: Outcome) -> Body | str:
        """The body of a valid reply, or why there is none."""
        if not isinstance(outcome, Answered):
            return outcome.reason
        try:
            reply = decode_reply(outcome.frame)
        except CodecError as error:
            return f"sent {error}"
        return self._judge_reply(site, statement, reply)

    def _judge_reply(self, site: SiteName, statement: Statement, reply: Reply) -> Body | str:
        if reply.site != site:
            return f"answered in the name of {reply.site}"
        if reply.statement_digest != statement.digest:
            return "answered another statement"
        if isinstance(reply.body, Refusal):
            reason = f"refused ({reply.body.code.name.lower()}) {reply.body.reason}".strip()
            if reply.body.code in _LASTING:
                self._roster.refused[site] = reason
            return reason
        return reply.body


def _shape(body: Moments | Update | ScoreCounts) -> tuple[int, ...]:
    return body.counts.shape if isinstance(body, ScoreCounts) else body.vector.shape
