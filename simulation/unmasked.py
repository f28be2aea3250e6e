"""A plan's sums in one process: the sites' own inputs and the centre's own reading of their sum, without masks, frames or journals.

For studies that take many runs: what is summed up, with which sample and which noise, is the production code's (`client.secure.inputs`,
`coordinator.rounds.opened`); masking would not change a bit of the sums. Nothing is charged to anybody's account, because nothing is released
to anybody: `charges` says what would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from client.accounts.book import ChargeReceipt
from client.data import Table
from client.secure.inputs import Inputs
from client.training import session_for
from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.question import Pooled, Question, RunDocuments
from coordinator.rounds.reading import metrics_of, scaling_of
from protos.contract import Contract
from protos.frames import Stage, Statement
from protos.payloads import payload_of
from protos.plan import Plan
from strategies.analytics.histograms import ScoreMetrics
from strategies.dp.events import Release
from strategies.encoding import Vector, sha256_hex
from strategies.features import Scaling
from strategies.ids import RunId, SiteName
from strategies.secagg.payloads import Integers
from strategies.secagg.rings import Ring
from strategies.secagg.server import Opened
from strategies.secagg.shamir import Entropy
from strategies.server_optimizers import OptimizerState

_RUN = RunId("run-0000000000000000")
_NOTHING = sha256_hex(b"")


class SiteInputs(Protocol):
    """What a site adds to sums, as `Inputs` does."""

    def compute(
        self, said: Statement, model: Vector | None, scaling: Scaling | None
    ) -> tuple[Ring, Integers]:
        """See `Inputs.compute`."""
        ...


@dataclass
class UnmaskedRun:
    """One run of `plan` over the rows of each site; `entropy` gives samples and noise."""

    plan: Plan
    contract: Contract
    tables: Mapping[SiteName, Table]
    entropy: Entropy
    inputs_of: Callable[[Inputs], SiteInputs] = lambda honest: honest
    """What a site really sends; studies of sites that lie put something else in its place."""
    charges: Counter[Release] = field(default_factory=Counter)
    """What one site's account would be charged."""
    _inputs: dict[SiteName, SiteInputs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = min(self.tables)
        for site, table in sorted(self.tables.items()):
            session = session_for(self.plan, self.contract, table, site=site)

            def charge(release: Release, _: Statement, *, counts: bool = site == first) -> ChargeReceipt:
                self.charges[release] += counts
                return ChargeReceipt(release, 0)

            honest = Inputs(site, self.plan, self.contract, session, charge, self.entropy)
            self._inputs[site] = self.inputs_of(honest)

    @property
    def documents(self) -> RunDocuments:
        """What the run would be launched with."""
        return RunDocuments(run=_RUN, plan=self.plan, contract=self.contract, members=b"{}")

    def train(self) -> tuple[Vector, Scaling]:
        """Prepare and train for all rounds: the last model, (d,) float64, and the scaling."""
        scaling = self.prepare()
        model, state = self.initial()
        for number in range(1, self.plan.training.rounds + 1):
            model, state = self.round(number, model, scaling, state)
        return model, scaling

    def initial(self) -> tuple[Vector, OptimizerState]:
        """The first model and optimiser state."""
        shape = self.plan.dense_model(self.contract.feature_spec(self.plan.features).width)
        return shape.initial(self.plan.training.seed), self.plan.server_optimizer().initial(shape.size)

    def prepare(self) -> Scaling:
        """The scaling."""
        return scaling_of(self.documents, self.pooled(Stage.PREPARE, 0, None, None))

    def round(
        self, number: int, model: Vector, scaling: Scaling, state: OptimizerState
    ) -> tuple[Vector, OptimizerState]:
        """The model and state after round `number`."""
        update = self.pooled(Stage.TRAIN, number, model, scaling).values.astype(np.float64)
        return self.plan.server_optimizer().step(model, update, state)

    def evaluate(self, model: Vector, scaling: Scaling) -> ScoreMetrics:
        """The metrics of `model` on held-out rows, as the plan releases them."""
        return metrics_of(
            self.documents, self.pooled(Stage.EVALUATE, self.plan.training.rounds, model, scaling)
        )

    def pooled(self, stage: Stage, number: int, model: Vector | None, scaling: Scaling | None) -> Pooled:
        """The opened sum of one stage."""
        roster = tuple(sorted(self.tables))
        said = Statement(
            plan_digest=self.plan.digest,
            contract_digest=self.contract.digest,
            members_digest=_NOTHING,
            run=_RUN,
            stage=stage,
            round=number,
            attempt=1,
            roster=roster,
            component=self.plan.training.component,
        )
        payload = payload_of(self.plan, self.contract, stage, roster)
        total = payload.ring.zeros(payload.dimension)
        for site in roster:
            ring, integers = self._inputs[site].compute(said, model, scaling)
            total += ring.encode(integers)
        question = Question(
            stage=stage, number=number, attempt=1, roster=roster, model=model, scaling=scaling
        )
        opened = Opened(survivors=roster, total=payload.ring.decode(payload.ring.reduce(total)), doubted=())
        read = OpenedSums(self.documents, self.entropy)
        return read.pooled(question, payload, opened, read.drawn(payload))
