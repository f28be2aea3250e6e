"""The engines of one machine: stacked training, and the site's own training one client after the other where stacking does not pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from client.data.table import Part, Table
from client.training import TrainingSession
from client.training.session import batch_seed, descent_of
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_training import LocalTraining
from simulation.cohorts.engine import SLICE_CLIENTS, Clients, Threads, TrainRequest, added, client_name
from simulation.cohorts.population import Gathered, Population
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.stacked import descend_stacked
from strategies.aggregation import WeightedSum
from strategies.errors import UsageError
from strategies.models import DenseModel

SLICE_NUMBERS: Final = 1 << 23
"""How many float32 numbers (rows, activations, weights) a slice may take: 32 MiB, in each thread."""
FEWEST_STACKED: Final = 4
"""Stacks of fewer clients save too little to leave the sites' own code for."""
MOST_STACKED_PARAMETERS: Final = 1 << 19
"""Of larger models one client's products fill a core by themselves: at a million parameters stacking was measured to save a fifth."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a slice's memory depends on: the model, the rows of a client, and the most of a batch."""

    model: DenseModel
    rows: int
    batch: int

    @property
    def max_slice_clients(self) -> int:
        """How many clients fit into a slice, at most `SLICE_CLIENTS`; may be 0."""
        activations = min(self.batch, self.rows) * (self.model.inputs + 2 * sum(self.model.hidden) + 4)
        each = self.rows * self.model.inputs + activations + 3 * self.model.size
        return min(SLICE_CLIENTS, SLICE_NUMBERS // each)

    @property
    def why_not_stacked(self) -> str | None:
        """A clause that says why stacking does not pay; None where it does."""
        if self.model.size > MOST_STACKED_PARAMETERS:
            return f"its model has {self.model.size} parameters, and beyond {MOST_STACKED_PARAMETERS} stacking clients does not pay"
        if self.max_slice_clients < FEWEST_STACKED:
            return f"clients of {self.rows} rows in batches of {self.batch} are too large to be stacked in memory"
        return None


def engine_of(rows: ClientRows, *, workers: int, warn: Callable[[str], None]) -> Threads:
    """The engine for a plan without privacy: stacked where that pays, and otherwise one by one with one warning that says why."""
    shape = shape_of(rows)
    reason = shape.why_not_stacked
    if reason is None:
        return Threads(StackedSlices(rows), workers, "stacked", shape.max_slice_clients)
    warn(f"clients are computed one by one: {reason}")
    return Threads(OneByOne(rows.plan, rows.contract, rows.population), workers, "one by one")


def shape_of(rows: ClientRows) -> Shape:
    """What slices of this plan and population take. Raises UsageError for a private plan."""
    rule = local_training(rows.plan)
    return Shape(rows.plan.dense_model(rows.spec.width), rows.population.rows, rule.batch_size)


def local_training(plan: Plan) -> LocalTraining:
    """The plan's training. Raises UsageError for a private plan's, whose sums are not those of updates without noise."""
    if not isinstance(plan.training, LocalTraining):
        raise UsageError(f"{plan.training.algorithm} has no sums of updates without noise")
    return plan.training


@dataclass(frozen=True, slots=True)
class StackedSlices:
    """Slices as `descend_stacked` trains them."""

    rows: ClientRows

    def __call__(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """See `SliceSum`."""
        plan = self.rows.plan
        seeds = [batch_seed(plan, client_name(each), asked.number) for each in clients.tolist()]
        model, rule = plan.dense_model(self.rows.spec.width), descent_of(local_training(plan))
        rows = self.rows.training(clients, asked.scaling)
        return added(clients, descend_stacked(rule, model, asked.model, rows, seeds), bound_of(plan))


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Slices as each client's own training session computes them."""

    plan: Plan
    contract: Contract
    population: Population

    def __call__(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """See `SliceSum`."""
        gathered = self.population.gathered(clients)
        updates = (
            self._session(gathered, place, number).train(asked.model, asked.scaling, asked.number)
            for place, number in enumerate(clients.tolist())
        )
        return added(clients, updates, bound_of(self.plan))

    def _session(self, gathered: Gathered, place: int, number: int) -> TrainingSession:
        table = table_of(gathered.of(place))
        return TrainingSession(self.plan, self.contract, table, site=client_name(number))


def table_of(part: Part) -> Table:
    """The rows of one client as a site has them."""
    return Table(
        columns=part.columns,
        target=part.target,
        keys=part.keys,
        customers=part.customers,
        protected=part.protected_at(slice(None), list(part.table.protected)),
    )


def bound_of(plan: Plan) -> float | None:
    """What a coordinate of an update is clipped to; None where the plan aggregates in the clear."""
    chosen = plan.aggregation
    return chosen.update_range if isinstance(chosen, SecureAggregation) else None
