"""Rounds of a private plan over a cohort: production's own inputs, client by client, noise included, and the centre's own reading of their sum.

1. Every client of a cohort is a site to which the plan's secure aggregation and noise apply: the invitation is replaced by the cohort, and its minimum by what
   secure aggregation needs for so many. How many there can be is therefore the plan's business, `MAX_SITES` at most.
2. Samples and noise follow from the simulation's seed, so its results have no privacy. Nothing is charged to anybody's account, and no epsilon is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_fit import check_plan
from protos.plan_sites import MAX_SITES
from simulation.cohorts.engine import Clients, client_name
from simulation.cohorts.engines import table_of
from simulation.cohorts.population import Population
from simulation.invitation import with_sites
from simulation.unmasked import UnmaskedRun
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.server_optimizers import OptimizerState


@dataclass(frozen=True, slots=True)
class PrivateRounds:
    """Rounds of `plan` over cohorts of `population`."""

    plan: Plan
    contract: Contract
    population: Population
    seed: int

    def scaling(self, clients: Clients) -> Scaling:
        """What the plan's noisy moments of `clients` give."""
        return self._run("prepare", clients).prepare()

    def step(
        self, number: int, model: Vector, scaling: Scaling, state: OptimizerState, clients: Clients
    ) -> tuple[Vector, OptimizerState]:
        """The model and optimiser state after round `number`."""
        return self._run(f"round {number}", clients).round(number, model, scaling, state)

    def _run(self, purpose: str, clients: Clients) -> UnmaskedRun:
        gathered = self.population.gathered(clients)
        tables = {
            client_name(each): table_of(gathered.of(place)) for place, each in enumerate(clients.tolist())
        }
        entropy = Random(f"cohort noise {self.seed} {purpose}").randbytes  # noqa: S311 (a simulation's)
        return UnmaskedRun(cohort_plan(self.plan, self.contract, clients), self.contract, tables, entropy)


def cohort_plan(plan: Plan, contract: Contract, clients: Clients) -> Plan:
    """The plan with `clients` as the sites that it invites. Raises `CovenantError` where it cannot be run with so many."""
    count = len(clients)
    if not isinstance(plan.aggregation, SecureAggregation):
        raise UsageError(
            f"plan {plan.name} is private and does not aggregate securely; it cannot be simulated"
        )
    if not plan.sites.minimum <= count <= MAX_SITES:
        raise UsageError(
            f"a cohort of {count} clients cannot run plan {plan.name} in privacy mode {plan.privacy.mode}: its noise is shared among the sites of one secure sum,"
            f" of which it takes {plan.sites.minimum} (its `sites.minimum`) to {MAX_SITES}; use a cohort of that many"
        )
    try:
        changed = with_sites(plan, [client_name(each) for each in clients.tolist()], plan.sites.minimum)
    except UsageError as error:
        raise UsageError(f"{error}. Use a smaller cohort") from error
    try:
        check_plan(changed, contract)
    except UsageError as error:
        raise UsageError(
            f"with a cohort of {count} clients, of whom {changed.sites.minimum} must answer, each adds a smaller share of the noise, and shares below a step of"
            f" the sum protect less: {error}. Use a smaller cohort, or a plan with more noise"
        ) from error
    return changed
