"""What each stage of a plan sums up under secure aggregation: both sides derive ring, grid, noise and length from plan, contract and roster
alone, so nothing about them is said by either."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from protos.contract import Contract
from protos.frames import Stage
from protos.plan import Plan, SecureAggregation
from protos.plan_releases import PlannedReleases, count_cells, gradient_grid, moment_cells, releases_of
from protos.plan_training import GradientSums
from strategies.dp.mechanisms import NoisySum
from strategies.errors import UsageError
from strategies.ids import SiteName
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed


@dataclass(frozen=True, slots=True)
class Payload:
    """The sum of one question over `dimension` coordinates."""

    embedding: Moments | WeightedUpdates | Counts | NoisySum
    dimension: int

    @property
    def ring(self) -> Ring:
        """The ring of the sum."""
        return self.embedding.ring


def payload_of(plan: Plan, contract: Contract, stage: Stage, roster: Collection[SiteName]) -> Payload:
    """The payload of `stage` where `roster` is asked. Raises UsageError for a plan that does not aggregate securely."""
    if not isinstance(plan.aggregation, SecureAggregation):
        raise UsageError(f"plan {plan.name} aggregates in the clear; it has no payload to mask")
    releases = releases_of(plan, contract)
    if releases is None or (stage is Stage.TRAIN and not isinstance(plan.training, GradientSums)):
        return _exact(plan, plan.aggregation, contract, stage, roster)
    return _noisy(plan, contract, releases, stage, len(roster))


def _exact(
    plan: Plan, secure: SecureAggregation, contract: Contract, stage: Stage, roster: Collection[SiteName]
) -> Payload:
    """Sums to which nobody adds noise: those of a plan without privacy, and local updates, which have theirs already."""
    features = contract.feature_spec(plan.features)
    match stage:
        case Stage.PREPARE:
            return Payload(Moments(len(roster)), 3 * len(features.numeric))
        case Stage.TRAIN:
            weights = {site: plan.weight_of(site) for site in roster}
            return Payload(
                WeightedUpdates(secure.update_range, weights), plan.dense_model(features.width).size
            )
        case Stage.EVALUATE:
            return Payload(Counts(len(roster)), count_cells(plan).dimension)


def _noisy(plan: Plan, contract: Contract, releases: PlannedReleases, stage: Stage, cohort: int) -> Payload:
    """Sums that are released with noise, and those that the plan exempts from it."""
    release = releases.of(stage.name.lower())
    match stage:
        case Stage.PREPARE:
            levels = moment_cells(plan, contract).levels
        case Stage.TRAIN if isinstance(plan.training, GradientSums):
            levels = gradient_grid(plan, contract).levels(plan.training.expected_batch)
        case _:
            levels = count_cells(plan).levels
    return Payload(NoisySum(release=release, cohort=cohort, levels=levels), release.dimension)


def turning_seed(plan: Plan, number: int) -> MaskSeed:
    """The public seed of the rotation of round `number`: the same at every site."""
    return dither_seed("rotation", plan.training.component, str(plan.training.seed), str(number))
