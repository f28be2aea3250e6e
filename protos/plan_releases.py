"""What a plan will release from one site's rows, stage by stage, before anybody is asked: what ledgers reserve and sites charge.

1. It follows from plan and contract alone, so the centre and every site come to the same releases, to the bit.
2. Each attempt that a site sends masked bytes for is one release to that site, opened or not. `retries` of them are in the forecast.
3. The noise that counts is the one that honest survivors make certain: of the fewest that a sum is opened for, less those who may collude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_panels import evaluation_cells
from protos.plan_privacy import Limit, Privacy
from protos.plan_training import GradientSums, PrivateSteps
from strategies.dp.budget import cost_of, largest_that
from strategies.dp.curves import ORDERS
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.dp.events import Mechanism, Part, Partition, Release
from strategies.dp.filters import Ceiling, delta_for_renyi, epsilon_from_renyi
from strategies.dp.mechanisms import LOCAL_DEVIATION_STEPS, GradientGrid, MomentCells
from strategies.dp.noise import total_variation
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.features import NumericFeature
from strategies.ids import Digest

OTHER_STAGE_RETRIES: Final = 2
"""Preparation and evaluation are tried three times at most."""
PREPARE, TRAIN, EVALUATE = "prepare", "train", "evaluate"
_MECHANISMS: Final = {
    "distributed": Mechanism.DISTRIBUTED,
    "central": Mechanism.CENTRAL,
    "local": Mechanism.LOCAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReleases:
    """The releases of a private plan: one of each stage, and how often each happens at most."""

    prepare: Release
    train: Release
    evaluate: Release
    rounds: int
    retries: int

    def of(self, stage: str) -> Release:
        """The release of one attempt at `prepare`, `train` or `evaluate`."""
        return {PREPARE: self.prepare, TRAIN: self.train, EVALUATE: self.evaluate}[stage]

    def times(self, stage: str, *, rounds: int | None = None) -> int:
        """How often a stage is released at most, aborted attempts included."""
        if stage == TRAIN:
            return (self.rounds if rounds is None else rounds) + self.retries
        return 1 + min(self.retries, OTHER_STAGE_RETRIES)

    def planned(self, *, rounds: int | None = None) -> Mapping[Release, int]:
        """All releases, for the plan's rounds or for `rounds`."""
        return {self.of(stage): self.times(stage, rounds=rounds) for stage in (PREPARE, TRAIN, EVALUATE)}

    @property
    def exempt(self) -> tuple[Release, ...]:
        """What is released without noise, because the plan says so by name."""
        return tuple(each for each in (self.prepare, self.evaluate) if each.mechanism is Mechanism.NONE)


def moment_cells(plan: Plan, contract: Contract) -> MomentCells:
    """The moments that private preparation sums up."""
    features = contract.feature_spec(plan.features).numeric
    return MomentCells(tuple(_may_be_missing(feature) for feature in features))


def _may_be_missing(feature: NumericFeature) -> bool:
    return feature.missing == "indicator"


def gradient_grid(plan: Plan, contract: Contract) -> GradientGrid:
    """The grid of a plan's gradient sums."""
    rule = plan.training
    rotated = isinstance(rule, GradientSums) and rule.rotation == "hadamard"
    return GradientGrid(parameters=_parameters(plan, contract), rotated=rotated)


def _parameters(plan: Plan, contract: Contract) -> int:
    return plan.dense_model(contract.feature_spec(plan.features).width).size


def releases_of(plan: Plan, contract: Contract) -> PlannedReleases | None:
    """What `plan` releases of rows under `contract`; None if it has no privacy, and so no account to charge."""
    privacy = plan.privacy
    if not isinstance(privacy, Privacy):
        return None
    noise, unit = privacy.noise, privacy.unit.unit
    maker = _Maker(plan, privacy, unit, contract.digest)
    moments, counts = moment_cells(plan, contract), evaluation_cells(plan, contract)
    return PlannedReleases(
        prepare=maker.sum("scaling moments", noise.preparation, moments.sensitivity(unit.max_rows), moments.dimension),
        train=maker.training(contract),
        evaluate=maker.sum(
            _counted(counts),
            noise.evaluation,
            counts.sensitivity(unit.max_rows),
            counts.dimension,
            part=Part.EVALUATION,
        ),
        rounds=plan.training.rounds,
        retries=privacy.retries,
    )  # fmt: skip


