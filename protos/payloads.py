"""What each stage of a plan sums up under secure aggregation: both sides derive ring, grid, noise and length from plan, contract and roster
alone, so nothing about them is said by either."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.frame_size import MAX_FRAME_BYTES, MAX_STRUCTURE_BYTES
from protos.frames import Stage
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_panels import evaluation_cells
from protos.plan_releases import PlannedReleases, gradient_grid, moment_cells, releases_of
from protos.plan_training import GradientSums
from strategies.dp.mechanisms import NoisySum
from strategies.errors import UsageError
from strategies.ids import SiteName
from strategies.secagg.payloads import MOST_COUNT, Counts, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed

_WORD_BYTES: Final = 8
"""Of a float64, and of the widest word of a ring."""
Embedding = Moments | WeightedUpdates | Counts | NoisySum
"""How the numbers of a stage become whole ones, and their sum is read."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The sum of one question over `dimension` coordinates."""

    embedding: Embedding
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
            updates = WeightedUpdates.of(secure.update_rule, secure.update_range, weights)
            return Payload(updates, plan.dense_model(features.width).size)
        case Stage.EVALUATE:
            cells = evaluation_cells(plan, contract)
            most = max(MOST_COUNT, cells.levels)
            return Payload(Counts(len(roster), signed=cells.signed, most=most), cells.dimension)


def _noisy(plan: Plan, contract: Contract, releases: PlannedReleases, stage: Stage, cohort: int) -> Payload:
    """Sums that are released with noise, and those that the plan exempts from it."""
    release = releases.of(stage.name.lower())
    match stage:
        case Stage.PREPARE:
            levels = moment_cells(plan, contract).levels
        case Stage.TRAIN if isinstance(plan.training, GradientSums):
            levels = gradient_grid(plan, contract).levels(plan.training.expected_batch)
        case _:
            levels = evaluation_cells(plan, contract).levels
    return Payload(NoisySum(release=release, cohort=cohort, levels=levels), release.dimension)


def turning_seed(plan: Plan, number: int) -> MaskSeed:
    """The public seed of the rotation of round `number`: the same at every site."""
    return dither_seed("rotation", plan.training.component, str(plan.training.seed), str(number))


def most_reply_bytes(plan: Plan, contract: Contract) -> int:
    """The largest frame that a site has a reason to answer with: the longest vector that the plan asks for, at eight bytes a coordinate, and what
    a frame may have beside its vectors. Rings have words of at most eight bytes, so it holds under either aggregation.
    """
    features = contract.feature_spec(plan.features)
    vectors = (
        3 * len(features.numeric),
        plan.dense_model(features.width).size,
        gradient_grid(plan, contract).dimension,
        evaluation_cells(plan, contract).dimension,
    )
    return min(_WORD_BYTES * max(vectors) + MAX_STRUCTURE_BYTES, MAX_FRAME_BYTES)
