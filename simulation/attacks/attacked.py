"""A run of a plan in which some sites are malicious: the production's training, embedding, opening, rules and gate, and the attackers' own inputs replaced.

1. Under secure aggregation a malicious client sends ring elements, which nothing clips: masked, they look like any others. It knows the ring, and leaves
   a tenth of it to honest inputs, which in practice are much shorter than `update_range`.
2. Under plain aggregation it sends a vector.
3. Malicious clients are honest about moments, on the rows that they train on, and no evaluation is looked at: models are scored outside the protocol. What lies
   there do no gate on updates sees (docs/ml-team/robustness.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol, assert_never

import numpy as np

from client.data import Table
from client.secure.inputs import Inputs
from client.training import TrainingSession
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.reading import pooled_moments, scaling_of
from protos.contract import Contract
from protos.frames import Stage, Statement
from protos.payloads import Embedding, payload_of
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from simulation.attacks.behaviours import MaliciousClient
from simulation.unmasked import SiteInputs, UnmaskedRun
from strategies.aggregation import Contribution
from strategies.dp.mechanisms import NoisySum
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.features import Scaling
from strategies.ids import RunId, SiteName
from strategies.secagg.payloads import Counts, Integers, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.shamir import Entropy
from strategies.update_gate import GateTripped, l2_norm

_ROOM: Final = 0.9
"""Which share of the ring the attackers fill together; the rest is for honest inputs."""
_RUN: Final = RunId("run-0000000000000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All sites' rows, and which sites are `malicious`, and how. `entropy` gives samples and noise."""

    plan: Plan
    contract: Contract
    tables: Mapping[SiteName, Table]
    malicious: Mapping[SiteName, MaliciousClient]
    entropy: Entropy

    @property
    def trained_on(self) -> dict[SiteName, Table]:
        """The rows that each site trains on."""
        return {
            site: self.malicious[site].rows(table) if site in self.malicious else table
            for site, table in self.tables.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run: its last committed `model`, and the norm of each opened mean update, the one above the gate included.

    `ended` is the round that the run ended in, None if it completed; `gated` whether by the plan's gate.
    """

    model: Vector
    scaling: Scaling
    norms: tuple[float, ...]
    ended: int | None
    gated: bool
    seconds: float


class _Rounds(Protocol):
    """Where mean updates come from."""

    def prepare(self) -> Scaling: ...

    def mean_update(self, number: int, model: Vector, scaling: Scaling, last: Vector | None) -> Vector: ...


def attacked_run(scenario: Scenario) -> Outcome:
    """One run, to its end or to the round that ends it. `seconds` are of the processor, for all sites and the centre."""
    began, plan = time.process_time(), scenario.plan
    secure = isinstance(plan.aggregation, SecureAggregation)
    rounds: _Rounds = _SecureRounds(scenario) if secure else _PlainRounds(scenario)
    scaling = rounds.prepare()
    shape = plan.dense_model(scenario.contract.feature_spec(plan.features).width)
    model, state = shape.initial(plan.training.seed), plan.server_optimizer().initial(shape.size)
    last: Vector | None = None
    norms: list[float] = []
    ended, gated = None, False
    for number in range(1, plan.training.rounds + 1):
        try:
            update = rounds.mean_update(number, model, scaling, last)
            norms.append(l2_norm(update))
            plan.require_gate(update, number)
            model, state = plan.server_optimizer().step(model, update, state)
        except Refused as refused:
            ended, gated = number, isinstance(refused, GateTripped)
            break
        last = update
    seconds = time.process_time() - began
    return Outcome(
        model=model, scaling=scaling, norms=tuple(norms), ended=ended, gated=gated, seconds=seconds
    )


@dataclass
class _PlainRounds:
    """Plain aggregation: each site's vector, and the plan's rule."""

    scenario: Scenario

    @cached_property
    def _sessions(self) -> dict[SiteName, TrainingSession]:
        plan, contract = self.scenario.plan, self.scenario.contract
        return {
            site: TrainingSession(plan, contract, table, site=site)
            for site, table in sorted(self.scenario.trained_on.items())
        }

    def prepare(self) -> Scaling:
        """The scaling of everybody's moments."""
        sent = {site: each.moments() for site, each in self._sessions.items()}
        documents = RunDocuments(
            run=_RUN, plan=self.scenario.plan, contract=self.scenario.contract, members=b"{}"
        )
        return scaling_of(documents, pooled_moments(self.scenario.plan, sent))

    def mean_update(self, number: int, model: Vector, scaling: Scaling, last: Vector | None) -> Vector:
        """What the plan's rule makes of what sites send."""
        plan = self.scenario.plan
        sent = []
        for site, session in self._sessions.items():
            client = self.scenario.malicious.get(site)
            if client is not None and client.echoes:
                vector = np.zeros_like(model) if last is None else last
            else:
                vector = session.train(model, scaling, number)
                vector = vector if client is None else vector * client.factor(l2_norm(vector))
            sent.append(Contribution(site, vector, plan.weight_of(site)))
        return plan.aggregation.update_rule.aggregate(sent)


@dataclass
class _SecureRounds:
    """Secure aggregation, without the masks: they would change no bit of the sums."""

    scenario: Scenario
    _run: UnmaskedRun = field(init=False)
    _last: Vector | None = None

    def __post_init__(self) -> None:
        scenario = self.scenario
        self._run = UnmaskedRun(
            scenario.plan, scenario.contract, scenario.trained_on, scenario.entropy, self._inputs
        )

    def _inputs(self, honest: Inputs) -> SiteInputs:
        client = self.scenario.malicious.get(honest.site)
        return honest if client is None else UnsafeMaliciousInputs(honest, client, lambda: self._last)

    def prepare(self) -> Scaling:
        """The scaling of everybody's moments."""
        return self._run.prepare()

    def mean_update(self, number: int, model: Vector, scaling: Scaling, last: Vector | None) -> Vector:
        """The opened mean update."""
        self._last = last
        return self._run.pooled(Stage.TRAIN, number, model, scaling).values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class UnsafeMaliciousInputs:
    """In the place of a site's `Inputs`: what a malicious client masks. `last` gives the last mean update."""

    honest: Inputs
    client: MaliciousClient
    last: Callable[[], Vector | None]

    def compute(
        self, said: Statement, model: Vector | None, scaling: Scaling | None
    ) -> tuple[Ring, Integers]:
        """See `Inputs.compute`: honest but for training, whose integers are whatever the client likes."""
        if said.stage is not Stage.TRAIN:
            return self.honest.compute(said, model, scaling)
        embedding = payload_of(self.honest.plan, self.honest.contract, said.stage, said.roster).embedding
        if self.client.echoes:
            return embedding.ring, self._echo(embedding, said)
        ring, integers = self.honest.compute(said, model, scaling)
        limit = _ROOM * (ring.modulus // 2) / self.client.attackers
        wanted = integers * self.client.factor(self._norm(embedding, integers))
        return ring, np.rint(np.clip(wanted, -limit, limit)).astype(np.int64)

    def _echo(self, embedding: Embedding, said: Statement) -> Integers:
        plan, contract = self.honest.plan, self.honest.contract
        last = self.last()
        if last is None or not isinstance(embedding, WeightedUpdates):
            return np.zeros(payload_of(plan, contract, said.stage, said.roster).dimension, dtype=np.int64)
        return embedding.embed(self.honest.site, last, dither_seed("echo", str(said.round)))

    def _norm(self, embedding: Embedding, integers: Integers) -> float:
        """Of what the site would have added to a mean of its own. Raises UsageError for a sum that is not of training."""
        match embedding:
            case WeightedUpdates():  # of dp-sgd too: its noise is in the update
                return l2_norm(embedding.mean(integers, (self.honest.site,)))
            case NoisySum():
                return l2_norm(integers.astype(np.float64)) * _step(self.honest.plan, self.honest.contract)
            case Moments() | Counts():
                raise UsageError(f"{type(embedding).__name__} are no sum that training asks for")
            case unreachable:
                assert_never(unreachable)


def _step(plan: Plan, contract: Contract) -> float:
    """What one step of the grid of a gradient sum is in one site's mean update. Raises UsageError for another training."""
    rule = plan.training
    if not isinstance(rule, GradientSums):
        raise UsageError(f"algorithm {rule.algorithm} has no gradient sums")
    return rule.clip / (gradient_grid(plan, contract).steps * rule.expected_batch)