def _counted(cells: EvaluationCells) -> str:
    """What an evaluation counts, in words."""
    words = "evaluation counts" if cells.models == 1 else "evaluation counts of model and champion"
    panels = {"groups": cells.groups, "attributions": cells.attributed, "profile": cells.profile}
    asked = [name for name, there in panels.items() if there]
    return f"{words} with {' and '.join(asked)}" if asked else words


def _rounded_up(bound: float) -> float:
    """The next power of two: a bound that does not differ between machines whose exponentials differ in the last bit."""
    return math.ldexp(1.0, math.frexp(bound)[1])


@dataclass(frozen=True, slots=True)
class _Maker:
    plan: Plan
    privacy: Privacy
    unit: PrivacyUnit
    contract: Digest

    @property
    def partition(self) -> Partition | None:
        """A site is not divided by its records' keys: all of it is in both parts."""
        holdout = self.plan.evaluation.holdout
        if self.unit.kind is UnitKind.SITE:
            return None
        return Partition(contract=self.contract, by=holdout.by, salt=holdout.salt, share=holdout.share)

    def sum(
        self,
        what: str,
        multiplier: float | None,
        sensitivity: float,
        dimension: int,
        *,
        rate: float = 1.0,
        part: Part = Part.TRAINING,
    ) -> Release:
        """One opened sum with the noise that the plan's mode gives it; without, where it is exempt."""
        mechanism = Mechanism.NONE if multiplier is None else _MECHANISMS[self.privacy.mode]
        shares = self.plan.honest_survivors if mechanism is Mechanism.DISTRIBUTED else 1
        deviation = 0.0 if multiplier is None else multiplier * sensitivity
        variance = deviation * deviation
        off = (
            0.0 if multiplier is None else shares * self._off(what, multiplier, variance / shares, dimension)
        )
        release = Release(
            what=what,
            mechanism=mechanism,
            unit=self.unit,
            sampling_rate=rate,
            steps=1,
            sensitivity=sensitivity,
            variance=variance,
            shares=shares,
            dimension=dimension,
            total_variation=off,
            part=part,
            partition=self.partition,
        )
        return release.for_person_at(self.unit.max_sites)

    def _off(self, what: str, multiplier: float, variance: float, dimension: int) -> float:
        """The distance of one noise from its law. Raises UsageError for noise that is not drawn, which is said before a site is asked for it."""
        try:
            return _rounded_up(total_variation(variance, dimension))
        except UsageError as error:
            raise UsageError(
                f"the noise of {what}, multiplier {multiplier:g} in privacy.noise, is one that a site or the centre cannot draw: {error}"
            ) from error

    def training(self, contract: Contract) -> Release:
        """What one round releases."""
        rule, multiplier = self.plan.training, self.privacy.noise.training
        match rule:
            case GradientSums():
                grid = gradient_grid(self.plan, contract)
                return self.sum(
                    "gradient sum", multiplier, grid.sensitivity, grid.dimension, rate=rule.sampling_rate
                )
            case PrivateSteps():
                release = Release(
                    what="local training",
                    mechanism=Mechanism.GAUSSIAN,
                    unit=self.unit,
                    sampling_rate=rule.sampling_rate,
                    steps=rule.local_steps,
                    sensitivity=1.0,
                    variance=multiplier * multiplier,
                    shares=1,
                    dimension=_parameters(self.plan, contract),
                    total_variation=_rounded_up(
                        total_variation(LOCAL_DEVIATION_STEPS**2, _parameters(self.plan, contract))
                    ),
                    partition=self.partition,
                )
                return release.for_person_at(self.unit.max_sites)
        raise UsageError(f"algorithm {rule.algorithm} releases updates without noise; it has no account")


