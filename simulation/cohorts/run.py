"""A plan's rounds over cohorts of a population: scaling from a first cohort, training by an engine, scores on held-out rows of an evaluation cohort."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_training import LocalTraining
from simulation.cohorts.engine import SLICE_CLIENTS, Clients, Engine, TrainRequest, slices
from simulation.cohorts.engines import engine_of
from simulation.cohorts.population import Population, check_cohort, sample_cohort
from simulation.cohorts.private import PrivateRounds, cohort_plan
from simulation.cohorts.rows import ClientRows
from simulation.in_order import in_order
from strategies.aggregation import WeightedSum, added_in_order
from strategies.analytics.histograms import Counts, ScoreMetrics, metrics_from
from strategies.analytics.moments import scaling_from
from strategies.encoding import Vector, vector_digest
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.server_optimizers import OptimizerState
from strategies.update_rules import RobustRule

EVALUATED_CLIENTS: Final = 500
_FINE_BINS: Final = 10_000
"""For private plans, whose own bins are few because each has noise."""
MOST_WORKERS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many clients a round takes, how many are evaluated on, and how many slices are computed beside each other."""

    cohort: int
    evaluated: int = EVALUATED_CLIENTS
    workers: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRound:
    """A round: `seconds` of training, without evaluation; its figures where the plan evaluates."""

    number: int
    clients: int
    seconds: float
    auc: float | None = None
    log_loss: float | None = None

    @property
    def clients_per_s(self) -> float:
        """Clients trained in a second."""
        return self.clients / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortsResult:
    """What simulated rounds came to. `computed` says how clients were."""

    plan: str
    plan_digest: str
    population: int
    description: str
    computed: str
    seed: int
    model: Vector
    rounds: tuple[CohortRound, ...]
    metrics: ScoreMetrics

    @property
    def clients_per_s(self) -> float:
        """Over all rounds."""
        return sum(each.clients for each in self.rounds) / max(
            sum(each.seconds for each in self.rounds), 1e-9
        )

    def facts(self) -> dict[str, object]:
        """The result as one JSON object."""
        return {
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "population": self.population,
            "rows": self.description,
            "computed": self.computed,
            "seed": self.seed,
            "model_digest": vector_digest(self.model),
            "parameters": self.model.size,
            "clients_per_s": self.clients_per_s,
            "rounds": [{**asdict(each), "clients_per_s": each.clients_per_s} for each in self.rounds],
            "metrics": {
                name: getattr(self.metrics, name)
                for name in ("rows", "positives", "auc", "log_loss", "ks", "brier")
            },
        }


class Rounds(Protocol):
    """How a cohort gives a scaling, and the next model."""

    def scaling(self, clients: Clients) -> Scaling:
        """The federation's scaling, from `clients`."""
        ...

    def step(
        self, number: int, model: Vector, scaling: Scaling, state: OptimizerState, clients: Clients
    ) -> tuple[Vector, OptimizerState]:
        """The model and optimiser state after round `number`."""
        ...


@dataclass(frozen=True, slots=True)
class EngineRounds:
    """Rounds of a plan without privacy, by an engine."""

    rows: ClientRows
    engine: Engine
    workers: int

    def scaling(self, clients: Clients) -> Scaling:
        """See `Rounds`."""
        parts = in_order(self.rows.moments, slices(clients, SLICE_CLIENTS), self.workers)
        return scaling_from(added_in_order(WeightedSum(each, 1) for each in parts).total)

    def step(
        self, number: int, model: Vector, scaling: Scaling, state: OptimizerState, clients: Clients
    ) -> tuple[Vector, OptimizerState]:
        """See `Rounds`."""
        update = self.engine.summed(TrainRequest(number, model, scaling), clients).mean
        return self.rows.plan.server_optimizer().step(model, update, state)


