"""A dry run of a plan on this site's own rows, with this site alone: what it takes of the machine, and what it would cost and send.

1. It computes what the agent would, by the agent's own code. Nothing is sent and nothing charged: neither journal nor accounts nor the network are opened.
   Rows that are many are in a file without a name while it lasts, as they are for the agent.
2. Figures are the site's own, and stay here. In modes whose noise is added to the sum of all sites there is none in them; in mode local there is.
3. One site is no federation: the loss says whether a plan learns anything from these rows, not how good its model will be.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np

from client.data.reading import read_source
from client.training import PrivateSession, Session, TrainingSession, session_for
from client.training.champion import Scorer
from client.training.pace import Paced, Progress
from protos.contract import Contract
from protos.frames import Stage
from protos.payloads import payload_of
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_panels import evaluation_cells
from protos.plan_releases import moment_cells, releases_of
from protos.plan_training import GradientSums
from protos.site import SiteConfig
from protos.site_data import DataSource
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.moments import scaling_from
from strategies.analytics.noisy import noisy_metrics, noisy_scaling
from strategies.dp.budget import cost_of
from strategies.dp.clipping import gradient_value
from strategies.dp.mechanisms import MOMENT_BITS
from strategies.encoding import Vector
from strategies.errors import Refused
from strategies.features import Scaling
from strategies.secagg.secrets import SECRET_BYTES, MaskSeed
from strategies.secagg.shamir import Entropy

_KIBI: Final = 1024
_FLOAT_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """One round: how long it took, and how the model after it does on this site's held-out rows, if they tell."""

    number: int
    seconds: float
    metrics: ScoreMetrics | None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        known = self.metrics
        return {
            "round": self.number,
            "seconds": round(self.seconds, 3),
            "log_loss": None if known is None else round(known.log_loss, 4),
            "auc": None if known is None else round(known.auc, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a dry run has measured. `rows` are for training and held out; `sent` is bytes of each stage, before what the transport adds."""

    rows: tuple[int, int]
    load_s: float
    prepare_s: float
    evaluate_s: float
    rounds: tuple[Rehearsed, ...]
    peak_bytes: int
    deadline_s: float
    cost: str
    sent: dict[str, int]

    @property
    def slowest_s(self) -> float:
        """Of the rounds."""
        return max(each.seconds for each in self.rounds)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "training_rows": self.rows[0],
            "held_out_rows": self.rows[1],
            "load_seconds": round(self.load_s, 3),
            "prepare_seconds": round(self.prepare_s, 3),
            "evaluate_seconds": round(self.evaluate_s, 3),
            "rounds": [each.facts() for each in self.rounds],
            "peak_bytes": self.peak_bytes,
            "round_deadline_seconds": self.deadline_s,
            "in_time": self.slowest_s <= self.deadline_s,
            "cost": self.cost,
            "sent_bytes": self.sent,
        }


@dataclass
class Rehearser:
    """Rehearses one plan on `source`. `monotonic` tells seconds; `entropy` is where samples, and noise in mode local, come from; `today` is for dates in rows."""

    plan: Plan
    contract: Contract
    source: DataSource
    config: SiteConfig
    monotonic: Callable[[], float]
    entropy: Entropy
    progress: Progress
    today: date

    def rehearse(self, rounds: int) -> Rehearsal:
        """Load, prepare, train `rounds` rounds and evaluate. Raises as the agent's own computations do, `DataError` among it."""
        session, load_s = self._timed(self._session)
        scaling, prepare_s = self._timed(lambda: self._scaling(session))
        model = session.model.initial(self.plan.training.seed)
        optimiser = self.plan.server_optimizer()
        state = optimiser.initial(session.model.size)
        done: list[Rehearsed] = []
        evaluate_s = 0.0
        for number in range(1, rounds + 1):
            update, seconds = self._timed(lambda at=model, n=number: self._update(session, at, scaling, n))  # type: ignore[misc]
            model, state = optimiser.step(model, update, state)
            metrics, evaluate_s = self._timed(lambda at=model: self._metrics(session, at, scaling))  # type: ignore[misc]
            done.append(Rehearsed(number=number, seconds=seconds, metrics=metrics))
        return Rehearsal(
            rows=session.rows,
            load_s=load_s,
            prepare_s=prepare_s,
            evaluate_s=evaluate_s,
            rounds=tuple(done),
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBI,
            deadline_s=self.plan.training.round_deadline,
            cost=self._cost(),
            sent={stage.name.lower(): self._bytes(stage, session) for stage in Stage},
        )

    def _timed(self, step: Callable[[], Any]) -> tuple[Any, float]:
        began = self.monotonic()
        made = step()
        return made, self.monotonic() - began

    def _session(self) -> Session:
        spool = self.config.journal.parent
        protected = self.plan.protected_columns
        table = read_source(
            self.source, self.contract, today=self.today, spool=spool, protected=protected
        ).accepted()
        threads = self.config.run.cpu_threads
        return session_for(self.plan, self.contract, table, site=self.config.site, threads=threads)

    def _scaling(self, session: Session) -> Scaling:
        """As this site's own moments give it."""
        if not self.contract.feature_spec(self.plan.features).numeric:
            return Scaling.identity(0)
        if isinstance(session, TrainingSession):
            return scaling_from(session.moments())
        sums = session.moments().astype(np.float64) * 2.0 ** (-2 * MOMENT_BITS)
        return noisy_scaling(sums, moment_cells(self.plan, self.contract).optional, 0.0)

    def _update(self, session: Session, model: Vector, scaling: Scaling, number: int) -> Vector:
        pace = Paced(
            what=f"round {number} of the rehearsal",
            began=self.monotonic(),
            deadline_s=math.inf,  # it is measured how late a site would be
            monotonic=self.monotonic,
            progress=self.progress,
        )
        if isinstance(session, TrainingSession):
            return session.train(model, scaling, number, pace)
        seed = MaskSeed(self.entropy(SECRET_BYTES))
        rule = self.plan.training
        if not isinstance(rule, GradientSums):
            return session.local_update(model, scaling, seed, pace)
        total = session.gradient_sum(model, scaling, seed)
        return -gradient_value(total, rule.clip) / rule.expected_batch

    def _metrics(self, session: Session, model: Vector, scaling: Scaling) -> ScoreMetrics | None:
        counts = session.evaluate(model, scaling, self._champion())
        cells = evaluation_cells(self.plan, self.contract)
        own = cells.blocks(counts).scores[0] // cells.steps
        try:
            return noisy_metrics(own, 0.0) if isinstance(session, PrivateSession) else metrics_from(own)
        except Refused:
            return None  # a class without held-out rows

    def _champion(self) -> Scorer | None:
        """A model of the champion's features and shape, for what it takes to score it: its weights come with the request, and are not here."""
        named = self.plan.evaluation.champion
        if named is None:
            return None
        features = self.contract.feature_spec(named.features)
        shape = named.dense_model(features.width)
        scaling = Scaling.identity(len(features.numeric))
        return Scorer(features=features, shape=shape, weights=shape.initial(0), scaling=scaling)

    def _cost(self) -> str:
        """What the whole plan would charge this site's account, at the account's own order."""
        planned, account = releases_of(self.plan, self.contract), self.source.account
        if planned is None:
            return "nothing is charged: the plan has no privacy"
        if account is None:
            return "this population has no account"
        costs = account.ceiling.guarantee(cost_of(planned.planned(), account.ceiling.order))
        return f"{costs.words}, of a ceiling of {account.ceiling.words}"

    def _bytes(self, stage: Stage, session: Session) -> int:
        """What this site would send in one attempt: masked, or as floating point where the plan does not mask."""
        plan = self.plan
        if isinstance(plan.aggregation, SecureAggregation):
            payload = payload_of(plan, self.contract, stage, plan.sites.invite)
            return -(-payload.dimension * payload.ring.bits // 8)
        numeric = len(self.contract.feature_spec(plan.features).numeric)
        numbers = {
            Stage.PREPARE: 3 * numeric,
            Stage.TRAIN: session.model.size,
            Stage.EVALUATE: evaluation_cells(plan, self.contract).dimension,
        }
        return numbers[stage] * _FLOAT_BYTES