def best_order(planned: Mapping[Release, int], limit: Limit) -> int:
    """The Rényi order at which `planned` costs least: to be fixed before the first release, by who sets a ceiling for such plans."""
    share = delta_for_renyi(limit.delta)
    return min(ORDERS, key=lambda each: epsilon_from_renyi(cost_of(planned, each).renyi, each, share))


def forecast(planned: PlannedReleases, privacy: Privacy, *, rounds: int | None = None) -> Guarantee:
    """What the whole plan costs one unit at most, at the plan's delta, if nothing else were ever released.

    At the best Rényi order for this plan, which is fixed before the first release; a ceiling at that order admits the same.
    """
    limit, order = privacy.limit, best_order(planned.planned(), privacy.limit)
    cost = cost_of(planned.planned(rounds=rounds), order)
    epsilon = epsilon_from_renyi(cost.renyi, order, delta_for_renyi(limit.delta))
    if math.isinf(epsilon):
        return Guarantee(epsilon=epsilon, delta=limit.delta, unit=privacy.unit.unit)
    # A ceiling that leaves something to spend, also where the plan's own limit leaves nothing at this order.
    ceiling = Ceiling.fixed(
        epsilon=max(limit.epsilon, epsilon), delta=limit.delta, unit=privacy.unit.unit, order=order
    )
    return ceiling.guarantee(cost)


def fitting_ceiling(planned: PlannedReleases, privacy: Privacy) -> Ceiling:
    """The plan's limit as a ceiling, at the order that suits the plan."""
    limit = privacy.limit
    return Ceiling.fixed(
        epsilon=limit.epsilon,
        delta=limit.delta,
        unit=privacy.unit.unit,
        order=best_order(planned.planned(), limit),
    )


def require_limit(plan: Plan, contract: Contract) -> None:
    """Raise UsageError if `plan` costs more than the limit that it states itself."""
    planned, privacy = releases_of(plan, contract), plan.privacy
    if planned is None or not isinstance(privacy, Privacy) or _is_within_limit(planned, privacy):
        return
    cost, fits = forecast(planned, privacy), _fitting_rounds(planned, privacy)
    limit = replace(cost, epsilon=privacy.limit.epsilon)
    raise UsageError(
        f"plan {plan.name}: {', '.join(sorted({each.what for each in planned.planned()}))} would take the account to {cost.words};"
        f" its ceiling is {limit.words}: plan fewer rounds, more noise or a lower sampling rate. Of {planned.rounds} rounds, "
        + (f"{fits} would fit with {planned.retries} retries" if fits > 0 else "not one would fit")
        + " within privacy.limit"
    )


def _fitting_rounds(planned: PlannedReleases, privacy: Privacy) -> int:
    """The most rounds, below those planned, that are within the limit; 0 where not one is. Each number is judged at the order that suits it."""
    return largest_that(
        lambda rounds: _is_within_limit(replace(planned, rounds=rounds), privacy), planned.rounds - 1
    )


def _is_within_limit(planned: PlannedReleases, privacy: Privacy) -> bool:
    try:
        ceiling = fitting_ceiling(planned, privacy)
    except UsageError:  # the limit leaves nothing to spend
        return False
    return ceiling.admits(cost_of(planned.planned(), ceiling.order))


def guarantee_after(plan: Plan, contract: Contract, rounds: int, *, evaluated: bool) -> Guarantee | None:
    """What preparation, `rounds` rounds and, where `evaluated`, the evaluation cost one unit, aborted attempts left out; None without privacy.

    At the Rényi order that suits the whole plan, so that guarantees after one round and after the next are of one account.
    """
    releases, privacy = releases_of(plan, contract), plan.privacy
    if releases is None or not isinstance(privacy, Privacy):
        return None
    ceiling = fitting_ceiling(releases, privacy)
    charges = {releases.prepare: 1, releases.train: rounds}
    if evaluated:
        charges[releases.evaluate] = 1
    return ceiling.guarantee(cost_of(charges, ceiling.order))