@dataclass(frozen=True, slots=True)
class CohortRun:
    """Rounds of `plan` over cohorts of `population`; `seed` draws the cohorts."""

    plan: Plan
    contract: Contract
    population: Population
    sizes: Sizes
    seed: int
    engine: Engine | None = None
    """Another engine for a plan without privacy than this machine's threads."""

    def run(
        self,
        *,
        progress: Callable[[CohortRound], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> CohortsResult:
        """All rounds. Raises `UsageError` for what `check` refuses, `Refused` where rows give no scaling or no metrics."""
        self.check()
        rows = ClientRows(self.plan, self.contract, self.population)
        rounds, computed = self._rounds(rows, warn)
        shape = self.plan.dense_model(rows.spec.width)
        model, state = (
            shape.initial(self.plan.training.seed),
            self.plan.server_optimizer().initial(shape.size),
        )
        scaling = rounds.scaling(self._cohort("scaling"))
        done: list[CohortRound] = []
        scores: dict[int, ScoreMetrics] = {}
        for number in range(1, self.plan.training.rounds + 1):
            began = time.perf_counter()
            model, state = rounds.step(number, model, scaling, state, self._cohort(f"round {number}"))
            seconds = time.perf_counter() - began
            if self.plan.evaluates(number):
                scores[number] = self._metrics(rows, model, scaling)
            done.append(_round(number, self.sizes.cohort, seconds, scores.get(number)))
            progress(done[-1])
        return CohortsResult(
            plan=self.plan.name,
            plan_digest=self.plan.digest,
            population=self.population.size,
            description=self.population.description,
            computed=computed,
            seed=self.seed,
            model=model,
            rounds=tuple(done),
            metrics=scores[self.plan.training.rounds],
        )

    def check(self) -> None:
        """Raise `UsageError` for sizes that do not go together, and for a rule that compares updates: an engine tells sums."""
        if isinstance(rule := self.plan.aggregation.update_rule, RobustRule):
            raise UsageError(
                f"plan {self.plan.name} has the rule {rule.words}, which compares the updates of clients, and cohorts are summed up in slices. Remove"
                " aggregation.rule to try it on cohorts, or try the rule on sites with `covenant simulate robustness`"
            )
        check_cohort(self.sizes.cohort, self.population.size)
        if self.sizes.evaluated < 1:
            raise UsageError(
                f"an evaluation over {self.sizes.evaluated} clients tells nothing; use at least 1"
            )
        if not 1 <= self.sizes.workers <= MOST_WORKERS:
            raise UsageError(f"{self.sizes.workers} workers cannot compute; use 1 to {MOST_WORKERS}")

    def _rounds(self, rows: ClientRows, warn: Callable[[str], None]) -> tuple[Rounds, str]:
        """How rounds are computed, and in words."""
        if isinstance(self.plan.training, LocalTraining):
            engine = self.engine
            if engine is None:
                engine = engine_of(rows, workers=self.sizes.workers, warn=warn)
            return EngineRounds(rows, engine, self.sizes.workers), engine.description
        # Whether so many can be summed is known before anything is computed.
        cohort_plan(self.plan, self.contract, self._cohort("scaling"))
        warn(
            f"clients are computed one by one: {self.plan.training.algorithm} draws each client's sample and noise as production does, and nothing of that is stacked"
        )
        return PrivateRounds(self.plan, self.contract, self.population, self.seed), "one by one, with noise"

    def _cohort(self, purpose: str) -> Clients:
        return sample_cohort(purpose, self.seed, self.population.size, self.sizes.cohort)

    def _metrics(self, rows: ClientRows, model: Vector, scaling: Scaling) -> ScoreMetrics:
        """Of the held-out rows of one and the same cohort, exact whatever the plan's noise."""
        count = min(self.sizes.evaluated, self.population.size)
        clients = sample_cohort("evaluation", self.seed, self.population.size, count)
        plain = isinstance(self.plan.training, LocalTraining)
        bins = self.plan.evaluation.score_bins if plain else _FINE_BINS
        total: Counts = np.zeros((2, bins), dtype=np.int64)
        counted = partial(rows.score_counts, model=model, scaling=scaling, bins=bins)
        for counts in in_order(counted, slices(clients, SLICE_CLIENTS), self.sizes.workers):
            total += counts
        return metrics_from(total)


def _round(number: int, clients: int, seconds: float, found: ScoreMetrics | None) -> CohortRound:
    return CohortRound(
        number=number,
        clients=clients,
        seconds=seconds,
        auc=None if found is None else found.auc,
        log_loss=None if found is None else found.log_loss,
    )
